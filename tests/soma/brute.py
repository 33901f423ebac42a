"""The mining objective once more, one number at a time in float64, from the equations alone.

Loops over plain numbers: nothing here is shared with `soma`, and nothing is vectorized.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Vector = Sequence[float] | NDArray[np.float64]
Matrix = Sequence[Vector] | NDArray[np.float64]


def cosine(a: Vector, b: Vector) -> float:
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / (
        math.sqrt(sum(float(x) ** 2 for x in a)) * math.sqrt(sum(float(y) ** 2 for y in b))
    )


def nearest(u: Vector, table: Matrix, k: int, without: Iterable[int] = ()) -> list[int]:
    """The k tokens closest to `u`, closest first; of equals, the lower id first."""
    barred = set(without)
    ranked = sorted((-cosine(u, row), v) for v, row in enumerate(table) if v not in barred)
    return [v for _, v in ranked[:k]]


def substitutes(y: int, table: Matrix, k: int, tau: float) -> dict[int, float]:
    """s_tau(v | y) over y and N_k(y), y first."""
    tokens = [y, *nearest(table[y], table, k, without=[y])]
    scores = [math.exp(cosine(table[v], table[y]) / tau) for v in tokens]
    return {v: score / sum(scores) for v, score in zip(tokens, scores, strict=True)}


def probabilities(logits: Vector) -> list[float]:
    top = max(float(z) for z in logits)
    scores = [math.exp(float(z) - top) for z in logits]
    total = math.fsum(scores)
    return [score / total for score in scores]


def rest(p: Sequence[float], v: int) -> float:
    """1 - p(v) as the sum of all other probabilities, which stays exact where p(v) is near 1."""
    return math.fsum(p[:v]) + math.fsum(p[v + 1 :])


def position_loss(logits: Vector, substitutes: dict[int, float]) -> float:
    """-sum_v s(v) log(1 - p(v)) at one position."""
    p = probabilities(logits)
    return -sum(s * math.log(rest(p, v)) for v, s in substitutes.items())


def expectation_weight(logits: Vector, y: int, table: Matrix, m: int, weight: float) -> float:
    """1 + lambda_exp clip(cos(e_bar, e_y), 0, 1), e_bar over the m likeliest tokens."""
    p = probabilities(logits)
    likeliest = sorted(range(len(p)), key=lambda v: -p[v])[:m]
    expected = [sum(p[v] * float(table[v][i]) for v in likeliest) for i in range(len(table[0]))]
    return 1 + weight * min(1.0, max(0.0, cosine(expected, table[y])))


def tail_entropy(logits: Matrix, tail: int) -> float:
    """Mean entropy in nats of the last `tail` positions, or of all if fewer."""
    entropies = [-sum(p * math.log(p) for p in probabilities(row) if p > 0) for row in logits]
    last = entropies[max(0, len(entropies) - tail) :]
    return sum(last) / len(last)


def squash(raw: Matrix, scale: float) -> NDArray[np.float64]:
    return np.array([[scale * math.tanh(float(x)) for x in row] for row in raw])


def squared_norm(prompt: Matrix) -> float:
    return sum(float(x) ** 2 for row in prompt for x in row)


def turn(
    logits: Matrix,
    reply: Sequence[int],
    hoods: Sequence[dict[int, float]],
    table: Matrix,
    *,
    m: int,
    expectation: float,
    tail: int,
) -> tuple[float, float, float]:
    """Mean l, mean w l and H_tail of one turn: logits, token and substitutes of each position."""
    losses, weighted = [], []
    for row, y, hood in zip(logits, reply, hoods, strict=True):
        losses.append(position_loss(row, hood))
        weighted.append(expectation_weight(row, y, table, m, expectation) * losses[-1])
    return sum(losses) / len(losses), sum(weighted) / len(weighted), tail_entropy(logits, tail)


def objective(
    turns: Sequence[tuple[float, float, float]],
    prompt: Matrix,
    *,
    anti_degeneration: float,
    norm_weight: float,
) -> float:
    """J(P) from what `turn` gave under the squashed `prompt`."""
    parts = [weighted - anti_degeneration * entropy for _, weighted, entropy in turns]
    return sum(parts) / len(parts) + norm_weight * squared_norm(prompt)
