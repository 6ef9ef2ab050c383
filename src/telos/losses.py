"""The one formula: H(p, q) = −Σ p log q, per asked place, in float32, with the projection that makes q.

    hard       −log q(target)
    smoothed   p = (1 − s) · target + s / V                              (Szegedy et al., 2016)
    soft       p is given: a teacher's distribution; at a temperature T: T² · H(p, softmax(logits / T))
                                                                         (Hinton et al., 2015)
    negative   −log (1 − q(target)): unlikelihood                        (Welleck et al., 2020)
    z          z · (log Σ exp logits)², a term of its own                (Chowdhery et al., 2022)

Sums, never means: the caller divides once per step. What p is (one-hot, smoothed, a teacher's) the ask says.

The projection to the vocabulary and the cross-entropy are one operation that works on a few rows at a time,
so that the logits of a batch never exist as a whole; the gradients are made on the way forward, while the
rows' logits are at hand.
"""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from telos.batch import Soft
from telos.config import Lax, Settings

__all__ = [
    "LossSettings",
    "Sums",
    "cross_entropy",
    "linear_cross_entropy",
    "linear_logits",
    "plain_cross_entropy",
]

CHUNK = 1 << 23
"""Logits multiplied out at once: 16 MiB in bfloat16. The weight's gradient is added to once per chunk."""
BLOCK = 1 << 20
"""Numbers worked on at once in float32, of these and of the weight's gradient: 4 MiB, which stay in the
processor's caches from step to step."""


class LossSettings(Settings):
    """Modifiers of the loss in training; evaluation is always the plain cross-entropy."""

    smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of p spread evenly over the vocabulary, or over a classifier's classes (Szegedy et al., 2016)."""
    z: float = Field(0.0, ge=0)
    """Weight of (log Σ exp logits)², which keeps logits near
    zero (Chowdhery et al., 2022); logged apart, as `term.z`."""
    soft_cap: float = Field(0.0, ge=0)
    """Logits become cap · tanh(logits / cap), in training and evaluation; 0 for none (Gemma Team, 2024)."""
    cutoffs: Annotated[tuple[Annotated[int, Field(ge=1, strict=True)], ...], Lax] = ()
    """Ids at which groups of ever rarer tokens begin, in training and evaluation: a group is multiplied out
    only where the answer is in it (Grave et al., 2017). For large vocabularies whose ids go from frequent to
    rare; [] for none."""

    @model_validator(mode="after")
    def _groups_fit(self) -> "LossSettings":
        if list(self.cutoffs) != sorted(set(self.cutoffs)):
            raise ValueError(f"cutoffs must ascend, not {list(self.cutoffs)}")
        others = [name for name in ("smoothing", "z", "soft_cap") if getattr(self, name)]
        if self.cutoffs and others:
            raise ValueError(
                f"cutoffs leave most logits out, and {' and '.join(others)} would need them all; take one"
            )
        return self


