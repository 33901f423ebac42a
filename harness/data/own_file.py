"""The dialogues of a file of the user's own: its records one by one, and what they come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

from harness.data.faults import DoubledId, Fault, shown
from harness.data.files import open_bytes
from harness.data.forms import CONVERTERS, Form
from harness.data.json_values import Located, parse, read_members
from harness.data.layout import EMPTY, SPACE, WIDE, Layout, Shape, shape_of
from harness.data.records import read_records
from harness.data.text import read_chunks, read_lines
from harness.errors import UserError, nearest
from harness.session import Session
from harness.task import Drop

WARM_TURNS = 3
"""The default W of a file of which nothing is known."""

MAX_LINE_BYTES = 8 * 1024 * 1024
"""No session comes near this; a longer line is a file of another kind and is not loaded."""

AUTO: Final = "auto"
"""In place of a form's name: the content decides."""


def form_named(name: str) -> Form | None:
    """The form of that name; None for "auto". Raises UserError for another name."""
    if name == AUTO:
        return None
    known = [form.value for form in Form]
    if name not in known:
        raise UserError("form", f"no form is called {name!r}; {nearest(name, [AUTO, *known])}")
    return Form(name)


def read_own_file(path: Path, task: str, form: str = AUTO) -> Iterator[Session | Drop]:
    """The sessions of `path`, in file order, each belonging to `task`, and what was left out.

    Raises UserError whose place is `path:line` for the first thing that is wrong, when it is
    reached, and `path` for a file that cannot be read or holds no session.
    """
    dropped: Counter[str] = Counter()
    empty = True
    for _, item in read_entries(path, task, shape_of(path, form_named(form))):
        if isinstance(item, Fault):
            raise item.error()
        empty = empty and isinstance(item, Drop)
        dropped.update([item.reason] if isinstance(item, Drop) else [])
        yield item
    if empty:
        raise UserError(path, no_session(dropped))


def read_sessions(path: Path, task: str) -> Iterator[Session]:
    """The sessions of a file with one in the project's own form on each line."""
    for _, item in read_entries(path, task, Shape(Layout.LINES, Form.SESSIONS)):
        if isinstance(item, Fault):
            raise item.error()
        if isinstance(item, Session):
            yield item


def no_session(dropped: Mapping[str, int]) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
    return f"holds no session{f' (left out: {reasons})' if reasons else ''}"


def read_entries(
    path: Path, task: str, shape: Shape
) -> Iterator[tuple[str, Session | Drop | Fault]]:
    """What every record comes to, with its place `file:line`; a fault ends nothing.

    Raises UserError where the file cannot be read on.
    """
    convert = CONVERTERS[shape.form]
    first_seen: dict[str, int] = {}
    for number, found in enumerate(_records(path, shape), start=1):
        if isinstance(found, Fault):
            yield found.place, found
            continue
        for item in convert(found, number, task):
            if isinstance(item, Session) and item.id in first_seen:
                problem = f"is already on line {first_seen[item.id]}; give every session its own id"
                yield found.place, DoubledId(found.place, f"id {shown(item.id)}", problem)
                continue
            if isinstance(item, Session):
                first_seen[item.id] = found.line
            yield found.place, item


def _records(path: Path, shape: Shape) -> Iterator[Located | Fault]:
    """The records. Raises UserError where reading cannot go on behind a fault."""
    if shape.layout is Layout.LINES:
        yield from _json_lines(path, skip_blank=shape.form is not Form.SESSIONS)
    elif shape.layout is Layout.MEMBERS:
        yield from read_members(path)
    elif shape.layout is Layout.WHOLE:
        text = "".join(read_chunks(path))
        line = 1 + text[: len(text) - len(text.lstrip(SPACE))].count("\n")
        yield Located(path, line, parse(text, path, line))
    else:
        for record in read_records(path):
            if shape.layout is Layout.ROWS:
                # A table spells "left out" as null.
                record = Located(path, record.line, _without_nulls(record.value))
            yield record


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None}


def _json_lines(path: Path, *, skip_blank: bool) -> Iterator[Located | Fault]:
    empty = True
    for number, text in _lines(path):
        empty = False
        place = f"{path}:{number}"
        if isinstance(text, Fault):
            yield text
        elif text.strip():
            try:
                yield Located(path, number, parse(text, path, number))
            except UserError as error:
                yield Fault(place, "", error.problem)
        elif not skip_blank:
            yield Fault(place, "", "the line is blank; remove it")
    if empty:
        raise UserError(path, EMPTY)


def _lines(path: Path) -> Iterator[tuple[int, str | Fault]]:
    """The lines with their numbers from 1. Bytes that are not UTF-8 spoil only their own line."""
    with open_bytes(path) as file:
        wide = file.read(4).startswith(WIDE)
    if wide:
        yield from read_lines(path)
        return
    with open_bytes(path) as file:
        for number, raw in enumerate(_byte_lines(file), start=1):
            yield number, _text_of(raw, f"{path}:{number}", first=number == 1)


def _byte_lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines; of one that is too long, only as much as shows it."""
    while raw := file.readline(MAX_LINE_BYTES + 1):
        yield raw
        while len(raw) > MAX_LINE_BYTES and not raw.endswith(b"\n"):
            raw = file.readline(MAX_LINE_BYTES + 1)


def _text_of(raw: bytes, place: str, *, first: bool) -> str | Fault:
    if len(raw) > MAX_LINE_BYTES:
        size = MAX_LINE_BYTES // 2**20
        return Fault(place, "", f"the line is longer than {size} MiB; a line is one session")
    try:
        text = raw.decode("utf-8-sig" if first else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        at = error.start + 1
        return Fault(place, "", f"not UTF-8 at byte {at} of the line; save the file as UTF-8")
    if text.startswith("\ufeff"):
        return Fault(place, "", "a byte order mark inside the file; remove it")
    return text
