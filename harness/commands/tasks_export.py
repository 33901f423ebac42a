"""`tasks export`: the sessions of a task as a file that other programs read, and this one too."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import click

from harness.data.forms import Form
from harness.errors import UserError, nearest
from harness.session import Session
from harness.task import Task

_Writer = Callable[[Iterator[Session]], Iterator[str]]
"""From sessions to the pieces of the file."""


def export_task(task: Task, form: str, out: Path | None) -> None:
    """Write every session of `task` in `form` (one of `EXPORT_FORMS`) to `out`, or to stdout.

    The file is there whole or not at all. Raises UserError for an unknown form, a file that exists
    already or cannot be written, and a session that the form cannot hold.
    """
    if form not in EXPORT_FORMS:
        raise UserError("form", f"cannot export {form!r}; {nearest(form, EXPORT_FORMS)}")
    pieces = _WRITERS[Form(form)](_checked(task))
    with click.open_file("-", "wb") if out is None else _new_file(out.expanduser()) as file:
        file.writelines(piece.encode() for piece in pieces)
        file.flush()


def _checked(task: Task) -> Iterator[Session]:
    """The sessions of `task`. Raises UserError for none, and for an id that comes twice."""
    seen: set[str] = set()
    for session in task.sessions():
        if session.id in seen:
            raise UserError("task", f"has two sessions {session.id!r}")
        seen.add(session.id)
        yield session
    if not seen:
        raise UserError("task", "has no sessions to export")


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name once all is written."""
    if path.exists():
        raise UserError(path, "is there already; choose another name, or remove it first")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(path, f"cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _as_sessions(sessions: Iterator[Session]) -> Iterator[str]:
    for session in sessions:
        yield _dumped(session, _own_object(session)) + "\n"


def _own_object(session: Session) -> dict[str, Any]:
    """The session in the project's own form; what it has not is left away."""
    value: dict[str, Any] = {"id": session.id}
    if _said(session.system):
        value["system"] = session.system
    value["turns"] = list(session.turns)
    if session.references is not None:
        value["references"] = [_said(text) for text in session.references]
        value["reference_kind"] = session.reference_kind
    if session.gold is not None:
        value["gold"] = [_said(text) for text in session.gold]
    value |= {"language": session.language, "license": session.license}
    for name in ("source", "metadata"):
        if facts := getattr(session, name):
            value[name] = dict(facts)
    return value


def _as_turns_by_id(sessions: Iterator[Session]) -> Iterator[str]:
    before = "{\n"
    for session in sessions:
        yield f"{before}{_dumped(session, session.id)}: {_dumped(session, list(session.turns))}"
        before = ",\n"
    yield "\n}\n"


def _as_messages(sessions: Iterator[Session]) -> Iterator[str]:
    for session in sessions:
        messages = list(_messages(session))
        yield _dumped(session, {"id": session.id, "messages": messages}) + "\n"


def _messages(session: Session) -> Iterator[dict[str, str]]:
    if system := _said(session.system):
        yield {"role": "system", "content": system}
    references = session.references or (None,) * len(session.turns)
    for turn, reference in zip(session.turns, references, strict=True):
        yield {"role": "user", "content": turn}
        if text := _said(reference):
            yield {"role": "assistant", "content": text}


def _said(text: str | None) -> str | None:
    """The text; None for one that is blank, which no strict reader takes for a text."""
    return text if text and text.strip() else None


def _dumped(session: Session, value: object) -> str:
    """JSON that a strict reader takes. Raises UserError for what JSON has not."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise UserError(f"session {session.id!r}", f"cannot be written as JSON: {error}") from None
    return text


_WRITERS: Mapping[Form, _Writer] = MappingProxyType(
    {
        Form.SESSIONS: _as_sessions,
        Form.TURNS_BY_ID: _as_turns_by_id,
        Form.MESSAGES: _as_messages,
    }
)

EXPORT_FORMS = tuple(form.value for form in _WRITERS)
