"""Grouped-query attention that never repeats keys and values.

The stock CPU path copies every key and value head once per query head in its group before
attending; while decoding, that copy is most of the work. Here the query heads of one group are
stacked along the length axis instead, so that the cache is read once.
"""

from __future__ import annotations

from typing import Any

import torch

NAME = "grouped"


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


def register() -> str:
    """Make the attention selectable as `attn_implementation="grouped"`; returns that name."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME
