"""Drawing the next tokens of a batch, each row by its own settings and its own randomness."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.engines.base import Sampling


def draw(
    logits: torch.Tensor, settings: Sequence[Sampling], randomness: Sequence[torch.Generator]
) -> list[int]:
    """One token per row of `logits` (rows, vocabulary).

    A sampled row takes exactly one uniform number from its generator and inverts its cumulative
    distribution there, so that its draws depend neither on its neighbours nor on the device.
    """
    tokens = logits.argmax(-1)
    rows = [i for i, s in enumerate(settings) if s.temperature > 0]
    if rows:
        index = torch.tensor(rows, device=logits.device)
        tokens[index] = _sample(
            logits[index], [settings[i] for i in rows], [randomness[i] for i in rows]
        )
    return [int(t) for t in tokens.tolist()]


def _sample(
    logits: torch.Tensor, settings: Sequence[Sampling], randomness: Sequence[torch.Generator]
) -> torch.Tensor:
    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64, device=logits.device)[:, None]

    probabilities = torch.softmax(logits.double() / column([s.temperature for s in settings]), -1)
    if any(s.top_p < 1 for s in settings):
        probabilities = _nucleus(probabilities, column([s.top_p for s in settings]))
    cumulative = probabilities.cumsum(-1)
    uniform = [float(torch.rand((), dtype=torch.float64, generator=g)) for g in randomness]
    target = column(uniform) * cumulative[:, -1:]
    # right=True: the first token whose cumulative probability exceeds the target.
    chosen = torch.searchsorted(cumulative, target, right=True)[:, 0]
    return chosen.clamp(max=logits.shape[-1] - 1)


def _nucleus(probabilities: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Keep the most likely tokens until their mass reaches `top_p` (rows, 1); zero the others."""
    ordered, index = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    # A row at top_p = 1 keeps everything, whatever rounding does to its sum.
    ordered = ordered.masked_fill((before >= top_p) & (top_p < 1), 0.0)
    return torch.zeros_like(probabilities).scatter_(-1, index, ordered)
