"""Heads: the end of a model. Each gets the hidden states it is asked about, and answers with sums.

The asked places are gathered before the projection, and the projection is one with its loss, so the logits of
all places never exist. Every weight of a head is used inside its `forward`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from telos.batch import Asked, HeadSpec
from telos.errors import ConfigError
from telos.grouped import Table, grouped_cross_entropy, grouped_logits, share_multiplied
from telos.losses import LossSettings, linear_cross_entropy, linear_logits
from telos.models._base import Sizes

__all__ = [
    "Ahead",
    "ClassHead",
    "MarkHead",
    "Pooler",
    "Scaled",
    "TokenHead",
    "Transform",
    "build_heads",
    "head_counts",
]


class TokenHead(nn.Module):
    """Linear to the vocabulary and cross-entropy; `tied` shares the weight of the embedding; `transform` is
    put to the hidden states before the projection.

    The embedding is held in a list, not as a submodule: its weight has one name and one entry in the state,
    and stays shared whatever is done to the embedding (a copy, a move from the meta device, a load).
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        loss: LossSettings,
        *,
        tied: nn.Embedding | None = None,
        bias: bool = False,
        transform: nn.Module | None = None,
        ahead: int = 0,
    ) -> None:
        super().__init__()
        assert tied is None or tuple(tied.weight.shape) == (outputs, width), (
            "a tied head has the embedding's shape"
        )
        self.loss = loss
        self.ahead = ahead
        self.transform = nn.Identity() if transform is None else transform
        self._tied = [] if tied is None else [tied]
        self.weight = nn.Parameter(torch.empty(outputs, width)) if tied is None else None
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None

    @property
    def table(self) -> Tensor:
        """The projection (outputs, width): its own, or the embedding's; new rows, where there are such beside
        it, in their places."""
        owner: Any = self._tied[0] if self.weight is None else self
        rows = getattr(owner, "rows", None)
        weight: Tensor = owner.weight
        return weight if rows is None else torch.cat((weight[: -len(rows)], rows))

    @property
    def offsets(self) -> Tensor | None:
        """What is added to the logits (outputs,)."""
        return self.bias

    def forward(self, hidden: Tensor, asked: Asked) -> dict[str, Tensor]:
        """Sums for the places `hidden` (K, width): `term`, and in training with a z-loss `term.z`."""
        sums = linear_cross_entropy(
            self.transform(hidden),
            self.table,
            self.offsets,
            asked.target,
            asked.weight,
            settings=self.loss,
            negative=asked.negative,
            soft=asked.soft,
            training=self.training,
        )
        return {asked.term: sums.entropy} | ({} if sums.z is None else {f"{asked.term}.z": sums.z})

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, width) → (…, outputs), float32."""
        return linear_logits(self.transform(hidden), self.table, self.offsets, self.loss.soft_cap)


class GroupedHead(TokenHead):
    """The same for a vocabulary in groups (see `telos.grouped`), which have a vector each."""

    def __init__(
        self, width: int, outputs: int, loss: LossSettings, *, bias: bool = False, **parts: Any
    ) -> None:
        super().__init__(width, outputs, loss, bias=bias, **parts)
        if loss.cutoffs[-1] >= outputs:
            raise ConfigError(
                f"loss.cutoffs: the vocabulary has {outputs} tokens, so no group can begin at "
                f"{loss.cutoffs[-1]}. Take smaller ids, or leave cutoffs out."
            )
        count = len(loss.cutoffs)
        self.groups = nn.Parameter(torch.empty(count, width))
        self.group_bias = nn.Parameter(torch.empty(count)) if bias else None

    def forward(self, hidden: Tensor, asked: Asked) -> dict[str, Tensor]:
        """The sum for the places `hidden` (K, width) under `term`."""
        return {
            asked.term: grouped_cross_entropy(
                self.transform(hidden),
                self.grouped,
                asked.target,
                asked.weight,
                negative=asked.negative,
                soft=asked.soft,
            )
        }

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, width) → (…, outputs), float32: of all that differ by a constant, the logarithms of q."""
        return grouped_logits(self.transform(hidden), self.grouped)

    @property
    def grouped(self) -> Table:
        """The weights as they are."""
        return Table(self.table, self.offsets, self.groups, self.group_bias, self.loss.cutoffs)


