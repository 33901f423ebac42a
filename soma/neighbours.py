"""Nearest tokens by cosine in the model's input embeddings, in pieces of bounded size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DEFAULT_BOUND = 1 << 24
"""Most numbers in one matrix of similarities: 64 MiB in float32."""


@dataclass(frozen=True)
class Neighbourhood:
    """For each of m tokens y: `ids` (m, k+1), y first and then N_k(y), and `weights` of that shape.

    The weights are s_tau(v | y), proportional to exp(cos(e_v, e_y) / tau), and sum to 1 per token.
    """

    ids: Tensor
    weights: Tensor


def nearest(
    queries: Tensor,
    table: Tensor,
    k: int,
    *,
    bound: int = DEFAULT_BOUND,
    excluded: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The `k` rows of `table` (V, d) closest to each of `queries` (N, d) by cosine, closest first.

    Returns ids and cosines, both (N, k). `excluded` ids are never returned. No matrix of
    similarities holds more than `bound` numbers; a bound below V, one query's own row, or a `k`
    above the tokens that are left, is a ValueError.
    """
    vocabulary = table.shape[0]
    left = vocabulary - (0 if excluded is None else excluded.numel())
    if not 1 <= k <= left:
        raise ValueError(f"k is {k}; it must lie between 1 and {left}")
    if bound < vocabulary:
        raise ValueError(f"bound is {bound}; one row of similarities has {vocabulary} numbers")
    directions = _unit(table)
    rows = bound // vocabulary
    ids, cosines = [], []
    for part in _unit(queries).split(rows):
        similar = part @ directions.T
        if excluded is not None:
            similar[:, excluded] = -torch.inf
        best = similar.topk(k, dim=-1)
        ids.append(best.indices)
        cosines.append(best.values)
    if not ids:
        empty = queries.new_zeros(0, k)
        return empty.long(), empty
    return torch.cat(ids), torch.cat(cosines)


def neighbourhood(
    reply: Tensor, table: Tensor, k: int, tau: float, *, bound: int = DEFAULT_BOUND
) -> Neighbourhood:
    """N_k(y) with y and the weights s_tau(v | y), for every token y of `reply` (m,).

    Each distinct token is looked up once. `table` (V, d) holds the input embeddings. Raises
    ValueError as `nearest` does.
    """
    distinct, place = reply.unique(return_inverse=True)
    ids, cosines = nearest(table[distinct], table, k + 1, bound=bound)
    # A token is its own nearest, but twins with its very direction may be listed before it.
    own = ids == distinct[:, None]
    own[~own.any(dim=1), -1] = True
    others = ids[~own].view(len(distinct), k), cosines[~own].view(len(distinct), k)
    ids = torch.cat([distinct[:, None], others[0]], dim=1)
    cosines = torch.cat([cosines.new_ones(len(distinct), 1), others[1]], dim=1)
    weights = torch.softmax(cosines / tau, dim=-1)
    return Neighbourhood(ids[place], weights[place])


def wide(values: Tensor) -> Tensor:
    """`values` in at least float32: sums over a vocabulary need its precision."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(wide(rows), dim=-1)
