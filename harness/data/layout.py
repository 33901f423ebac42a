"""How a user's file is laid out and in which form its records are, decided on its content."""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

from harness.data.files import is_parquet, open_bytes
from harness.data.forms import Form, form_of, is_message
from harness.data.records import read_records
from harness.data.text import read_chunks
from harness.errors import UserError

EMPTY = "the file is empty; write one session per line, as a JSON object"

SPACE = " \t\r\n"

WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
"""How a file begins that is not UTF-8. The other order of UTF-32 begins as UTF-16 does."""

_LOOK, _PIECE = 4 << 20, 64 << 10
"""Bytes of a file within which its first record mostly ends, and how many are read at once."""

_FIRST_TURNS = re.compile(r'\{\s*"((?:[^"\\]|\\.)*)"\s*:\s*\[\s*["\]]')
"""An object that begins with a key and a list of strings."""

_OWN_LISTS = ("turns", "references", "gold")


class Layout(Enum):
    LINES = auto()
    """One JSON value per line."""
    ARRAY = auto()
    """One JSON array of records."""
    MEMBERS = auto()
    """One JSON object whose members are the records."""
    WHOLE = auto()
    """One record that goes over several lines."""
    ROWS = auto()
    """A parquet table."""


@dataclass(frozen=True)
class Shape:
    layout: Layout
    form: Form


def shape_of(path: Path, form: Form | None = None) -> Shape:
    """The layout of the file and, unless `form` says it, the form of its records.

    Raises UserError for a file that cannot be read, or that cannot be of that form.
    """
    if is_parquet(path):
        return _shape_of_table(path, form)
    head = _head(path).lstrip(SPACE)
    if form is Form.TURNS_BY_ID:
        if not head.startswith("{"):
            raise UserError(f"{path}:1", f"form {form} is one JSON object, {{id: [turn, ...]}}")
        return Shape(Layout.MEMBERS, form)
    return _shape_of_list(head, form) if head.startswith("[") else _shape_of_objects(head, form)


def _shape_of_table(path: Path, form: Form | None) -> Shape:
    if form is Form.TURNS_BY_ID:
        raise UserError(path, f"is a parquet table; form {form} is one JSON object")
    first = next(read_records(path), None)
    if first is None:
        raise UserError(path, "is a parquet table without rows")
    return Shape(Layout.ROWS, form or form_of(first.value) or Form.SESSIONS)


def _shape_of_list(head: str, form: Form | None) -> Shape:
    """An array of records; or, where its items are messages, one dialogue."""
    first, _ = _decoded(head[1:].lstrip(SPACE))
    if not is_message(first):
        return Shape(Layout.ARRAY, form or form_of(first) or Form.SESSIONS)
    _, end = _decoded(head)
    alone = end > 0 and not head[end:].strip(SPACE) and "\n" in head[:end]
    return Shape(Layout.WHOLE if alone else Layout.LINES, form or Form.MESSAGES)


def _shape_of_objects(head: str, form: Form | None) -> Shape:
    """Objects line by line; or one: a record, or the turns of all dialogues by their ids."""
    value, end = _decoded(head)
    alone = end > 0 and not head[end:].strip(SPACE)
    if form is None and (_holds_turns(value) if alone else end == 0 and _begins_turns(head)):
        return Shape(Layout.MEMBERS, Form.TURNS_BY_ID)
    layout = Layout.WHOLE if alone and "\n" in head[:end] else Layout.LINES
    return Shape(layout, form or _form_of_lines(head))


def _holds_turns(value: Any) -> bool:
    """Whether an object that shows no other form has lists for members, of what may be turns."""
    if not isinstance(value, dict) or form_of(value) is not None:
        return False
    lists = [item for item in value.values() if isinstance(item, list)]
    return any(not item or not isinstance(item[0], dict) for item in lists)


def _begins_turns(head: str) -> bool:
    """The same of an object that is too long, or cut off, or damaged."""
    match = _FIRST_TURNS.match(head)
    return match is not None and match.group(1) not in _OWN_LISTS


def _form_of_lines(head: str) -> Form:
    """The form of the first value that shows one; the very first may be damaged."""
    values = (_decoded(text)[0] for text in (head, *head.split("\n")))
    forms = (form_of(value) for value in values)
    return next((form for form in forms if form is not None), Form.SESSIONS)


def _decoded(text: str) -> tuple[Any, int]:
    """The JSON value that `text` begins with, and its end; (None, 0) where it is not all there."""
    try:
        return json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None, 0


def _head(path: Path) -> str:
    """The first `_LOOK` bytes as text. What is damaged behind them is told of in reading."""
    raw = b"".join(_first_pieces(path))
    if not raw:
        raise UserError(path, EMPTY)
    if raw.startswith(WIDE):
        return _first_chunks(path)
    if b"\0" in raw[:4]:
        raise UserError(f"{path}:1", "holds NUL bytes, as UTF-16 does; save the file as UTF-8")
    return raw.decode("utf-8-sig", errors="replace")


def _first_pieces(path: Path) -> list[bytes]:
    pieces: list[bytes] = []
    try:
        with open_bytes(path) as file:
            while len(pieces) < _LOOK // _PIECE and (piece := file.read(_PIECE)):
                pieces.append(piece)
    except UserError:
        if not pieces:
            raise
    return pieces


def _first_chunks(path: Path) -> str:
    chunks, length = [], 0
    for chunk in read_chunks(path):
        chunks.append(chunk)
        length += len(chunk)
        if length >= _LOOK:
            break
    return "".join(chunks)
