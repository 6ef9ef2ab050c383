"""Mixture of experts: many feed-forwards, of which each token goes through a few (Shazeer et al., 2017).

    s = sigmoid(router · x)                     one number per expert, in float32
    chosen: the `active` largest of s + b       b says who is chosen and not how much it counts
    y = Σ over the chosen e   sₑ / Σ s · feedₑ(x)

Left alone, few experts get all tokens. The usual cure, a second loss, pulls at what the model learns; and it
is no sum over tokens, so that it depends on how a step is cut into micro-batches. Here b is moved instead,
after each optimizer step: up by `rate` for an expert that had fewer tokens than the mean, else down (Wang et
al., 2024; DeepSeek-V3, 2024). It takes counts alone, which add up over micro-batches; padding is not counted.

No token is dropped: tokens are sorted by expert, and each expert is one product over those that it got.
"""

from typing import Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from telos.config import Settings
from telos.models._layers import Block, Sight

__all__ = ["ExpertBlock", "Experts", "Routed", "balanced"]


class Experts(Settings):
    """Several feed-forwards in the place of one."""

    count: int = Field(0, ge=0)
    """So many, each of the feed-forward's width; 0 for one that all tokens go through."""
    active: int = Field(2, ge=1)
    """Experts that each token goes through."""
    rate: float = Field(1e-3, ge=0)
    """How far the bias of each moves after a step, towards equal use; 0 leaves it where it is."""

    @model_validator(mode="after")
    def _enough(self) -> "Experts":
        if not self.count and (self.active != 2 or self.rate != 1e-3):
            raise ValueError("active and rate do nothing without a count: there are no experts")
        if self.count and self.active >= self.count:
            raise ValueError(
                f"active must be less than count: {self.active} of {self.count} leaves no choice"
            )
        return self


class Choice(NamedTuple):
    """Which experts each token goes through, and how much each counts; both (tokens, active)."""

    experts: Tensor
    shares: Tensor


class Router(nn.Linear):
    """Its weight is read in float32 by `Routed.choose`, and the layer itself never called: what is put on
    linear layers would have no effect on it."""


class Routed(nn.Module):
    """Experts with one inner width, and the router that chooses among them.

    `inward` (count, inner or 2 · inner, width) and `outward` (count, width, inner) are what the weights of
    `SwiGlu` and `Gelu` are, one under the other; there are no biases.
    """

    def __init__(self, width: int, inner: int, kind: Literal["swiglu", "gelu"], experts: Experts) -> None:
        super().__init__()
        self.experts, self.kind = experts, kind
        self.router = Router(width, experts.count, bias=False)
        self.inward = nn.Parameter(torch.empty(experts.count, (2 if kind == "swiglu" else 1) * inner, width))
        self.outward = nn.Parameter(torch.empty(experts.count, width, inner))
        self.bias: Tensor
        self.counts: Tensor
        self.register_buffer("bias", torch.zeros(experts.count))
        self.register_buffer("counts", torch.zeros(experts.count), persistent=False)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """`x` (B, T, width) and which of its places hold tokens (B, T); the shape of `x`."""
        tokens = x.reshape(-1, x.shape[-1])
        choice = self.choose(tokens)
        if self.training:
            taken = choice.experts[real.reshape(-1)].flatten()
            self.counts += torch.bincount(taken, minlength=self.experts.count)
        return self._sent(tokens, choice).view_as(x)

    def choose(self, tokens: Tensor) -> Choice:
        """By the router, in float32 whatever the rest is computed in: near ties must not hang on rounding."""
        exact = torch.promote_types(tokens.dtype, torch.float32)
        with torch.autocast(tokens.device.type, enabled=False):
            scores = functional.linear(tokens.to(exact), self.router.weight.to(exact)).sigmoid()
        experts = (scores.detach() + self.bias).topk(self.experts.active, -1, sorted=False).indices
        shares = scores.gather(-1, experts)
        return Choice(experts, shares / shares.sum(-1, keepdim=True).clamp_min(1e-20))

    def _sent(self, tokens: Tensor, choice: Choice) -> Tensor:
        """Each token (tokens, width) through its experts, and their answers added up."""
        by_expert = choice.experts.flatten().argsort(stable=True)
        token = by_expert // self.experts.active
        sizes = torch.bincount(choice.experts.flatten(), minlength=self.experts.count).tolist()
        parts = [self._feed(number, part) for number, part in enumerate(torch.split(tokens[token], sizes))]
        answers = torch.cat(parts) * choice.shares.flatten()[by_expert].unsqueeze(-1)
        return torch.zeros_like(tokens, dtype=answers.dtype).index_add(0, token, answers).to(parts[0].dtype)

    def _feed(self, number: int, tokens: Tensor) -> Tensor:
        """One expert: (tokens, width) to the same."""
        inner = functional.linear(tokens, self.inward[number])
        if self.kind == "gelu":
            bent = functional.gelu(inner, approximate="tanh")
        else:
            gate, up = inner.chunk(2, -1)
            bent = functional.silu(gate) * up
        return functional.linear(bent, self.outward[number])

    @torch.no_grad()
    def balance(self, good: bool) -> Tensor:
        """Move the bias by what was counted since the last time, unless the step came to nothing, and forget
        the counts. Returns the tokens of the busiest expert over the mean, () ."""
        counts, mean = self.counts.clone(), self.counts.mean()
        self.counts.zero_()
        if good:
            self.bias += self.experts.rate * (mean - counts).sign()
        return counts.max() / mean.clamp_min(1.0)


class ExpertBlock(Block):
    """A block whose feed-forward is `Routed`."""

    def fed(self, x: Tensor, sight: Sight) -> Tensor:
        assert sight.real is not None
        out: Tensor = self.feed(x, sight.real)
        return out


def balanced(network: nn.Module, good: bool) -> dict[str, Tensor]:
    """Balance all experts of a network; what is logged of it: the largest of their loads."""
    loads = [module.balance(good) for module in network.modules() if isinstance(module, Routed)]
    return {"load": torch.stack(loads).max()} if loads else {}
