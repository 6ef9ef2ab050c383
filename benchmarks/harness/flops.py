"""Floating-point operations of training, per token: what utilisation is computed from.

    6 · N + attention          2 for each multiplication and addition, forward once and backward twice

N are the weights that a token is multiplied with: of the blocks, and of the head, also where it shares the
embedding's; looking a vector up multiplies nothing, and norms and biases are left out. Attention are the
products of queries with keys and of weights with values, 12 · depth · width · window (Chowdhery et al., 2022,
appendix B), of which a causal model needs half, as of two places only the later sees the other. What is
computed twice, to save memory, counts once.
"""

__all__ = ["FORMULA", "decoder"]

FORMULA = "6 × (weights that multiply, head included) + 6 × depth × width × window; recomputation not counted"
"""In words, for results."""


def decoder(*, width: int, depth: int, feed: int, vocabulary: int, window: int) -> int:
    """Of one token of a causal transformer.

    Args:
        width: of the residual stream; queries, keys, values and the way out are width × width each.
        feed: weights of one feed-forward part: 8 · width² for GPT-2's, 3 · width · inner for SwiGLU.
        vocabulary: rows of the head.
        window: places that can be seen.
    """
    multiplied = depth * (4 * width * width + feed) + vocabulary * width
    return 6 * multiplied + 6 * depth * width * window
