"""Dropout masks from generators of their own: what one session draws, no other can change."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_STEPS = 1 << 16  # a mask is drawn with 16 random bits per number


class Dropout:
    """Zeroes a share `p` of its input, to within 2^-17.

    What a linear map makes of the rest must be multiplied by `scale`, so that the mean stays.

    Row i of a batch draws from `generators[rows[i]]`, for its last `lengths[i]` tokens only: the
    padding before them draws nothing, so that a row's masks do not depend on its company.
    """

    def __init__(
        self,
        p: float,
        generators: Sequence[torch.Generator],
        rows: Sequence[int],
        lengths: Sequence[int],
    ) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"p is {p}; it must lie in [0, 1)")
        self._dropped = round(p * _STEPS)
        self._generators, self._rows, self._lengths = generators, rows, lengths

    @property
    def scale(self) -> float:
        return _STEPS / (_STEPS - self._dropped)

    def __call__(self, x: Tensor) -> Tensor:
        """`x` (rows, tokens, width) with its mask applied."""
        parts = []
        for row, length in zip(self._rows, self._lengths, strict=True):
            mask = self._mask(length * x.shape[-1], self._generators[row]).view(length, -1)
            parts.append(torch.nn.functional.pad(mask, (0, 0, x.shape[1] - length, 0)))
        mask = parts[0][None] if len(parts) == 1 else torch.stack(parts)
        return torch.where(mask.to(x.device), x, 0)

    def _mask(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` draws, true where the number stays. One 64-bit draw makes four."""
        words = torch.empty((count + 3) // 4, dtype=torch.int64, device=generator.device)
        words.random_(-(2**63), None, generator=generator)
        bits = words.view(torch.int16)[:count]
        return bits >= self._dropped - _STEPS // 2