class Sums(NamedTuple):
    """Weighted sums over the asked places: scalars in float32, or float64 where the hidden states are."""

    entropy: Tensor
    """Σ weight · H(p, q), in nats."""
    z: Tensor | None
    """Σ weight · z · (log Σ exp logits)²; only in training, and only where z > 0."""


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Nats per target, float32, unreduced: `logits` (…, V), `target` (…) classes or (…, V) distributions."""
    said = functional.log_softmax(logits, dim=-1, dtype=_at_least_float(logits.dtype))
    if target.is_floating_point():
        return -(target * said).sum(-1)
    return -said.gather(-1, target.unsqueeze(-1)).squeeze(-1)


def linear_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, soft_cap: float = 0.0) -> Tensor:
    """hidden (…, D) · weightᵀ (D, V) + bias, capped if asked for, float32; products in the autocast type."""
    logits = functional.linear(hidden, weight, bias)
    logits = logits.to(_at_least_float(logits.dtype))
    return soft_cap * torch.tanh(logits / soft_cap) if soft_cap else logits


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    row_weight: Tensor,
    *,
    settings: LossSettings,
    negative: bool = False,
    soft: Soft | None = None,
    training: bool,
) -> Sums:
    """The weighted sum of cross-entropies of `hidden · weightᵀ + bias` against `target`.

    Rows of weight 0 count nothing, whatever they hold. Differentiable in `hidden`, `weight` and `bias`, once;
    the target is taken as given.

    Args:
        hidden: (K, D); K may be 0.
        weight: (V, D).
        bias: (V,), if any.
        target: (K,) classes, int64; or (K, V) distributions, whose rows may sum to anything.
        row_weight: (K,).
        settings: smoothing and z count only in `training`, the soft cap always.
        negative: unlikelihood of the target classes; smoothing does not apply.
        soft: distributions in place of `target`, made chunk by chunk, and their temperature; the z-loss is
            of the logits as they are.
        training: whether the modifiers apply.
    """
    assert not target.requires_grad, "the target of a cross-entropy is taken as given: detach it"
    distributions = soft is not None or target.is_floating_point()
    assert not (negative and distributions), "unlikelihood is of classes, not of distributions"
    plan = _Plan(
        smoothing=settings.smoothing if training and not negative else 0.0,
        z=settings.z if training else 0.0,
        soft_cap=settings.soft_cap,
        negative=negative,
        product=_product_type(hidden),
        soft=soft,
    )
    entropy, z = _apply(hidden, weight, bias, target, row_weight, plan)
    return Sums(entropy, z if plan.z else None)


def plain_cross_entropy(
    logits: Tensor, target: Tensor, row_weight: Tensor, *, negative: bool = False, soft: Soft | None = None
) -> Tensor:
    """The same sum, where all logits (K, V) are there already; differentiable in them."""
    plan = _Plan(smoothing=0.0, z=0.0, soft_cap=0.0, negative=negative, product=logits.dtype, soft=soft)
    truth = target if soft is None else soft.of(slice(0, len(logits)))
    ((entropy, _),) = _terms(logits, truth, row_weight.to(logits.dtype).unsqueeze(1), plan, False)
    return entropy


class _Plan(NamedTuple):
    smoothing: float
    z: float
    soft_cap: float
    negative: bool
    product: torch.dtype
    """The type in which matrices are multiplied."""
    soft: Soft | None


class _LinearCrossEntropy(torch.autograd.Function):
    """Two scalars of hidden, weight and bias; their gradients
    are made going forward, and only scaled backward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        row_weight: Tensor,
        plan: _Plan,
    ) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad[:3]  # of a weight that is frozen no gradient is ever made
        given = zip((hidden, weight, bias), wanted, strict=True)
        ctx.types = tuple(x.dtype if want and x is not None else None for x, want in given)
        terms = 2 if plan.z else 1
        grads = [_Gradient(hidden, weight, bias, wanted) for _ in range(terms)] if any(wanted) else []
        with torch.autocast(hidden.device.type, enabled=False):
            sums = _walk(hidden, weight, bias, target, row_weight, plan, grads)
        ctx.save_for_backward(*(tensor for grad in grads for tensor in grad.tensors()))
        return sums[0], sums[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        made = ctx.saved_tensors
        kinds = [(place, kind) for place, kind in enumerate(ctx.types) if kind is not None]
        result: list[Tensor | None] = [None] * 6
        for number, (place, kind) in enumerate(kinds):
            parts = [grad * up for grad, up in zip(made[number :: len(kinds)], upstream, strict=False)]
            result[place] = (parts[0] if len(parts) == 1 else parts[0] + parts[1]).to(kind)
        return tuple(result)


_apply: Any = _LinearCrossEntropy.apply


class _Gradient:
    """Gradients of one term, of what is wanted, filled rows by rows; those of weight and bias accumulate in
    float32."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: Sequence[bool]) -> None:
        kind = _at_least_float(hidden.dtype)
        self.hidden = torch.empty_like(hidden) if wanted[0] else None
        self.weight = weight.new_empty(weight.shape, dtype=kind) if wanted[1] else None
        self.bias = bias.new_zeros(bias.shape, dtype=kind) if bias is not None and wanted[2] else None
        if self.weight is not None and not len(hidden):
            self.weight.zero_()

    def tensors(self) -> list[Tensor]:
        return [t for t in (self.hidden, self.weight, self.bias) if t is not None]

    def add_bias(self, slope: Tensor, count: Tensor) -> None:
        """As `add`, while the slope is still in float32."""
        if self.bias is not None:
            self.bias += count.squeeze(1) @ slope

    def add(self, rows: slice, hidden: Tensor, weight: Tensor, slope: Tensor, count: Tensor) -> None:
        """`slope` (k, V) is the derivative of a row's term by its logits; `count` (k, 1) what the row weighs.

        The weights go to the narrow factors of the products: a pass over (k, D) in place of one over (k, V).
        """
        if self.hidden is not None:
            self.hidden[rows] = count * (slope @ weight)
        if self.weight is None:
            return
        weighed = (count * hidden).to(hidden.dtype)
        for classes in _blocks(len(weight), max(1, BLOCK // weight.shape[1])):
            part, more = self.weight[classes], slope[:, classes].T @ weighed
            if rows.start:
                part += more
            else:
                part.copy_(more)


def _walk(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    row_weight: Tensor,
    plan: _Plan,
    grads: list[_Gradient],
) -> tuple[Tensor, Tensor]:
    """Both sums, a few rows at a time; where `grads` has a place per term, their gradients too."""
    kind = _at_least_float(hidden.dtype)
    total = [torch.zeros((), dtype=kind, device=hidden.device) for _ in range(2)]
    table = weight.to(plan.product)
    counts = row_weight.to(kind)
    size = max(1, CHUNK // len(weight))
    for start in range(0, len(hidden), size):
        rows = slice(start, start + size)
        count = counts[rows].unsqueeze(1)
        inputs = hidden[rows].to(plan.product).masked_fill(count == 0, 0)
        logits = inputs @ table.T
        truth = target[rows] if plan.soft is None else plan.soft.of(rows)
        slopes = [logits, *(torch.empty_like(logits) for _ in grads[1:])] if grads else []
        for block in _blocks(len(logits), max(1, BLOCK // len(weight))):
            said = logits[block].to(kind)  # in float32 these are the logits themselves: read once, here
            if bias is not None:
                said += bias
            terms = _terms(said, truth[block], count[block], plan, bool(grads))
            for term, (sum_, slope) in enumerate(terms):
                total[term] += sum_
                if slope is not None:
                    grads[term].add_bias(slope, count[block])
                    slopes[term][block] = (
                        slope  # the first term's in place of the logits, which are done with
                    )
        for grad, slope in zip(grads, slopes, strict=True):
            grad.add(rows, inputs, table, slope, count)
    return total[0], total[1]


def _blocks(length: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, length, size)]


def _terms(
    logits: Tensor, target: Tensor, count: Tensor, plan: _Plan, with_slopes: bool
) -> list[tuple[Tensor, Tensor | None]]:
    """Each term's weighted sum, and each row's unweighted derivative by its uncapped logits (k, V)."""
    bend = None
    if plan.soft_cap:
        bent = torch.tanh(logits / plan.soft_cap)
        bend, logits = 1 - bent.square(), bent * plan.soft_cap
    measure = _unlikelihood if plan.negative else _entropy
    terms = [measure(logits, target, count, plan, with_slopes)]
    if plan.z:
        terms.append(_z_term(logits, count, plan, with_slopes))
    if bend is None:
        return terms
    return [(sum_, slope * bend if slope is not None else None) for sum_, slope in terms]


def _entropy(
    logits: Tensor, target: Tensor, count: Tensor, plan: _Plan, with_slopes: bool
) -> tuple[Tensor, Tensor | None]:
    if plan.soft is not None:
        return _tempered_entropy(logits, target, count, plan, plan.soft.temperature, with_slopes)
    if target.is_floating_point():
        return _soft_entropy(logits, target.to(logits.dtype), count, plan, with_slopes)
    said, place = torch.softmax(logits, dim=1), target.unsqueeze(1)
    # log Σ exp logits by the likeliest class, whose q is at least 1 / V: one exponential per logit
    level = logits.amax(1, keepdim=True) - said.amax(1, keepdim=True).log()
    loss = level - (1 - plan.smoothing) * logits.gather(1, place)
    if plan.smoothing:
        loss = loss - plan.smoothing * logits.mean(1, keepdim=True)
    if not with_slopes:
        return (loss * count).sum(), None
    slope = said if not plan.smoothing else said.sub_(plan.smoothing / said.shape[1])
    slope.scatter_add_(1, place, slope.new_full((), plan.smoothing - 1).expand_as(place))
    return (loss * count).sum(), slope


def _soft_entropy(
    logits: Tensor, truth: Tensor, count: Tensor, plan: _Plan, with_slopes: bool
) -> tuple[Tensor, Tensor | None]:
    said = torch.log_softmax(logits, dim=1)
    mass = truth.sum(1, keepdim=True)
    if plan.smoothing:
        truth = (1 - plan.smoothing) * truth + plan.smoothing / truth.shape[1] * mass
    total = -((truth * said).sum(1, keepdim=True) * count).sum()
    return total, said.exp_() * mass - truth if with_slopes else None


def _tempered_entropy(
    logits: Tensor, truth: Tensor, count: Tensor, plan: _Plan, temperature: float, with_slopes: bool
) -> tuple[Tensor, Tensor | None]:
    """T² · H(p, softmax(logits / T)): the factor keeps the gradient's size whatever the temperature."""
    truth = truth.to(logits.dtype)
    total, slope = _soft_entropy(logits / temperature, truth, count, plan, with_slopes)
    return temperature**2 * total, None if slope is None else temperature * slope


def _unlikelihood(
    logits: Tensor, target: Tensor, count: Tensor, plan: _Plan, with_slopes: bool
) -> tuple[Tensor, Tensor | None]:
    """−log(1 − q) = log Σ exp over all − log Σ exp over all but the target: finite where q rounds to 1."""
    others = logits.scatter(1, target.unsqueeze(1), -torch.inf)
    everything = torch.logsumexp(logits, 1, keepdim=True)
    rest = torch.logsumexp(others, 1, keepdim=True)
    total = ((everything - rest) * count).sum()
    if not with_slopes:
        return total, None
    return total, (logits - everything).exp() - (others - rest).exp()


def _z_term(logits: Tensor, count: Tensor, plan: _Plan, with_slopes: bool) -> tuple[Tensor, Tensor | None]:
    level = torch.logsumexp(logits, 1, keepdim=True)
    total = plan.z * (level.square() * count).sum()
    return total, (logits - level).exp() * (2 * plan.z * level) if with_slopes else None


def _at_least_float(kind: torch.dtype) -> torch.dtype:
    return torch.float64 if kind == torch.float64 else torch.float32


def _product_type(hidden: Tensor) -> torch.dtype:
    device = hidden.device.type
    if hidden.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return hidden.dtype
