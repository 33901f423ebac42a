"""Stage 3, the gate: may G take over?

Gap = 1 - cos(phi(a_F), phi(a_G)) for a turn that both answered. G takes over when the mean Gap on
the acceptance batch is at most epsilon and the query is near the warm start: its cosine to the
centroid of the warm queries is at least `min_locality`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

Vector = Sequence[float]


@dataclass(frozen=True)
class GateSettings:
    epsilon: float
    min_locality: float


@dataclass(frozen=True)
class Verdict:
    """`gap`: mean Gap of the acceptance batch. `reason` says in words what decided."""

    accepted: bool
    gap: float
    locality: float
    reason: str


def cosine(a: Vector, b: Vector) -> float:
    """In [-1, 1]; 0 where one of them is zero, as an empty reply's may be."""
    norms = math.hypot(*a) * math.hypot(*b)
    dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return max(-1.0, min(1.0, dot / norms)) if norms else 0.0


def gap(a: Vector, b: Vector) -> float:
    """1 - cos, in [0, 2], of two replies' embeddings."""
    return 1.0 - cosine(a, b)


def centroid(vectors: Sequence[Vector]) -> list[float]:
    """The mean direction of unit vectors, of the warm queries here."""
    return [fmean(column) for column in zip(*vectors, strict=True)]


def decide(gaps: Sequence[float], locality: float, settings: GateSettings) -> Verdict:
    """The gate's verdict on a query. Raises ValueError for an empty acceptance batch."""
    if not gaps:
        raise ValueError("the acceptance batch is empty")
    mean = fmean(gaps)
    if mean > settings.epsilon:
        reason = f"mean Gap {mean:.3f} is above epsilon {settings.epsilon}"
    elif locality < settings.min_locality:
        reason = f"locality {locality:.3f} is below {settings.min_locality}"
    else:
        reason = f"mean Gap {mean:.3f} within {settings.epsilon}, locality {locality:.3f} near"
        return Verdict(True, mean, locality, reason)
    return Verdict(False, mean, locality, reason)
