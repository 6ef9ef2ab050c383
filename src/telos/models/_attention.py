"""Scaled dot-product attention: softmax(q · kᵀ · scale + mask) · v (Vaswani et al., 2017).

PyTorch's kernel does it everywhere but in one case. In bfloat16 on a CPU its backward pass takes two to three
times what the products themselves take, so there, for rows that are not long, the probabilities are kept from
the forward pass and the backward pass is four products. The softmax is in float32 both ways.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

__all__ = ["attention"]

LONGEST = 512
"""Keys of a row for which probabilities are kept; with more the kernel is faster."""
MOST = 1 << 25
"""Probabilities of a layer that are kept: 64 MiB."""


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
        mask: true where a place is seen, or a number to add to its logit; (B, 1 or heads, queries, keys).
        causal: places see themselves and those before them, in place of a mask.
        dropout: share of the probabilities that are zeroed.
        scale: 1 / √width if none is given.
    """
    shared = keys.shape[1] != queries.shape[1]
    if _keeps(queries, keys, mask) and not (shared or dropout):
        scale = queries.shape[-1] ** -0.5 if scale is None else scale
        kept: Tensor = _kept(queries, keys, values, mask, causal, scale)
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


def _keeps(queries: Tensor, keys: Tensor, mask: Tensor | None) -> bool:
    """Whether the kernel's backward pass is slower than four products."""
    slow = queries.device.type == "cpu" and queries.dtype == keys.dtype == torch.bfloat16
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
    ) -> Tensor:
        queries, keys, values = (queries * scale).contiguous(), keys.contiguous(), values.contiguous()
        logits = (queries @ keys.transpose(2, 3)).float()
        if causal:
            mask = torch.ones(logits.shape[2:], dtype=torch.bool).tril()
        if mask is not None and mask.dtype == torch.bool:
            logits = logits.masked_fill_(~mask, -torch.inf)
        elif mask is not None:
            logits += mask
        said = torch.softmax(logits, 3).to(values.dtype)
        ctx.scale = scale
        ctx.bias = (mask.shape, mask.dtype) if mask is not None and ctx.needs_input_grad[3] else None
        ctx.save_for_backward(queries, keys, values, said)
        return said @ values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, said = ctx.saved_tensors
        upstream = upstream.contiguous()
        slope = upstream @ values.transpose(2, 3)
        slope = torch._softmax_backward_data(slope, said, 3, said.dtype)
        return (
            (slope @ keys).mul_(ctx.scale),
            slope.transpose(2, 3) @ queries,
            said.transpose(2, 3) @ upstream,
            None if ctx.bias is None else slope.sum_to_size(ctx.bias[0]).to(ctx.bias[1]),
            None,
            None,
        )


_kept: Any = _Kept.apply
