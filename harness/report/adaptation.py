"""What the records say of adaptation: its events, and how many sessions each came about in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypedDict

from harness.record import EventRecord, SessionRecord
from harness.report.read import Cell

KINDS = ("mined", "adapted", "gate", "switched", "drift_check", "rolled_back")
"""The events of adaptation, in the order in which a session goes through them."""


class AdaptationCounts(TypedDict):
    """Served sessions of one method on one task. The gate counts by a session's last verdict."""

    sessions: int
    switched: int
    gate_accepted: int
    gate_refused: int
    rolled_back: int


def adaptation_events(session: SessionRecord) -> Iterator[tuple[int, EventRecord]]:
    """(turn index, event) of every event of adaptation, in the order they were noted."""
    for turn in session["turns"]:
        for event in turn["events"]:
            if event["kind"] in KINDS:
                yield turn["turn_index"], event


def has(session: SessionRecord, kinds: Iterable[str]) -> bool:
    """Whether the session has an event of one of `kinds`."""
    wanted = set(kinds)
    return any(event["kind"] in wanted for _, event in adaptation_events(session))


def never_switchable(cell: Cell) -> int | None:
    """Sessions too short to show a change of models; None for a method that makes none."""
    known = [s["never_switchable"] for s in cell.served if s["never_switchable"] is not None]
    return sum(known) if known else None


def adaptation_counts(cell: Cell) -> AdaptationCounts | None:
    """None for a method without adaptation: no such event, and no say on switchable sessions."""
    served = cell.served
    if never_switchable(cell) is None and not any(has(session, KINDS) for session in served):
        return None
    verdicts = [_last_verdict(session) for session in served]
    return {
        "sessions": len(served),
        "switched": sum(has(session, ["switched"]) for session in served),
        "gate_accepted": verdicts.count(True),
        "gate_refused": verdicts.count(False),
        "rolled_back": sum(has(session, ["rolled_back"]) for session in served),
    }


def _last_verdict(session: SessionRecord) -> bool | None:
    verdicts = [e["data"]["accepted"] for _, e in adaptation_events(session) if e["kind"] == "gate"]
    return bool(verdicts[-1]) if verdicts else None
