"""Stage 3, the drift monitor: has the session left what G was adapted to?

Locality is known for every query. The Gap is known where F was asked as well (a shadow probe). A
check fails when the moving Gap is above its threshold (the paper), when the query is not near the
warm start (the released code), or when either is so, by `signal`. `m_cons` failed checks in a row
raise the alarm.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

Signal = Literal["gap", "locality", "both"]
Probe = Literal["scheduled", "borderline", "confirming"]


@dataclass(frozen=True)
class DriftSettings:
    """`window`: Gaps in the moving mean. `probe_every`: turns between probes, 0 for none.

    A query whose locality is under `min_locality` + `margin` is borderline and probed as well, and
    so is the turn after a failed check, unless `probe_every` is 0.
    """

    signal: Signal
    min_locality: float
    threshold: float = 0.30
    window: int = 4
    m_cons: int = 2
    probe_every: int = 3
    margin: float = 0.05


@dataclass(frozen=True)
class Check:
    """What one turn came to. `moving_gap` is None before the first probe."""

    locality: float
    gap: float | None
    moving_gap: float | None
    failed: bool
    consecutive: int
    alarm: bool


class DriftMonitor:
    """The state of one stay with G."""

    def __init__(self, settings: DriftSettings) -> None:
        self._settings = settings
        self._gaps: deque[float] = deque(maxlen=settings.window)
        self._consecutive = 0
        self._since_probe = 0

    def raises_alarm(self, locality: float) -> bool:
        """Whether a query's locality alone, before it is answered, completes m_cons failures."""
        far = self._is_far(locality)
        return far and self._consecutive + 1 >= self._settings.m_cons

    def wants_probe(self, locality: float) -> Probe | None:
        """Whether F should be asked this turn as well, and why."""
        settings = self._settings
        if settings.probe_every == 0:
            return None
        self._since_probe += 1
        if self._since_probe >= settings.probe_every:
            return "scheduled"
        if locality < settings.min_locality + settings.margin:
            return "borderline"
        return "confirming" if self._consecutive else None

    def check(self, locality: float, gap: float | None) -> Check:
        """Judge a turn; `gap` where it was probed.

        A turn without any news for the signal (no probe, for "gap") leaves the count as it was.
        """
        settings = self._settings
        if gap is not None:
            self._gaps.append(gap)
            self._since_probe = 0
        moving = fmean(self._gaps) if self._gaps else None
        wide = settings.signal != "locality" and gap is not None and _above(moving, settings)
        failed = wide or self._is_far(locality)
        if failed:
            self._consecutive += 1
        elif gap is not None or settings.signal != "gap":
            self._consecutive = 0
        alarm = failed and self._consecutive >= settings.m_cons
        return Check(locality, gap, moving, failed, self._consecutive, alarm)

    def _is_far(self, locality: float) -> bool:
        return self._settings.signal != "gap" and locality < self._settings.min_locality


def _above(moving: float | None, settings: DriftSettings) -> bool:
    return moving is not None and moving > settings.threshold
