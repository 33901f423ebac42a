"""Planted drift: whether alarms came where a session shifts, and only there.

A session with `shift_turn` in its metadata takes part: spliced where it names a turn, a control
where it is null. docs/metrics.md ("Planted drift") defines every number.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from harness.record import SessionRecord, TurnRecord
from harness.report.metrics import read_scores
from harness.report.read import Cell, RunData, attempt
from harness.stats import cluster_mean

SHIFT = "shift_turn"
COMPARE_FROM = "compare_from"
"""In a control's metadata: from which turn on its scores stand beside those after a shift."""

_CHECK, _BACK, _SWITCH = "drift_check", "rolled_back", "switched"


def planted_drift(data: RunData) -> list[dict[str, Any]]:
    """One entry per (task, method) that served spliced sessions or controls, as JSON values."""
    entries = []
    for task in data.tasks:
        for method in data.methods:
            cell = data.of(task, method)
            watches = [_watch(s) for s in cell.served if _takes_part(s)]
            if watches:
                entries.append(_entry(task, method, watches, cell, data.scorers[task]))
    return entries


@dataclass(frozen=True)
class Watch:
    """What happened in one session, by turn index.

    `shift` is None for a control. `watched`: whether a drift monitor was at work in it.
    """

    session: SessionRecord
    shift: int | None
    g_turns: frozenset[int]
    switches: tuple[int, ...]
    alarms: tuple[int, ...]
    watched: bool

    @property
    def on_g_before_shift(self) -> bool:
        return self.shift is not None and self.shift - 1 in self.g_turns

    @property
    def early_alarms(self) -> tuple[int, ...]:
        """Alarms of a spliced session before its shift: nothing had shifted yet."""
        return tuple(t for t in self.alarms if self.shift is not None and t < self.shift)

    @property
    def detectable(self) -> bool:
        """A monitor watches G at the shift, and has not called this stay with G off already."""
        if self.shift is None or not self.watched or not self.on_g_before_shift:
            return False
        since = max((t for t in self.switches if t < self.shift), default=1)
        return not any(t >= since for t in self.early_alarms)

    @property
    def delay(self) -> int | None:
        """Turns from the shift to the first alarm after it; 0 at the turn of the shift itself."""
        if self.shift is None or not self.detectable:
            return None
        return next((t - self.shift for t in self.alarms if t >= self.shift), None)


def _takes_part(session: SessionRecord) -> bool:
    """Not when a limit on turns cut the session before its shift: nothing shifts in it then."""
    if SHIFT not in session["metadata"]:
        return False
    shift = session["metadata"][SHIFT]
    return shift is None or any(turn["turn_index"] >= shift for turn in session["turns"])


def _watch(session: SessionRecord) -> Watch:
    turns = session["turns"]
    return Watch(
        session=session,
        shift=session["metadata"][SHIFT],
        g_turns=frozenset(t["turn_index"] for t in turns if t["served_by"] == "G"),
        switches=tuple(t["turn_index"] for t in turns if _notes(t, _SWITCH)),
        alarms=tuple(t["turn_index"] for t in turns if _alarmed(t)),
        watched=any(_notes(t, _CHECK) or _notes(t, _BACK) for t in turns),
    )


def _notes(turn: TurnRecord, kind: str) -> bool:
    return any(event["kind"] == kind for event in turn["events"])


def _alarmed(turn: TurnRecord) -> bool:
    """Rolled back, or a check says that it would have been (where rollback is off)."""
    checks = [event["data"] for event in turn["events"] if event["kind"] == _CHECK]
    return _notes(turn, _BACK) or any(check.get("alarm") is True for check in checks)


def _entry(
    task: str, method: str, watches: list[Watch], cell: Cell, scorers: Iterable[str]
) -> dict[str, Any]:
    spliced = [w for w in watches if w.shift is not None]
    controls = [w for w in watches if w.shift is None]
    detectable = [w for w in spliced if w.detectable]
    delays = [w.delay for w in detectable if w.delay is not None]
    at_risk = [w for w in controls if w.watched and w.g_turns]
    false = [w for w in at_risk if w.alarms]
    return {
        "task": task,
        "method": method,
        "spliced": len(spliced),
        "controls": len(controls),
        "switched_before_shift": sum(w.on_g_before_shift for w in spliced),
        "alarmed_before_shift": sum(bool(w.early_alarms) for w in spliced),
        "detectable": len(detectable),
        "detected": len(delays),
        "detection_rate": _share(len(delays), len(detectable)),
        "delay_turns": fmean(delays) if delays else None,
        "controls_switched": len(at_risk),
        "false_rollbacks": len(false),
        "false_rollback_rate": _share(len(false), len(at_risk)),
        "after_shift": _scores(spliced, cell, scorers),
        "control_scores": _scores(controls, cell, scorers),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _scores(watches: list[Watch], cell: Cell, scorers: Iterable[str]) -> dict[str, Any]:
    """Per scorer the mean over the turns from the shift on (of a control, from `compare_from`)."""
    start = {attempt(w.session): _start(w) for w in watches}
    return {name: _mean(name, cell, start) for name in scorers}


def _mean(name: str, cell: Cell, start: dict[tuple[str, str, int], int]) -> dict[str, Any]:
    known = read_scores(name, cell).known
    late = {
        key: value
        for key, value in known.items()
        if key.attempt in start and key.turn_index >= start[key.attempt]
    }
    return {**cluster_mean(late), "clusters": len({key.cluster for key in late})}


def _start(watch: Watch) -> int:
    if watch.shift is not None:
        return watch.shift
    found: int = watch.session["metadata"].get(COMPARE_FROM) or 1
    return found
