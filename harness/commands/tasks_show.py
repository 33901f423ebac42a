"""`tasks show`: a task's card and its first sessions, or one session to read."""

from __future__ import annotations

import difflib
import inspect
import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic.fields import FieldInfo
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from harness.commands.plain_text import plain
from harness.commands.tasks_open import open_task, task_args, task_class
from harness.dataset import Dataset
from harness.errors import UserError
from harness.session import Session
from harness.task import Task

_FIRST = 10
_SHOWN_DEFAULT = 60  # characters
_LIMITS = MappingProxyType({"ge": "≥", "gt": ">", "le": "≤", "lt": "<"})


def show_task(name: str, path: Path | None, args: Sequence[str]) -> None:
    """Print the card of a task, its arguments, and its first sessions where the data are here.

    Raises UserError for an unknown task or wrong arguments, and for data that cannot be read.
    """
    cls = task_class(name)
    sessions = _what_there_is(name, cls, path, args)
    Console(emoji=False).print(Group(_card(name, cls), Text(), sessions))


def show_task_session(name: str, path: Path | None, args: Sequence[str], session_id: str) -> None:
    """Print one session of a task: all that is known of it. Raises UserError when there is none."""
    ids: list[str] = []
    for session in open_task(name, path, args).sessions():
        if session.id == session_id:
            return Console(emoji=False).print(_session(session))
        ids.append(session.id)
    raise UserError("--session", f"{name} has no session {session_id!r}; {_help(session_id, ids)}")


def _what_there_is(
    name: str, cls: type[Task], path: Path | None, args: Sequence[str]
) -> RenderableType:
    """The first sessions, or what is missing to read them."""
    given = task_args(name, path, args)
    missing = [k for k, field in cls.model_fields.items() if field.is_required() and k not in given]
    if missing:
        options = " ".join("--path FILE" if k == "path" else f"--arg {k}=..." for k in missing)
        return Text(f"To see its sessions: run_bench.py tasks show {name} {options}")
    task = open_task(name, path, args)
    if isinstance(task, Dataset) and task.path is None:
        try:
            task.files()
        except UserError as error:
            return Text(f"No sessions to show: {error.problem}")
    return _first_sessions(task)


def _card(name: str, cls: type[Task]) -> RenderableType:
    card = cls.card
    facts = {
        "licence": card.license,
        "language": card.language,
        "origin": card.origin,
        "citation": card.citation,
        "sessions": _count(card.sessions),
        "user turns": _count(card.user_turns),
        "references by": {"human": "people", "model": "a model", None: "none, or see each session"}[
            card.reference_kind
        ],
        "warm turns (W)": str(card.default_warm_turns),
        "scorers": ", ".join(cls.scorers),
    }
    if issubclass(cls, Dataset):
        files = [file.url for file in cls.remote]
        facts["fetched from"] = "\n".join(files) or "no place by file; give --path"
    parts: list[RenderableType] = [Rule(Text(f"{name}: {card.title}", style="bold"), align="left")]
    parts += [_pairs(facts), Text()]
    parts += [Text(_prose(cls.__doc__ or "")), Text()]
    return Group(*parts, _arguments(cls))


def _prose(docstring: str) -> str:
    """A docstring's paragraphs as lines of their own, for a terminal of any width."""
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(re.sub(r"\n(?=\S)", " ", paragraph) for paragraph in paragraphs)


def _arguments(cls: type[Task]) -> RenderableType:
    if not cls.model_fields:
        return Text("It has no arguments.")
    table = Table("argument", "type", "default", box=None, header_style="dim", pad_edge=False)
    for key, field in cls.model_fields.items():
        table.add_row(*(Text(cell) for cell in (key, _type(field), _default(field))))
    return table


def _type(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    for module in ("pathlib._local.", "pathlib.", "typing.", "NoneType"):
        text = text.replace(module, "None" if module == "NoneType" else "")
    limits = [
        f"{sign} {getattr(limit, name)}"
        for limit in field.metadata
        for name, sign in _LIMITS.items()
        if hasattr(limit, name)
    ]
    return ", ".join([text, *limits])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    text = repr(field.get_default(call_default_factory=True))
    return text if len(text) <= _SHOWN_DEFAULT else f"{text[:_SHOWN_DEFAULT]}..."


def _first_sessions(task: Task) -> RenderableType:
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("session", no_wrap=True)
    table.add_column("user turns", justify="right", no_wrap=True)
    table.add_column("first turn")
    found = list(islice(task.sessions(), _FIRST + 1))
    for session in found[:_FIRST]:
        opening = " ".join(session.turns[0].split()) if session.turns else ""
        # Cut to one line in a column that gives way to the others.
        line = Text(plain(opening[:200]), no_wrap=True, overflow="ellipsis")
        table.add_row(_text(session.id), str(len(session.turns)), line)
    rest = "There are more; `tasks stats` counts them." if len(found) > _FIRST else "That is all."
    return Group(table, Text(rest, style="dim"))


def _session(session: Session) -> RenderableType:
    facts = {
        "task": session.task,
        "language": session.language,
        "licence": session.license,
    } | {f"source.{key}": _shown(value) for key, value in session.source.items()}
    title = Text(f"{plain(session.id)}, {len(session.turns)} user turns", style="bold")
    parts: list[RenderableType] = [Rule(title, align="left")]
    parts.append(_pairs(facts))
    if session.system is not None:
        parts += _passage("system prompt", session.system, "magenta")
    for at, turn in enumerate(session.turns):
        parts += _passage(f"turn {at + 1}, user", turn, "bold cyan")
        parts += _answers(session, at)
    if session.metadata:
        parts += [Text(), Text("metadata", style="dim")]
        metadata = {key: _shown(value) for key, value in session.metadata.items()}
        parts.append(Padding(_pairs(metadata), (0, 0, 0, 2)))
    return Group(*parts)


def _answers(session: Session, at: int) -> Iterator[RenderableType]:
    """The reference and the gold answer of the turn at a place, where there are any."""
    reference = session.references[at] if session.references else None
    if reference is not None:
        yield from _passage(f"reference ({session.reference_kind})", reference, "green", indent=4)
    gold = session.gold[at] if session.gold else None
    if gold is not None:
        yield from _passage("gold answer", gold, "yellow", indent=4)


def _passage(name: str, text: str, style: str, indent: int = 0) -> list[RenderableType]:
    return [
        Padding(Text(name, style=style), (1 if not indent else 0, 0, 0, indent)),
        Padding(_text(text), (0, 0, 0, indent + 2)),
    ]


def _pairs(facts: dict[str, str]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(_text(name), _text(value))
    return table


def _text(text: str) -> Text:
    """Text of others: no markup, no control characters."""
    return Text(plain(text))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _help(session_id: str, ids: list[str]) -> str:
    close = difflib.get_close_matches(session_id, ids, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    first = ", ".join(repr(i) for i in ids[:3]) or "none"
    return f"it has {len(ids):,} sessions, the first: {first}"
