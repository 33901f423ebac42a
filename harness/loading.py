"""From a task to the sessions that a run serves, with a record of what was left out and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from harness.errors import UserError
from harness.session import Session
from harness.session_hash import sessions_digest
from harness.spec import TaskSpec
from harness.task import Drop, Task

Filter = Callable[[Session], Drop | None]
"""Why a session is left out; None for one that stays."""


@dataclass(frozen=True)
class Loaded:
    """The sessions of one task, under the limits of its spec, in their canonical order."""

    sessions: tuple[Session, ...]
    dropped: tuple[Drop, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the sessions: equal on two machines that would serve the same."""
        return sessions_digest(self.sessions)


def load_sessions(task: Task, spec: TaskSpec, place: str, keep: Filter | None = None) -> Loaded:
    """The first `limit` sessions of `task` that `keep` lets through, cut to `max_turns`.

    All of the data are read, also under a limit: bad data must be found before a run begins. Only
    what will be served is held, and only as much is filtered as the limit wants. Raises UserError
    for bad data, for two sessions of one id, and where no session is left.
    """
    sessions: list[Session] = []
    dropped: list[Drop] = []
    seen: set[str] = set()
    for item in task.items():
        if isinstance(item, Drop):
            dropped.append(item)
            continue
        _check(item, seen, f"task {spec.name!r}", place)
        if spec.limit is not None and len(sessions) == spec.limit:
            continue
        why = keep(item) if keep is not None else None
        if why is not None:
            dropped.append(why)
        else:
            sessions.append(_shorten(item, spec.max_turns))
    if not sessions:
        reasons = ", ".join(sorted({drop.reason for drop in dropped}))
        left_out = f"; what was left out: {len(dropped)} ({reasons})" if dropped else ""
        raise UserError(place, f"task {spec.name!r} has no sessions{left_out}")
    return Loaded(tuple(sessions), tuple(dropped))


def _check(session: Session, seen: set[str], which: str, place: str) -> None:
    if session.id in seen:
        raise UserError(place, f"{which} has two sessions {session.id!r}")
    seen.add(session.id)
    if not session.turns:
        raise UserError(place, f"{which}: session {session.id!r} has no user turns")


def _shorten(session: Session, max_turns: int | None) -> Session:
    if max_turns is None or len(session.turns) <= max_turns:
        return session
    values = {f.name: getattr(session, f.name) for f in fields(session)}
    for name in ("turns", "references", "gold"):
        if values[name] is not None:
            values[name] = values[name][:max_turns]
    return Session(**values)
