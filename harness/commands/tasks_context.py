"""`tasks context`: what the context filter makes of a task's sessions, to see before a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from harness.commands.tasks_open import open_task
from harness.context.filter import ContextFilter, Verdict
from harness.context.settings import ContextSettings
from harness.errors import UserError, nearest
from harness.report.render_console import to_console
from harness.report.table import Column, Table, Value
from harness.session import Session

_SESSIONS = (
    Column("session", "Session"),
    Column("kept", "Kept"),
    Column("later", "Later turns", "", "d"),
    Column("share", "Depend", "share", ".2f"),
    Column("mean", "Mean score", "", ".3f"),
)
_TURNS = (
    Column("turn", "Turn", "", "d"),
    Column("depends", "Depends"),
    Column("score", "Score", "", ".3f"),
    Column("cues", "Cues"),
    Column("user", "User"),
)
_WIDTH = 60


def show_context(
    name: str,
    path: Path | None,
    args: Sequence[str],
    *,
    session: str | None,
    limit: int | None,
    threshold: float | None,
    min_share: float | None,
    as_json: bool,
) -> None:
    """Print the filter's verdicts on the first `limit` sessions, or on every turn of one.

    `threshold` and `min_share`: instead of the filter's defaults. Raises UserError for wrong
    arguments or data.
    """
    given = {"threshold": threshold, "min_share": min_share}
    settings = ContextSettings().model_copy(
        update={key: value for key, value in given.items() if value is not None}
    )
    sessions = _chosen(open_task(name, path, args).sessions(), session, limit)
    console = Console(stderr=True, emoji=False)
    judge = ContextFilter(settings)
    try:
        shown = track(sessions, "judging", console=console, disable=not console.is_terminal)
        verdicts = [(s, judge.judge(s)) for s in shown]
    finally:
        judge.close()
    if as_json:
        print(json.dumps([_as_json(s, verdict) for s, verdict in verdicts], ensure_ascii=False))
    else:
        table = _turns(*verdicts[0]) if session else _sessions(verdicts, settings)
        Console(emoji=False).print(to_console(table))


def _chosen(sessions: Iterator[Session], name: str | None, limit: int | None) -> list[Session]:
    if name is None:
        return list(islice(sessions, limit))
    ids = []
    for session in sessions:
        if session.id == name:
            return [session]
        ids.append(session.id)
    raise UserError("--session", f"there is no session {name!r}; {nearest(name, ids)}")


def _sessions(verdicts: Sequence[tuple[Session, Verdict]], settings: ContextSettings) -> Table:
    kept = sum(verdict.keep for _, verdict in verdicts)
    rows: list[dict[str, Value]] = [
        {
            "session": session.id,
            "kept": "yes" if verdict.keep else "no",
            "later": len(verdict.turns),
            "share": verdict.share,
            "mean": verdict.mean,
        }
        for session, verdict in verdicts
    ]
    return Table(
        "context",
        "What depends on its context",
        f"{kept} of {len(rows)} sessions kept: at least {settings.min_share:.0%} of their later "
        f"turns score {settings.threshold} or more.",
        _SESSIONS,
        tuple(rows),
    )


def _turns(session: Session, verdict: Verdict) -> Table:
    rows: list[dict[str, Value]] = [
        {
            "turn": turn.turn_index,
            "depends": "yes" if turn.depends else "no",
            "score": turn.score,
            "cues": ", ".join(turn.cues),
            "user": _short(session.turns[turn.turn_index - 1]),
        }
        for turn in verdict.turns
    ]
    kept = "kept" if verdict.keep else "left out"
    return Table("context", session.id, f"{session.id}: {kept}.", _TURNS, tuple(rows))


def _as_json(session: Session, verdict: Verdict) -> dict[str, Any]:
    return {
        "session": session.id,
        "keep": verdict.keep,
        "share": verdict.share,
        "mean": verdict.mean,
        "turns": [
            {"turn": t.turn_index, "score": t.score, "depends": t.depends, "cues": list(t.cues)}
            for t in verdict.turns
        ],
    }


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _WIDTH else f"{words[: _WIDTH - 3]}..."
