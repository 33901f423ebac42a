"""Load: what was offered, what was served in which time, and how much of it was good enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.record import SessionRecord, TurnRecord
from harness.report.read import ALL, Cell, RunData, attempt
from harness.stats import Key, cluster_mean

_OBJECTIVES = ("ttft_s", "tpot_s", "e2e_s")


def load(data: RunData) -> list[dict[str, Any]]:
    """One entry per (task, method), then those over all tasks, as JSON values.

    Empty for a run without load (sessions one by one, no objectives), and for one whose machines
    are of several classes.
    """
    if not shows_load(data.spec) or data.timing_refused:
        return []
    return [_entry(data, task, m) for task in [*data.tasks, ALL] for m in data.methods]


def shows_load(spec: Mapping[str, Any]) -> bool:
    """Whether sessions could meet, or there is something that turns must not exceed."""
    return meets(spec) or bool(objectives(spec))


def meets(spec: Mapping[str, Any]) -> bool:
    """Whether sessions could be served at the same time; takes a spec or a summary."""
    return spec["concurrency"] > 1 or spec["arrival_rate"] is not None


def objectives(spec: Mapping[str, Any]) -> dict[str, float]:
    """The limits that were set, by the name of the time; empty: none."""
    found = spec["objectives"] or {}
    return {name: found[name] for name in _OBJECTIVES if found.get(name) is not None}


def is_good(turn: TurnRecord, limits: Mapping[str, float]) -> bool:
    """Whether a turn keeps every limit. A reply of one token has no TPOT that could exceed one.

    What a turn took with its retries counts: the user waited for it.
    """
    timing: Mapping[str, Any] = turn["timing"]
    return all(timing[name] is None or timing[name] <= most for name, most in limits.items())


def wall_s(sessions: Sequence[SessionRecord]) -> float:
    """The length of all windows: each from its beginning to the end of its last session."""
    ends: dict[str, float] = {}
    for session in sessions:
        seen = session["load"]
        if seen is not None:
            ends[seen["window"]] = max(seen["ended_s"], ends.get(seen["window"], 0.0))
    return sum(ends[name] for name in sorted(ends))


def _entry(data: RunData, task: str, method: str) -> dict[str, Any]:
    cell = data.of(task, method)
    wall = wall_s(cell.sessions)
    turns = [turn for session in cell.served for turn in session["turns"]]
    there = [s["load"]["ended_s"] - s["load"]["started_s"] for s in cell.sessions if s["load"]]
    calls = [call for turn in turns for call in turn["calls"]]
    return {
        "task": task,
        "method": method,
        "wall_s": wall,
        "windows": len({s["load"]["window"] for s in cell.sessions if s["load"]}),
        "at_once": _per(sum(there), wall),
        "reply_tokens_per_s": _per(sum(turn["tokens"]["output"] for turn in turns), wall),
        "output_tokens_per_s": _per(sum(call["output"] for call in calls), wall),
        "sessions_per_min": _per(60 * len(cell.served), wall),
        "goodput": _goodput(data, cell, wall),
    }


def _goodput(data: RunData, cell: Cell, wall: float) -> dict[str, Any] | None:
    """None without objectives. A failed session is not good, and neither is any of its turns."""
    limits = objectives(data.spec)
    if not limits:
        return None
    turns: dict[Key, float] = {}
    sessions: dict[Key, float] = {}
    for session in cell.sessions:
        if session["outcome"] in ("scored", "error"):
            good = [is_good(turn, limits) for turn in session["turns"]]
            if session["outcome"] == "error":
                good = [False] * data.turns_of[attempt(session)]
            place = attempt(session)
            turns |= {Key(*place, at): float(one) for at, one in enumerate(good, start=1)}
            sessions[Key(*place, 0)] = float(all(good))
    good_turns, good_sessions = int(sum(turns.values())), int(sum(sessions.values()))
    return {
        "good_turns": good_turns,
        "good_sessions": good_sessions,
        "turn_share": cluster_mean(turns),
        "session_share": cluster_mean(sessions),
        "good_turns_per_s": _per(good_turns, wall),
        "good_sessions_per_min": _per(60 * good_sessions, wall),
    }


def _per(amount: float, wall: float) -> float | None:
    return amount / wall if wall > 0 else None
