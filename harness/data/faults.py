"""What is wrong with one record of a user's file, kept so that a check can go on to the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

from harness.errors import UserError

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


@dataclass(frozen=True)
class Fault:
    """One problem: `place` is `file:line`, `field` the key in quotes, empty for the whole line."""

    place: str
    field: str
    problem: str

    def error(self) -> UserError:
        return UserError(self.place, f"{self.field} {self.problem}".lstrip())


class DoubledId(Fault):
    """The id of a session that another one has."""


@dataclass(frozen=True)
class Problem:
    """A fault of a value that does not know where it stands."""

    field: str
    text: str

    def at(self, place: str) -> Fault:
        return Fault(place, self.field, self.text)


def turns_problems(turns: object, field: str) -> Iterator[Problem]:
    """What keeps `turns` from being a list of user turns."""
    if not isinstance(turns, list):
        yield Problem(field, f"must be a list of strings, not {kind_of(turns)}")
    elif not turns:
        yield Problem(field, "is empty; give at least one user turn")
    else:
        for number, turn in enumerate(turns, start=1):
            entry = f"{field} entry {number}"
            if not isinstance(turn, str):
                yield Problem(entry, f"must be a string, not {kind_of(turn)}")
            elif not turn.strip():
                yield Problem(entry, "is empty; every user turn needs text")
            elif broken := half_character(turn):
                yield Problem(entry, broken)


def half_character(text: str) -> str | None:
    """JSON may spell half a surrogate pair; no tokenizer and no file would take it later."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        broken = f"\\u{ord(text[error.start]):04x}"
        return f"holds {broken}, half of a surrogate pair; write the whole character"
    return None


def kind_of(value: object) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def shown(value: object) -> str:
    """A value as it may stand in a one-line message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
