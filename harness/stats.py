"""Statistics that respect how turns come: in sessions. All bootstraps draw whole sessions.

Every estimator here is a ratio of two sums over clusters, T = sum(a_i) / sum(b_i):
- a mean over turns: a_i = sum of a session's values, b_i = their number;
- a mean difference from the reference: the same, of the paired differences;
- a relative difference: a_i = sum of the method's values, b_i = of the reference's, minus 1.
The interval is BCa (Efron 1987) at `LEVEL` from `RESAMPLES` seeded draws of clusters with
replacement; the acceleration is the jackknife's over clusters. Where the draws are all on one side
of the estimate (few clusters), the bias correction has no value and the percentile interval is
given. One cluster has no interval. With under about ten clusters any bootstrap interval is too
narrow; read it as a lower bound on the uncertainty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harness.errors import BenchError
from harness.record import Estimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 2000
SEED = 20260  # of the draws; the same for every column, so that equal data give equal intervals
PERCENTILE_MINIMUM: Mapping[int, int] = MappingProxyType({50: 20, 90: 20, 95: 40, 99: 100})
"""The least n at which a percentile is shown."""

_LISTED = 5  # sessions spelled out in a message; the error's fields hold all
_CHUNK = 4_000_000  # cluster draws held in memory at once


@dataclass(frozen=True, order=True)
class Key:
    """Where a value belongs. (task, session_id) is the cluster: seeds of one session share it."""

    task: str
    session_id: str
    seed: int
    turn_index: int

    @property
    def cluster(self) -> tuple[str, str]:
        return (self.task, self.session_id)

    @property
    def attempt(self) -> tuple[str, str, int]:
        return (self.task, self.session_id, self.seed)


Attempt = tuple[str, str, int]
"""(task, session_id, seed)"""


class UnpairedSessions(BenchError):
    """Two methods did not serve the same sessions; `only_first` and `only_second` list them."""

    def __init__(self, only_first: Iterable[Attempt], only_second: Iterable[Attempt]) -> None:
        self.only_first = sorted(only_first)
        self.only_second = sorted(only_second)
        parts = [
            f"only the {who} has {_list(sessions)}"
            for who, sessions in (("method", self.only_first), ("reference", self.only_second))
            if sessions
        ]
        super().__init__(f"session sets differ: {'; '.join(parts)}")


def require_same_sessions(first: Iterable[Attempt], second: Iterable[Attempt]) -> None:
    """Raises UnpairedSessions, which lists them, when a session is in one set alone."""
    left, right = set(first), set(second)
    if left != right:
        raise UnpairedSessions(left - right, right - left)


def no_estimate() -> Estimate:
    """The estimate of nothing."""
    return {"mean": None, "n": 0, "low": None, "high": None}


def cluster_mean(values: Mapping[Key, float], *, seed: int = SEED) -> Estimate:
    """Mean over turns (each turn weighs the same) with a session-cluster bootstrap interval."""
    if not values:
        return no_estimate()
    sums = _sums(values)
    counts = _sums(dict.fromkeys(values, 1.0))
    clusters = sorted(sums)
    return _estimate([sums[c] for c in clusters], [counts[c] for c in clusters], len(values), seed)


def paired_difference(
    values: Mapping[Key, float], reference: Mapping[Key, float], *, seed: int = SEED
) -> Estimate:
    """Mean of value minus reference over the turns that both have, clustered by session.

    `n` counts those turns. Raises UnpairedSessions when the sessions differ.
    """
    pairs = _pairs(values, reference)
    return cluster_mean({key: ours - theirs for key, (ours, theirs) in pairs.items()}, seed=seed)


def paired_relative(
    values: Mapping[Key, float], reference: Mapping[Key, float], *, seed: int = SEED
) -> Estimate:
    """Sum of values over sum of reference values, minus 1, over the turns that both have.

    All None when the reference's sum is not positive. Raises UnpairedSessions.
    """
    pairs = _pairs(values, reference)
    ours = _sums({key: pair[0] for key, pair in pairs.items()})
    theirs = _sums({key: pair[1] for key, pair in pairs.items()})
    clusters = sorted(ours)
    if any(theirs[c] < 0 for c in clusters) or sum(theirs.values()) <= 0:
        return no_estimate()
    ratio = _estimate([ours[c] for c in clusters], [theirs[c] for c in clusters], len(pairs), seed)
    for bound in ("mean", "low", "high"):
        value = ratio[bound]
        ratio[bound] = None if value is None else value - 1
    return ratio


def percentile(values: Sequence[float], share: int, *, failures: int = 0) -> float | None:
    """The nearest-rank percentile: the least value with at least `share` % of values at or under.

    `failures` more values count as +inf (the `adj_` view), so the answer may be `inf`. None when
    there are fewer values, failures included, than `PERCENTILE_MINIMUM` wants for this `share`.
    """
    total = len(values) + failures
    if total < PERCENTILE_MINIMUM[share]:
        return None
    rank = ceil(total * share / 100)
    return sorted(values)[rank - 1] if rank <= len(values) else inf


def _list(sessions: list[Attempt]) -> str:
    names = [f"{task}/{session_id} (seed {seed})" for task, session_id, seed in sessions[:_LISTED]]
    more = len(sessions) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _pairs(
    values: Mapping[Key, float], reference: Mapping[Key, float]
) -> dict[Key, tuple[float, float]]:
    require_same_sessions((k.attempt for k in values), (k.attempt for k in reference))
    return {key: (values[key], reference[key]) for key in values if key in reference}


def _sums(values: Mapping[Key, float]) -> dict[tuple[str, str], float]:
    sums: dict[tuple[str, str], float] = {}
    for key in sorted(values):  # in a fixed order: floating-point sums depend on it
        sums[key.cluster] = sums.get(key.cluster, 0.0) + values[key]
    return sums


def _estimate(above: list[float], below: list[float], n: int, seed: int) -> Estimate:
    import numpy as np

    tops, bottoms = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
    mean = float(tops.sum() / bottoms.sum())
    low, high = _bca(tops, bottoms, mean, seed)
    return {"mean": mean, "n": n, "low": low, "high": high}


def _bca(
    tops: NDArray[np.float64], bottoms: NDArray[np.float64], mean: float, seed: int
) -> tuple[float | None, float | None]:
    import numpy as np
    from scipy.special import ndtr, ndtri

    if len(tops) < 2:
        return None, None
    draws = _draw(tops, bottoms, seed)
    spread = 1e-12 * max(1.0, abs(mean))
    if np.ptp(draws) <= spread:  # all alike up to rounding
        return mean, mean
    tail = (1 - LEVEL) / 2
    tails = np.array([tail, 1 - tail])
    under = float(np.mean(draws < mean - spread) + np.mean(abs(draws - mean) <= spread) / 2)
    if 0 < under < 1:
        bias, acceleration = ndtri(under), _acceleration(tops, bottoms)
        shifted = bias + ndtri(tails)
        adjusted = ndtr(bias + shifted / (1 - acceleration * shifted))
        tails = adjusted if np.all(np.isfinite(adjusted)) else tails
    low, high = np.quantile(draws, tails)
    return float(low), float(high)


def _draw(
    tops: NDArray[np.float64], bottoms: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    """`RESAMPLES` values of the ratio, each over clusters drawn with replacement."""
    import numpy as np

    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // len(tops))
    parts: list[Any] = []
    for start in range(0, RESAMPLES, rows):
        chosen = rng.integers(len(tops), size=(min(rows, RESAMPLES - start), len(tops)))
        parts.append((tops[chosen].sum(axis=1), bottoms[chosen].sum(axis=1)))
    above = np.concatenate([part[0] for part in parts])
    below = np.concatenate([part[1] for part in parts])
    usable = below > 0  # a draw of sessions whose reference sum is zero has no ratio
    return np.asarray(above[usable] / below[usable], dtype=np.float64)


def _acceleration(tops: NDArray[np.float64], bottoms: NDArray[np.float64]) -> float:
    import numpy as np

    rest = bottoms.sum() - bottoms
    if np.any(rest <= 0):
        return 0.0
    without = (tops.sum() - tops) / rest
    gaps = without.mean() - without
    scale = float((gaps**2).sum()) ** 1.5
    skew = float((gaps**3).sum()) / (6 * scale) if scale > 0 else 0.0
    return skew if isfinite(skew) else 0.0
