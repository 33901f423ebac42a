"""Scoring a run folder: `scores.jsonl` as a pure function of the manifest and the sessions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.quality.base import Item, Resources, Scorer, Unscored, Value
from harness.record import Manifest, Outcome, ScoreRecord, SessionRecord
from harness.store import (
    MANIFEST,
    SCORES,
    SESSIONS,
    key_of,
    read_manifest,
    read_sessions,
    write_text_atomically,
)

Progress = Callable[[str, int, int], None]
"""Told (scorer, turns done, turns in all) before the first and after every batch of turns."""

_BATCH = 256


def score_run(
    run: Path,
    *,
    make_scorer: Callable[[str], Scorer],
    encoder_dir: Path | None,
    progress: Progress,
) -> Path:
    """Score every served turn of `run` and write `scores.jsonl` atomically; returns its path.

    The same sessions give the same bytes, in whatever order they finished. A session that was not
    served leaves one line per scorer, at turn 0, with its own outcome. Where a scorer compares with
    the reference method, that method's own replies have the scorer's `self_value` by definition.
    Raises UserError for a folder that is no run, or holds a session twice.
    """
    manifest = read_manifest(run)
    sessions = sessions_by_key(run)
    scorers = scorers_by_task(manifest, run)
    resources = Resources(encoder_dir)
    lines: list[ScoreRecord] = []
    for name in sorted({name for names in scorers.values() for name in names}):
        mine = [r for r in sessions if name in scorers.get(r["task"], ())]
        lines += _unserved(name, mine)
        lines += _served(name, mine, manifest, make_scorer(name), resources, progress)
    lines.sort(key=_place)
    text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
    write_text_atomically(run / SCORES, text)
    return run / SCORES


def sessions_by_key(run: Path) -> list[SessionRecord]:
    """The sessions of a run sorted by key. Raises UserError when one is there twice."""
    records = sorted(read_sessions(run), key=key_of)
    for one, other in pairwise(records):
        if key_of(one) == key_of(other):
            raise UserError(run / SESSIONS, f"holds {tuple(key_of(one))} twice")
    return records


def scorers_by_task(manifest: Manifest, run: Path) -> dict[str, tuple[str, ...]]:
    """The scorers of every task of the run. Raises UserError where the manifest names none."""
    found = {}
    for task in manifest["spec"]["tasks"]:
        if task["scorers"] is None:
            raise UserError(
                run / MANIFEST, f"spec.tasks: {task['name']!r} has no scorers; it must list them"
            )
        found[task["name"]] = tuple(task["scorers"])
    return found


def _place(line: ScoreRecord) -> tuple[str, str, str, int, int, str]:
    return (
        line["method"],
        line["task"],
        line["session_id"],
        line["seed"],
        line["turn_index"],
        line["scorer"],
    )


def _unserved(scorer: str, sessions: Iterable[SessionRecord]) -> Iterator[ScoreRecord]:
    for session in sessions:
        if session["outcome"] != "scored":
            yield _line(session, 0, scorer, session["outcome"], None, session["reason"])


def _served(
    name: str,
    sessions: Iterable[SessionRecord],
    manifest: Manifest,
    scorer: Scorer,
    resources: Resources,
    progress: Progress,
) -> Iterator[ScoreRecord]:
    served = [r for r in sessions if r["outcome"] == "scored"]
    reference = manifest["spec"]["reference"]
    replies = _replies(r for r in served if r["method"] == reference)
    why_missing = _why_missing(reference, sessions)
    items = [
        (session, turn["turn_index"], _item(session, turn, replies))
        for session in served
        for turn in session["turns"]
    ]
    progress(name, 0, len(items))
    for start in range(0, len(items), _BATCH):
        batch = items[start : start + _BATCH]
        values = scorer.values([item for _, _, item in batch], resources)
        for (session, turn_index, item), value in zip(batch, values, strict=True):
            if scorer.needs == "reference_reply":
                if item.reference_reply is None:
                    value = Unscored(why_missing(session))
                elif session["method"] == reference and not isinstance(value, Unscored):
                    value = scorer.self_value if scorer.self_value is not None else value
            yield _verdict(session, turn_index, name, value)
        progress(name, min(start + _BATCH, len(items)), len(items))


def _replies(sessions: Iterable[SessionRecord]) -> dict[tuple[str, str, int, int], str]:
    return {
        (s["task"], s["session_id"], s["seed"], turn["turn_index"]): turn["reply"]
        for s in sessions
        for turn in s["turns"]
    }


def _why_missing(
    reference: str | None, sessions: Iterable[SessionRecord]
) -> Callable[[SessionRecord], str]:
    """Says why a session has no reference replies to compare with."""
    outcomes = {
        (s["task"], s["session_id"], s["seed"]): s["outcome"]
        for s in sessions
        if s["method"] == reference
    }

    def why(session: SessionRecord) -> str:
        if reference is None:
            return "the run has no reference method"
        outcome = outcomes.get((session["task"], session["session_id"], session["seed"]), "missing")
        if outcome == "scored":
            return f"reference method {reference}: its session has no such turn"
        return f"reference method {reference}: its session is {outcome}"

    return why


def _item(session: SessionRecord, turn: Any, replies: dict[tuple[str, str, int, int], str]) -> Item:
    index = turn["turn_index"]
    gold = session["gold"]
    return Item(
        user=turn["user"],
        reply=turn["reply"],
        reference_reply=replies.get(
            (session["task"], session["session_id"], session["seed"], index)
        ),
        gold=gold[index - 1] if gold is not None else None,
    )


def _verdict(session: SessionRecord, turn_index: int, scorer: str, value: Value) -> ScoreRecord:
    if isinstance(value, Unscored):
        return _line(session, turn_index, scorer, "unscored", None, value.reason)
    return _line(session, turn_index, scorer, "scored", value, None)


def _line(
    session: SessionRecord,
    turn_index: int,
    scorer: str,
    outcome: Outcome,
    value: float | None,
    reason: str | None,
) -> ScoreRecord:
    return ScoreRecord(
        method=session["method"],
        task=session["task"],
        session_id=session["session_id"],
        seed=session["seed"],
        turn_index=turn_index,
        scorer=scorer,
        outcome=outcome,
        value=value,
        reason=reason,
    )
