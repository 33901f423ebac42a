"""Sessions from a JSONL file, read strictly: whatever is wrong is one error that names the line.

One JSON object per line, UTF-8. Keys: `id` and `turns` are needed; `system`, `references`,
`reference_kind`, `gold`, `language`, `license`, `source` and `metadata` may be left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NoReturn

from harness.errors import UserError, nearest
from harness.session import Session

MAX_LINE_BYTES = 8 * 1024 * 1024
"""No session comes near this; a longer line is a file of another kind and is not loaded."""

KEYS = (
    "id",
    "turns",
    "system",
    "references",
    "reference_kind",
    "gold",
    "language",
    "license",
    "source",
    "metadata",
)

_KINDS = MappingProxyType(
    {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "true or false",
        int: "a number",
        float: "a number",
        type(None): "null",
    }
)


def read_sessions(path: Path, task: str) -> Iterator[Session]:
    """The sessions of `path`, in file order, each belonging to `task`.

    Reads line by line: a fault on line k is raised when line k is reached. Raises UserError whose
    place is `path` for a file that cannot be opened or holds nothing, and `path:line` otherwise.
    """
    first_seen: dict[str, int] = {}
    try:
        with path.open("rb") as file:
            for number, raw in _lines(file, path):
                place = f"{path}:{number}"
                session = _session(_decode(raw, place), task, place)
                if session.id in first_seen:
                    raise UserError(
                        place,
                        f"id {_shown(session.id)} is already on line {first_seen[session.id]}; "
                        "give every session its own id",
                    )
                first_seen[session.id] = number
                yield session
    except OSError as error:
        raise UserError(path, f"cannot be read: {error.strerror or error}") from error
    if not first_seen:
        raise UserError(path, "the file is empty; write one session per line, as a JSON object")


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            raise UserError(
                f"{path}:{number}",
                f"the line is longer than {MAX_LINE_BYTES // 2**20} MiB; a line is one session",
            )
        yield number, raw


def _decode(raw: bytes, place: str) -> dict[str, Any]:
    """The JSON object on one line. Refuses what JSON writers disagree about: NaN, doubled keys."""
    try:
        text = raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(
            place, f"not UTF-8 at byte {error.start + 1} of the line; save the file as UTF-8"
        ) from error
    if text.startswith("\ufeff"):
        raise UserError(place, "starts with a byte order mark; save the file as UTF-8 without it")
    if not text.strip():
        raise UserError(place, "the line is blank; remove it")
    try:
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_no_doubled_keys,
        )
    except json.JSONDecodeError as error:
        raise UserError(place, f"not valid JSON at column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise UserError(place, "not a session: nested too deeply") from error
    except ValueError as error:
        raise UserError(place, str(error)) from error
    if not isinstance(value, dict):
        raise UserError(
            place, f"must be a JSON object with {KEYS[0]!r} and {KEYS[1]!r}, not {_kind(value)}"
        )
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; use null or a finite number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{_shown(text)} is too large a number; use null or a finite number")
    return value


def _no_doubled_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {_shown(doubled)} is given twice; keep one")
    return value


def _session(value: dict[str, Any], task: str, place: str) -> Session:
    for key in value:
        if key not in KEYS:
            raise UserError(place, f"unknown key {_shown(key)}; {nearest(key[:40], KEYS)}")
    for key in KEYS[:2]:
        if key not in value:
            raise UserError(place, f"key {key!r} is missing; every session needs it")
    _check_unicode(value, place)
    turns = _strings(value, "turns", place)
    if not turns:
        raise UserError(place, "'turns' is empty; give at least one user turn")
    references = _per_turn(value, "references", len(turns), place)
    return Session(
        id=_text(value, "id", place),
        task=task,
        turns=turns,
        references=references,
        reference_kind=_reference_kind(value, references is not None, place),
        gold=_per_turn(value, "gold", len(turns), place),
        system=None if value.get("system") is None else _text(value, "system", place),
        language=_text(value, "language", place, default="en"),
        license=_text(value, "license", place, default="unknown"),
        source=_object(value, "source", place),
        metadata=_object(value, "metadata", place),
    )


def _check_unicode(value: dict[str, Any], place: str) -> None:
    """JSON may spell half a surrogate pair; no tokenizer and no file would take it later."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        broken = f"\\u{ord(error.object[error.start]):04x}"
        raise UserError(
            place, f"holds {broken}, half of a surrogate pair; write the whole character"
        ) from error


def _text(value: dict[str, Any], key: str, place: str, default: str | None = None) -> str:
    text = value.get(key, default)
    if not isinstance(text, str):
        raise UserError(place, f"{key!r} must be a string, not {_kind(text)}")
    if not text.strip():
        raise UserError(place, f"{key!r} is an empty string; write it out or leave the key away")
    return text


def _strings(value: dict[str, Any], key: str, place: str) -> tuple[str, ...]:
    items = value[key]
    if not isinstance(items, list):
        raise UserError(place, f"{key!r} must be a list of strings, not {_kind(items)}")
    for number, item in enumerate(items, start=1):
        if not isinstance(item, str):
            raise UserError(place, f"{key!r} entry {number} must be a string, not {_kind(item)}")
        if not item.strip():
            raise UserError(place, f"{key!r} entry {number} is empty; every user turn needs text")
    return tuple(items)


def _per_turn(
    value: dict[str, Any], key: str, turns: int, place: str
) -> tuple[str | None, ...] | None:
    """A list with one string or null per user turn; an empty string is neither."""
    items = value.get(key)
    if items is None:
        return None
    if not isinstance(items, list):
        raise UserError(place, f"{key!r} must be a list of strings and nulls, not {_kind(items)}")
    if len(items) != turns:
        raise UserError(
            place, f"{key!r} has {len(items)} entries for {turns} turns; give one per turn, or null"
        )
    for number, item in enumerate(items, start=1):
        if item is not None and not isinstance(item, str):
            raise UserError(
                place, f"{key!r} entry {number} must be a string or null, not {_kind(item)}"
            )
        if item is not None and not item.strip():
            raise UserError(place, f"{key!r} entry {number} is empty; use null for none")
    return tuple(items)


def _reference_kind(value: dict[str, Any], has_references: bool, place: str) -> Any:
    kind = value.get("reference_kind")
    if has_references and kind is None:
        raise UserError(place, "'references' need 'reference_kind': \"human\" or \"model\"")
    if kind is not None and not has_references:
        raise UserError(place, "'reference_kind' is given without 'references'; give both or none")
    if kind not in (None, "human", "model"):
        raise UserError(place, f'\'reference_kind\' must be "human" or "model", not {_shown(kind)}')
    return kind


def _object(value: dict[str, Any], key: str, place: str) -> dict[str, Any]:
    item = value.get(key, {})
    if not isinstance(item, dict):
        raise UserError(place, f"{key!r} must be an object, not {_kind(item)}")
    return item


def _kind(value: object) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def _shown(value: object) -> str:
    """A value as it may stand in a one-line message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
