"""The soft prompt P and its verbalization V(P)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from soma.neighbours import DEFAULT_BOUND, nearest


def initial(count: int, length: int, width: int, *, std: float, seed: int) -> Tensor:
    """Raw soft prompts before training: (count, length, width), normal with `std`, float32."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, length, width, generator=generator) * std


def squash(raw: Tensor, scale: float) -> Tensor:
    """P = scale * tanh(raw), of the shape of `raw` (..., L, d): no entry leaves (-scale, scale)."""
    return scale * torch.tanh(raw)


def verbalize(
    prompt: Tensor, table: Tensor, tokenizer: Any, *, bound: int = DEFAULT_BOUND
) -> tuple[list[int], str]:
    """V(P): each row of `prompt` (L, d) as its nearest token in `table` (V, d), ids and text.

    Tokens that would not survive as text are left out: special ones, and rows of the table beyond
    the tokenizer's vocabulary. With the text, F can be probed though only its replies are seen.
    """
    unusable = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    unusable |= set(range(len(tokenizer), table.shape[0]))
    excluded = torch.tensor(sorted(unusable), dtype=torch.long, device=table.device)
    ids = nearest(prompt, table, 1, bound=bound, excluded=excluded)[0][:, 0].tolist()
    text: str = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return ids, text
