"""What a metric is, and the reading of one off the sessions of a method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from harness.record import SessionRecord
from harness.report.calls import retried, tries_failed
from harness.report.read import Cell
from harness.stats import Key

Level = Literal["turn", "session"]
Unit = Literal["s", "bytes", "usd", "tokens", "share", "turn", "tries"]


@dataclass(frozen=True)
class Metric:
    """`read` takes a turn (or a session, by `level`) and returns a number or None (unknown).

    `by_machine`: whether a value depends on the machine, so that values of unlike machines are
    never put together. `needs_queue`: whether it needs the wait inside the engine.
    """

    name: str
    unit: Unit
    level: Level
    read: Callable[[Any], float | None]
    percentiles: bool = False
    needs_queue: bool = False

    def by_machine(self, holder: Any) -> bool:
        if self.unit == "usd":
            return self.name != "usd_tokens" and paid_by_time(holder)
        return self.unit in ("s", "bytes")


@dataclass(frozen=True)
class Values:
    """A metric's values by place, and how many places have none."""

    known: dict[Key, float]
    unscored: int
    error: int
    skipped: int


def read_values(metric: Metric, cell: Cell) -> Values:
    """The values of `metric` over the served sessions; failed sessions are counted, not read.

    Unscored are unknown values; times of a turn (or session) in which a call was tried again; and
    what depends on the machine, where the run's machines are of several classes.
    """
    known: dict[Key, float] = {}
    unknown = 0
    for session in cell.served:
        for index, holder in _holders(metric.level, session):
            value = metric.read(holder) if _comparable(metric, holder, cell) else None
            if value is None:
                unknown += 1
            else:
                known[_key(session, index)] = float(value)
    return Values(known, unknown, *_failures(cell))


def paid_by_time(session: SessionRecord) -> bool:
    """Whether the session's dollars depend on how long it took."""
    cost = session["cost"]
    return cost is not None and cost["usd_busy"] is not None


def read_scores(scorer: str, cell: Cell) -> Values:
    """The same for a scorer's verdicts: `unscored` counts turns, the failures count sessions."""
    lines = [line for line in cell.scores if line["scorer"] == scorer]
    known = {
        Key(line["task"], line["session_id"], line["seed"], line["turn_index"]): line["value"]
        for line in lines
        if line["value"] is not None
    }
    return Values(
        known,
        sum(line["outcome"] == "unscored" for line in lines),
        sum(line["outcome"] == "error" for line in lines),
        sum(line["outcome"] == "skipped" for line in lines),
    )


def _comparable(metric: Metric, holder: Any, cell: Cell) -> bool:
    if metric.unit == "s" and _tried_again(metric.level, holder):
        return False
    if metric.needs_queue and holder["served_by"] in cell.hidden_queues:
        return False
    return not (cell.unlike_machines and metric.by_machine(holder))


def _tried_again(level: Level, holder: Any) -> bool:
    return retried(holder) if level == "session" else tries_failed(holder) > 0


def _holders(level: Level, session: SessionRecord) -> Iterator[tuple[int, Any]]:
    if level == "session":
        yield 0, session
    else:
        for turn in session["turns"]:
            yield turn["turn_index"], turn


def _failures(cell: Cell) -> tuple[int, int]:
    outcomes = [session["outcome"] for session in cell.sessions]
    return outcomes.count("error"), outcomes.count("skipped")


def _key(session: SessionRecord, turn_index: int) -> Key:
    return Key(session["task"], session["session_id"], session["seed"], turn_index)
