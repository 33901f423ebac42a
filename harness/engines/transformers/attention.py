"""Attention for the CPU: one that decodes fast, one that trains fast.

While decoding, the stock path's copies of every key and value head, one per query head of its
group, are most of the work. `grouped` stacks the query heads of a group along the length axis
instead, so that the cache is read once. For training on whole sequences, `folded` makes the heads
one batch of plain matrix products, whose backward is fast in bfloat16.
"""

from __future__ import annotations

from typing import Any

import torch

NAME = "grouped"
TRAINING = "folded"


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend `query` (batch, heads, T, d) to `key`, `value` (batch, kv_heads, S, d).

    `attention_mask` broadcasts to (batch, 1, T, S): boolean (True = attend) or additive.
    Returns (batch, T, heads, d), as transformers' attention interface wants it.
    """
    batch, heads, length, width = query.shape
    kv_heads = key.shape[1]
    group = heads // kv_heads
    stacked = query.reshape(batch, kv_heads, group * length, width)
    scores = torch.matmul(stacked, key.transpose(-1, -2)) * (scaling or width**-0.5)
    scores = scores.view(batch, kv_heads, group, length, -1)
    if attention_mask is not None:
        mask = attention_mask[:, :, None]
        if mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        else:
            scores = scores + mask
    elif length > 1:
        past = key.shape[-2] - length
        causal = torch.ones(length, key.shape[-2], dtype=torch.bool, device=query.device).tril(past)
        scores = scores.masked_fill(~causal, torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    if dropout and module.training:
        weights = torch.nn.functional.dropout(weights, dropout)
    out = torch.matmul(weights.view(batch, kv_heads, group * length, -1), value)
    return out.view(batch, heads, length, width).transpose(1, 2).contiguous(), None


def folded_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention over whole sequences of equal length; arguments as `grouped_attention`.

    Anything else (a mask, a cache, dropout) goes the grouped way.
    """
    batch, heads, length, width = query.shape
    if attention_mask is not None or key.shape[2] != length or (dropout and module.training):
        return grouped_attention(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout
        )
    group = heads // key.shape[1]
    queries = query.reshape(batch * heads, length, width)
    keys, values = (_spread(part, group) for part in (key, value))
    future = torch.full((length, length), torch.finfo(query.dtype).min, dtype=query.dtype)
    scores = torch.baddbmm(
        future.triu_(1).to(query.device), queries, keys.mT, alpha=scaling or width**-0.5
    )
    out = torch.bmm(scores.softmax(-1), values)
    return out.view(batch, heads, length, width).transpose(1, 2).contiguous(), None


def _spread(part: torch.Tensor, group: int) -> torch.Tensor:
    """Keys or values (batch, kv_heads, S, d) as (batch * heads, S, d), one per query head."""
    batch, kv_heads, length, width = part.shape
    wide = part[:, :, None].expand(batch, kv_heads, group, length, width)
    return wide.reshape(batch * kv_heads * group, length, width)


def register() -> str:
    """Make both selectable as `attn_implementation`; returns the name of the decoding one."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    for name, attention in ((NAME, grouped_attention), (TRAINING, folded_attention)):
        AttentionInterface.register(name, attention)
        AttentionMaskInterface.register(name, sdpa_mask)
    return NAME
