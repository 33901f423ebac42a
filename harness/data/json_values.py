"""JSON values out of a file one by one, each with its line: a long array is never held whole.

Stricter than most writers: NaN and infinite numbers are refused, and so are doubled keys.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from harness.data.text import read_chunks, read_lines
from harness.errors import UserError

MAX_VALUE = 64 << 20
"""Characters of one value; no record comes near."""

MAX_DIGITS = 4000
"""Of one whole number; Python itself refuses more than 4,300."""

_LOOK = 4 << 20
"""Characters of a file's first object within which it is told from a line of JSON Lines."""

_LONGEST_TOKEN = 16
"""A literal or an escape that the window cuts is reported this far before its end, or less."""

_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class Located:
    """A value with the line it begins on; `key` in a top-level object."""

    path: Path
    line: int
    value: Any
    key: str | None = None

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


def read_values(path: Path) -> Iterator[Located]:
    """The records of a JSON file, whichever way they are laid out.

    The items of a top-level array, the members of a top-level object (with their keys), or one
    value per line (JSON Lines): an object that another one follows, or any in a file named so.
    Raises UserError naming the line of what is not JSON.
    """
    window = _Window(path)
    opener = window.peek()
    if opener == "[":
        yield from window.items()
    elif opener == "{" and ".jsonl" not in path.suffixes and not window.has_lines():
        yield from window.members()
    else:
        yield from read_json_lines(path)


def read_members(path: Path) -> Iterator[Located]:
    """The members of the one object that a file is, with their keys.

    Raises UserError naming the line of what is not JSON, and of a key that is given again.
    """
    window = _Window(path)
    if window.peek() != "{":
        raise UserError(f"{path}:1", "must be one JSON object, {...}")
    yield from window.members()


def read_json_lines(path: Path) -> Iterator[Located]:
    """One JSON value per line; blank lines are skipped."""
    seen = False
    for number, line in read_lines(path):
        if line.strip():
            seen = True
            yield Located(path, number, parse(line, path, number))
    if not seen:
        raise UserError(path, "the file holds nothing but blanks")


def parse(text: str, path: Path, line: int) -> Any:
    """One JSON value that stands on one line. Raises UserError at that line."""
    try:
        return _decoder().decode(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}:{line}", f"not valid JSON at column {error.colno}: {error.msg}"
        ) from None
    except RecursionError:
        raise UserError(f"{path}:{line}", "nested too deeply") from None
    except ValueError as error:
        raise UserError(f"{path}:{line}", str(error)) from None


class _Window:
    """A stretch of the file's text that moves on as values are read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._chunks = read_chunks(path)
        self._decoder = _decoder()
        self._text = ""
        self._at = 0
        self._line, self._counted = 1, 0  # the line of a place in the window, and that place
        self._more = True

    def peek(self) -> str:
        """The next character that is not blank; empty at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow():
                return ""

    def has_lines(self) -> bool:
        """Whether another object follows the one that begins here, as in JSON Lines.

        An object that goes on behind the first `_LOOK` characters is not one line.
        """
        decoder = json.JSONDecoder()
        while True:
            try:
                _, end = decoder.raw_decode(self._text, self._at)
            except RecursionError:
                return False
            except ValueError:
                pass
            else:
                follows = self._text[end:].lstrip(" \t\r\n")
                if follows:
                    return follows[0] == "{"
            if len(self._text) - self._at > _LOOK or not self._grow():
                return False

    def items(self) -> Iterator[Located]:
        """The items of the array that begins here."""
        self._at += 1
        if self.peek() == "]":
            self._at += 1
            return self._nothing_after()
        while True:
            yield self._value(None)
            if self._comma_or("]"):
                return self._nothing_after()

    def members(self) -> Iterator[Located]:
        """The members of the object that begins here. Raises UserError for a key given twice."""
        self._at += 1
        seen: dict[str, int] = {}
        if self.peek() == "}":
            self._at += 1
            return self._nothing_after()
        while True:
            key = self._value(None).value if self.peek() == '"' else None
            if not isinstance(key, str):
                self._fail(f"{self._shown()} where a key in double quotes was expected")
            if key in seen:
                self._fail(f"key {key[:60]!r} is already on line {seen[key]}; keep one")
            seen[key] = self._line_of(self._at)
            if self.peek() != ":":
                self._fail(f"{self._shown()} where ':' was expected")
            self._at += 1
            yield self._value(key)
            if self._comma_or("}"):
                return self._nothing_after()

    def _value(self, key: str | None) -> Located:
        """The value that begins here; reads on until it is whole."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._may_go_on(error) and self._more:
                    self._grow()
                    continue
                if "Unterminated" in error.msg or error.pos >= len(self._text.rstrip()):
                    self._fail("the file ends in the middle of a value; it was cut off")
                self._fail(f"not valid JSON: {error.msg}", error.pos)
            except RecursionError:
                self._fail("nested too deeply")
            except ValueError as error:
                self._fail(str(error))
            # A number that the window cuts is a shorter number: 1 of 12, of 1.5, of 1e+5.
            if end + len("e+") >= len(self._text) and self._more:
                self._grow()
                continue
            found = Located(self._path, self._line_of(self._at), value, key)
            self._at = end
            return found

    def _comma_or(self, closer: str) -> bool:
        """Step over a comma (false) or the closing bracket (true)."""
        found = self.peek()
        if found not in (",", closer) or not found:
            self._fail(f"{self._shown()} where ',' or '{closer}' was expected")
        self._at += 1
        if found == "," and self.peek() == closer:
            self._fail("a comma before the closing bracket; remove it")
        return found == closer

    def _nothing_after(self) -> None:
        if self.peek():
            self._fail(f"{self._shown()} after the end of the JSON value")

    def _grow(self) -> bool:
        """Take in more text, letting go of what has been read; false at the end of the file.

        Places in the window found before are void afterwards, in either case.

        A window that holds one unfinished value doubles: a value of n characters is scanned
        O(log n) times.
        """
        if not self._more:
            return False
        rest = len(self._text) - self._at
        if rest > MAX_VALUE:
            self._fail(f"a value of more than {MAX_VALUE:,} characters; is a quote missing?")
        pieces, added = [self._text[self._at :]], 0
        while added <= rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._more = False
                break
            pieces.append(chunk)
            added += len(chunk)
        self._line_of(self._at)
        self._text, self._at, self._counted = "".join(pieces), 0, 0
        return added > 0

    def _line_of(self, at: int) -> int:
        """The line of a place at or behind the last one asked for."""
        self._line += self._text.count("\n", self._counted, at)
        self._counted = max(self._counted, at)
        return self._line

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether the value may be right and only not whole in this window."""
        return "Unterminated" in error.msg or error.pos >= len(self._text) - _LONGEST_TOKEN

    def _shown(self) -> str:
        found = self.peek()
        return repr(found) if found else "the file ends"

    def _fail(self, problem: str, at: int | None = None) -> NoReturn:
        place = f"{self._path}:{self._line_of(self._at if at is None else at)}"
        raise UserError(place, problem)


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(
        parse_constant=_refuse_constant,
        parse_float=_finite,
        parse_int=_short,
        object_pairs_hook=_no_doubled_keys,
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; use null or a finite number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large a number; use null or a finite number")
    return value


def _short(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"{text[:40]}... has more than {MAX_DIGITS:,} digits; make it a string")
    return int(text)


def _no_doubled_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {doubled[:60]!r} is given twice; keep one")
    return value
