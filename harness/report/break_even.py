"""The break-even turn: from where on a method's sessions have cost no more than the reference's.

C(t) is the mean, over the sessions that both served, of the cost of a session's first t turns (of
all its turns, where it has fewer). The break-even turn is the least t such that C(t') of the method
is at most C(t') of the reference for every t' from t to the longest session's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, TypedDict

from harness.record import SessionRecord, TurnRecord
from harness.report.calls import retried
from harness.report.metrics import paid_by_time
from harness.report.read import Cell, attempt
from harness.stats import UnpairedSessions, require_same_sessions

Measure = Literal["usd", "busy_s"]

_UNLIKE = "the sessions were served on machines of several classes"


class BreakEven(TypedDict):
    """`turn`: None where it is not reached. `measure`: what counts as cost, None without sessions.

    `sessions`: how many both served. `longest`: turns of the longest of them. `retried`: how many
    sessions were left out since their cost goes by time and a call was tried again. `refused`: why
    there is none, where the session sets differ or costs go by the time of unlike machines.
    """

    turn: int | None
    measure: Measure | None
    sessions: int
    longest: int
    retried: int
    refused: str | None


def break_even(ours: Cell, reference: Cell) -> BreakEven:
    """Of a method against the reference: dollars where every turn knows them, else busy seconds."""
    try:
        require_same_sessions(map(attempt, ours.sessions), map(attempt, reference.sessions))
    except UnpairedSessions as error:
        return _nothing(refused=str(error))
    left, right = _by_attempt(ours), _by_attempt(reference)
    shared = [(left[key], right[key]) for key in sorted(left.keys() & right.keys())]
    every_turn = [turn for pair in shared for session in pair for turn in session["turns"]]
    measure: Measure = "usd" if all(t["usd"] is not None for t in every_turn) else "busy_s"
    by_time = measure == "busy_s" or any(paid_by_time(s) for pair in shared for s in pair)
    if shared and by_time and ours.unlike_machines:
        return _nothing(refused=_UNLIKE)
    pairs = [pair for pair in shared if not (by_time and any(map(retried, pair)))]
    left_out = len(shared) - len(pairs)
    if not pairs:
        return _nothing(left_out=left_out)
    longest = max(len(session["turns"]) for pair in pairs for session in pair)
    mine = mean_so_far([_costs(session["turns"], measure) for session, _ in pairs], longest)
    theirs = mean_so_far([_costs(session["turns"], measure) for _, session in pairs], longest)
    return {
        "turn": first_lasting(mine, theirs),
        "measure": measure,
        "sessions": len(pairs),
        "longest": longest,
        "retried": left_out,
        "refused": None,
    }


def mean_so_far(costs: Sequence[Sequence[float]], longest: int) -> list[float]:
    """C(1) to C(longest) from each session's cost per turn; a session that has ended stays."""
    totals = [list(accumulate(session, initial=0.0)) for session in costs]
    return [
        sum(total[min(turn, len(total) - 1)] for total in totals) / len(totals)
        for turn in range(1, longest + 1)
    ]


def first_lasting(ours: Sequence[float], theirs: Sequence[float]) -> int | None:
    """The least turn (from 1) from which on `ours` is never above `theirs`; None for no turn."""
    found = None
    for turn in range(len(ours), 0, -1):
        if ours[turn - 1] > theirs[turn - 1]:
            break
        found = turn
    return found


def _by_attempt(cell: Cell) -> dict[tuple[str, str, int], SessionRecord]:
    return {attempt(session): session for session in cell.served}


def _costs(turns: Sequence[TurnRecord], measure: Measure) -> list[float]:
    if measure == "busy_s":
        return [turn["busy_s"] for turn in turns]
    return [turn["usd"] for turn in turns if turn["usd"] is not None]


def _nothing(*, refused: str | None = None, left_out: int = 0) -> BreakEven:
    return {
        "turn": None,
        "measure": None,
        "sessions": 0,
        "longest": 0,
        "retried": left_out,
        "refused": refused,
    }
