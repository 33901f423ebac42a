"""The break-even turn against hand-worked cases."""

from __future__ import annotations

from typing import Any, cast

import pytest

from harness.record import SessionRecord
from harness.report.break_even import BreakEven, break_even, first_lasting, mean_so_far
from harness.report.read import Cell


def cell(*costs: list[float], usd: list[float] | None = None, scored: bool = True) -> Cell:
    """A session per list of busy seconds; `usd`: dollars of the first session's turns."""
    sessions = []
    for number, busy in enumerate(costs):
        prices = usd if usd is not None and number == 0 else [None] * len(busy)
        turns: list[dict[str, Any]] = [
            {"busy_s": s, "usd": p, "calls": []} for s, p in zip(busy, prices, strict=True)
        ]
        outcome = "scored" if scored else "error"
        head: dict[str, Any] = {
            "task": "chat", "session_id": f"c{number}", "seed": 0, "cost": {"usd_busy": None},
        }  # fmt: skip
        sessions.append(head | {"outcome": outcome, "turns": turns if scored else []})
    return Cell(cast("tuple[SessionRecord, ...]", tuple(sessions)), ())


def reached(turn: int | None, measure: str | None, sessions: int, longest: int) -> BreakEven:
    return cast(
        BreakEven,
        {
            "turn": turn,
            "measure": measure,
            "sessions": sessions,
            "longest": longest,
            "retried": 0,
            "refused": None,
        },
    )


@pytest.mark.parametrize(
    ("ours", "turn"),
    [
        # The reference's sums so far are 2, 4, 6, 8.
        ([1, 1, 1, 1], 1),  # 1, 2, 3, 4: cheaper from the first turn
        ([2, 2, 2, 2], 1),  # equal is not above
        ([1, 7, 1, 0], None),  # 1, 8, 9, 9: cheaper once, and never for good
        ([4, 1, 1, 1], 3),  # 4, 5, 6, 7: reached at turn 3, by being equal
        ([5, 1, 1, 1], 4),  # 5, 6, 7, 8: only at the last turn
        ([5, 2, 1, 1], None),  # 5, 7, 8, 9: not reached
        ([1, 5, 0, 1], 3),  # 1, 6, 6, 7: below, above, and below again: the second counts
    ],
)
def test_one_session(ours: list[float], turn: int | None) -> None:
    assert break_even(cell(ours), cell([2, 2, 2, 2])) == reached(turn, "busy_s", 1, 4)


def test_sessions_of_unequal_length() -> None:
    """A session that has ended keeps its whole cost.

    Ours: 5, then 5 + 0 and so on for the short session; 2, 3, 4, 5 for the long one.
    C = 3.5, 4, 4.5, 5 against 2, 4, 5, 6 of the reference (2, 4, 4, 4 and 2, 4, 6, 8).
    """
    ours, theirs = cell([5, 0], [2, 1, 1, 1]), cell([2, 2], [2, 2, 2, 2])
    assert mean_so_far([[5, 0], [2, 1, 1, 1]], 4) == [3.5, 4, 4.5, 5]
    assert mean_so_far([[2, 2], [2, 2, 2, 2]], 4) == [2, 4, 5, 6]
    assert break_even(ours, theirs) == reached(2, "busy_s", 2, 4)


def test_dollars_count_where_every_turn_knows_them() -> None:
    """By time the method is cheaper at once; by dollars 3, 3 against 1, 3 only at turn 2."""
    ours = cell([1, 1], usd=[3, 0])
    assert break_even(ours, cell([2, 2], usd=[1, 2])) == reached(2, "usd", 1, 2)


def test_one_unknown_price_makes_it_time() -> None:
    ours = cell([1, 1], usd=[3, 0])
    assert break_even(ours, cell([2, 2])) == reached(1, "busy_s", 1, 2)
    mixed = cell([1, 1], [1, 1], usd=[3, 0])  # its second session knows no dollars
    other = cell([2, 2], [2, 2], usd=[1, 2])
    assert break_even(mixed, other) == reached(1, "busy_s", 2, 2)


def test_only_sessions_that_both_served_count() -> None:
    """The second session, in which the reference failed, would have made it not reached."""
    failed = cell([], [], scored=False).sessions[1]
    reference = Cell((*cell([2, 2]).sessions, failed), ())
    assert break_even(cell([1, 1], [99, 99]), reference) == reached(1, "busy_s", 1, 2)


def test_no_session_that_both_served() -> None:
    assert break_even(cell([1]), cell([1], scored=False)) == reached(None, None, 0, 0)


def test_unequal_session_sets_are_refused() -> None:
    found = break_even(cell([1]), cell([2], [2]))
    assert (found["turn"], found["measure"]) == (None, None)
    assert found["refused"] == "session sets differ: only the reference has chat/c1 (seed 0)"


def test_nothing_is_reached_over_no_turns() -> None:
    assert first_lasting([], []) is None