class ClassHead(TokenHead):
    """Linear to a few classes and their cross-entropy, smoothed or not; the other modifiers of the loss are
    the vocabulary's."""

    def __init__(
        self,
        width: int,
        outputs: int,
        transform: nn.Module | None = None,
        *,
        bias: bool = True,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__(width, outputs, LossSettings(smoothing=smoothing), bias=bias, transform=transform)


class MarkHead(ClassHead):
    """No or yes, as one number z: cross-entropy of the logits (0, z), which is that of σ(z)."""

    def __init__(self, width: int, transform: nn.Module | None = None) -> None:
        super().__init__(width, 1, transform)

    @property
    def table(self) -> Tensor:
        """(2, width): zeros for no."""
        return functional.pad(super().table, (0, 0, 1, 0))

    @property
    def offsets(self) -> Tensor:
        """(2,): 0 for no."""
        assert self.bias is not None
        return functional.pad(self.bias, (1, 0))


class Ahead(nn.Module):
    """x + silu(linear(x)), before the projection of a head that predicts further on (Cai et al., 2024)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + functional.silu(self.dense(x))


class Transform(nn.Module):
    """norm(gelu(linear(x))), before the projection to the vocabulary (Devlin et al., 2019); `outward` is as
    wide as that projection reads."""

    def __init__(self, width: int, outward: int, norm: nn.Module, bias: bool) -> None:
        super().__init__()
        self.dense = nn.Linear(width, outward, bias=bias)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(functional.gelu(self.dense(x)))
        return out


class Pooler(nn.Module):
    """tanh(linear(x)), before the projection to classes (Devlin et al., 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.dense(x))


def untransformed(spec: HeadSpec) -> None:
    """No head has a transform."""


class Scaled(nn.Module):
    """x · by, before a tied head (Raffel et al., 2020: by = 1 / √width)."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x * self.by


def build_heads(
    specs: Sequence[HeadSpec],
    width: int,
    loss: LossSettings,
    *,
    tied: nn.Embedding | None = None,
    bias: bool = False,
    class_bias: bool = True,
    transform: Callable[[HeadSpec], nn.Module | None] = untransformed,
) -> nn.ModuleDict:
    """The heads an objective needs, by name, for hidden states of `width`.

    A head for tokens shares the weight of `tied` where that is given and has as many rows as the head has
    outputs. Classes with names, a user's own, are smoothed as `loss` says; those of pre-training, as whether
    a sentence follows, are not. `bias` is that of heads for tokens, `class_bias` of those for classes.
    `transform` makes what a head puts to the hidden states before its projection; that of a head for tokens
    brings them to the width of `tied`, where it is another.
    """
    heads = nn.ModuleDict()
    for spec in specs:
        if spec.kind == "classes":
            smoothing = loss.smoothing if spec.names else 0.0
            heads[spec.name] = ClassHead(
                width, spec.outputs, transform(spec), bias=class_bias, smoothing=smoothing
            )
        elif spec.kind == "marks":
            heads[spec.name] = MarkHead(width, transform(spec))
        else:
            shared = tied if tied is not None and tied.num_embeddings == spec.outputs else None
            made = _after(Ahead(width) if spec.ahead else None, transform(spec))
            inside = tied.embedding_dim if tied is not None else width
            heads[spec.name] = (GroupedHead if loss.cutoffs else TokenHead)(
                inside, spec.outputs, loss, tied=shared, bias=bias, transform=made, ahead=spec.ahead
            )
    return heads


def _after(first: nn.Module | None, second: nn.Module | None) -> nn.Module | None:
    """One after the other, where there are both."""
    return nn.Sequential(first, second) if first is not None and second is not None else first or second


def head_counts(
    sizes: Sizes,
    width: int,
    *,
    tied: bool = False,
    bias: bool = False,
    class_bias: bool = True,
    embedding: int = 0,
) -> tuple[int, int]:
    """(parameters of the heads, weights that multiply), in closed form and without a model's own transforms;
    a tied weight only multiplies.

    `tied` heads for tokens share the embedding; `embedding` is what their projections read, or 0 for `width`.
    Where the vocabulary is in groups, weights that multiply are expected ones (`grouped.share_multiplied`).
    """
    parameters = multiplied = 0
    cutoffs = sizes.loss.cutoffs
    biased = {"tokens": bias, "classes": class_bias, "marks": True}
    for spec in sizes.heads:
        tokens = spec.kind == "tokens"
        rows = 1 if spec.kind == "marks" else spec.outputs
        matrix = rows * ((embedding or width) if tokens else width)
        layer = width**2 if spec.ahead else 0
        groups = len(cutoffs) if tokens else 0
        multiplied += round(matrix * (share_multiplied(cutoffs, rows) if groups else 1)) + layer
        shared = tied and tokens and spec.outputs == sizes.vocabulary
        parameters += (0 if shared else matrix) + layer + groups * (matrix // rows)
        parameters += rows + groups if biased[spec.kind] else 0
    return parameters, multiplied
