"""The one formula: H(p, q) = −Σ p log q, per asked place, in float32, together with the projection that makes q.

Sums, never means: the caller divides once per step. What p is (one-hot, smoothed, a teacher's) is the ask's business.
"""

from telos.config import Settings
from pydantic import Field

__all__ = ["LossSettings"]


class LossSettings(Settings):
    """Modifiers of the loss in training; evaluation is always the plain cross-entropy."""

    smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of p spread evenly over the vocabulary (Szegedy et al., 2016)."""
    z: float = Field(0.0, ge=0)
    """Weight of (log Σ exp logits)², which keeps logits near zero (Chowdhery et al., 2022); logged apart, as `term.z`."""
    soft_cap: float = Field(0.0, ge=0)
    """Logits become cap · tanh(logits / cap), in training and evaluation alike; 0 for none (Gemma Team, 2024)."""
