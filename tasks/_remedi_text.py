"""ReMeDi's text form: a line for each reply of the doctor, with all that was said before it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.data.dialogue import Line
from harness.data.text import read_chunks, read_lines
from harness.errors import UserError
from harness.task import Drop

CONTEXT_MISMATCH = "context_mismatch"

_SPEAKER = re.compile(r"<\|(user|system)\|>")


@dataclass(frozen=True)
class Consultation:
    """A dialogue as published; `record` is its id, or its number in the file (from 1)."""

    record: str | None
    place: str
    lines: tuple[Line, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Step:
    """One line of the file: the dialogue so far, and what is said now."""

    place: str
    context: tuple[Line, ...]
    said: tuple[Line, ...]


def is_text_form(path: Path) -> bool:
    """Whether the content is in the text form; the name of the file says nothing."""
    return next(read_chunks(path), "").lstrip().startswith("<|")


def read_text(path: Path) -> Iterator[Consultation | Drop]:
    """The dialogues of a file in order.

    A dialogue in which a line's context is not what the lines before it said is left out whole,
    since nobody can tell which of the two is right. Raises UserError for a line without the form.
    """
    for number, steps in enumerate(_dialogues(path), start=1):
        yield _consultation(steps, str(number))


def _dialogues(path: Path) -> Iterator[list[_Step]]:
    """The lines of one dialogue after another; an empty context begins a new one."""
    steps: list[_Step] = []
    for number, line in read_lines(path):
        if not line.strip():
            continue
        step = _step(line, f"{path}:{number}")
        if steps and not step.context:
            yield steps
            steps = []
        steps.append(step)
    if steps:
        yield steps


def _consultation(steps: Sequence[_Step], record: str) -> Consultation | Drop:
    history: list[Line] = []
    for step in steps:
        if step.context != tuple(history):
            return Drop(CONTEXT_MISMATCH, step.place, f"dialogue {record}")
        history += step.said
    return Consultation(record, steps[0].place, tuple(history))


def _step(line: str, place: str) -> _Step:
    """One line; it has no `<|currentuser|>` where the doctor speaks first."""
    context = _context(_between(line, "context", place), place)
    said = [Line("model", _between(line, "response", place))]
    if "currentuser|>" in line:
        said.insert(0, Line("user", _between(line, "currentuser", place)))
    return _Step(place, context, tuple(said))


def _context(text: str, place: str) -> tuple[Line, ...]:
    before, *parts = _SPEAKER.split(text)
    if before.strip():
        raise UserError(place, f"the context begins with {before.strip()[:40]!r}, said by nobody")
    return tuple(
        Line("user" if role == "user" else "model", said.strip())
        for role, said in zip(parts[::2], parts[1::2], strict=True)
    )


def _between(line: str, name: str, place: str) -> str:
    _, opened, rest = line.partition(f"<|{name}|>")
    text, closed, _ = rest.partition(f"<|endof{name}|>")
    if not (opened and closed):
        raise UserError(place, f"has no whole <|{name}|> ... <|endof{name}|>; is the line cut off?")
    return text.strip()
