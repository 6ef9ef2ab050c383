"""Scaled dot-product attention: softmax(q · kᵀ · scale + mask) · v (Vaswani et al., 2017).

PyTorch's kernel does it everywhere but in two cases, both on a CPU and for rows that are not long. In
bfloat16 its backward pass takes two to three times what the products themselves take; and with dropout there
is no kernel: the formula is put together from operations, with slow draws. There the probabilities are kept
from the forward pass and the backward pass is four products. The softmax is in float32 both ways.
"""

from typing import Any

import torch
from torch import Tensor, compiler
from torch.autograd.function import once_differentiable
from torch.nn import functional

from telos.models._dropout import Kept, drawn, draws_here

__all__ = ["added", "attention", "type_at_work"]

LONGEST = 512
"""Keys of a row for which probabilities are kept; with more the kernel is faster."""
MOST = 1 << 25
"""Probabilities of a layer that are kept: 64 MiB."""


def added(seen: Tensor, kind: torch.dtype) -> Tensor:
    """What is added to logits so that only what is seen counts: 0 where `seen`, else −∞; the same shape.

    Numbers in the type of the queries are made once for all layers and heads, each of which would take
    booleans one by one.
    """
    return torch.zeros(seen.shape, dtype=kind, device=seen.device).masked_fill_(~seen, -torch.inf)


def type_at_work(weight: Tensor) -> torch.dtype:
    """In which a network with this weight attends: that of autocast, or else the weight's."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """What places find in others: (B, heads, queries, width of a head).

    Args:
        queries: (B, heads, queries, width); keys and values (B, key heads, keys, width), each key head shared
            by heads / key heads of the queries.
        mask: what is added to a place's logit, of the type of the queries, as `added` makes it; (B, 1 or
            heads, queries, keys).
        causal: places see themselves and those before them, in place of a mask.
        dropout: share of the probabilities that are zeroed.
        scale: 1 / √width if none is given.
    """
    shared = keys.shape[1] != queries.shape[1]
    if _keeps(queries, keys, dropout) and not shared:
        scale = queries.shape[-1] ** -0.5 if scale is None else scale
        kept: Tensor = _kept(queries, keys, values, mask, causal, scale, dropout)
        return kept
    return functional.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=causal,
        scale=scale,
        enable_gqa=shared,
    )


def _keeps(queries: Tensor, keys: Tensor, share: float) -> bool:
    """Whether the kernel is slower than products of which the probabilities are kept: its backward pass is in
    bfloat16, and it has none that drops a share of them."""
    halves = queries.dtype == keys.dtype == torch.bfloat16
    slow = draws_here(queries) if share else halves and queries.device.type == "cpu"
    few = keys.shape[2] <= LONGEST and queries.shape[:3].numel() * keys.shape[2] <= MOST
    return slow and few and torch.is_grad_enabled() and queries.requires_grad


class _Kept(torch.autograd.Function):
    """Attention that keeps its probabilities for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None,
        causal: bool,
        scale: float,
        share: float,
    ) -> Tensor:
        queries, keys, values = (queries * scale).contiguous(), keys.contiguous(), values.contiguous()
        logits = queries @ keys.transpose(2, 3)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if causal:
            logits += torch.full(logits.shape[2:], -torch.inf, dtype=logits.dtype).triu_(1)
        elif mask is not None:
            logits += mask
        said = torch.softmax(logits, 3).to(values.dtype)
        ctx.scale = scale
        ctx.bias = (mask.shape, mask.dtype) if mask is not None and ctx.needs_input_grad[3] else None
        kept = drawn(said, share) if share else None
        ctx.kept_scale = kept and kept.scale
        out = (kept.of(said) if kept else said) @ values
        result = out if compiler.is_compiling() else None
        ctx.save_for_backward(queries, keys, values, said, kept and kept.places, result)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, said, places, result = ctx.saved_tensors
        upstream = upstream.contiguous()
        slope, used = upstream @ values.transpose(2, 3), said
        if places is not None:
            kept = Kept(places, ctx.kept_scale)
            slope, used = kept.of(slope), kept.of(said)
        if result is not None:
            # compiled: Σ slope · said is Σ upstream · result, so rows are gone over once and not twice
            exact = torch.promote_types(said.dtype, torch.float32)
            mean = (upstream.to(exact) * result.to(exact)).sum(3, keepdim=True)
            slope = (said * (slope - mean)).to(said.dtype)
        else:
            slope = torch._softmax_backward_data(slope, said, 3, said.dtype)
        return (
            (slope @ keys).mul_(ctx.scale),
            slope.transpose(2, 3) @ queries,
            used.transpose(2, 3) @ upstream,
            None if ctx.bias is None else slope.sum_to_size(ctx.bias[0]).to(ctx.bias[1]),
            None,
            None,
            None,
        )


_kept: Any = _Kept.apply
