"""ShareGPT's records: what is said in one, whose part it is, and at which message it begins."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, cast

from harness.data.dialogue import BROKEN_CHARACTERS, NO_USER_TURN, has_broken_characters
from harness.data.json_values import Located
from harness.data.records import read_records
from harness.dataset import text_of
from harness.errors import UserError
from harness.task import Drop

Role = Literal["user", "model", "system"]

ROLES = MappingProxyType(
    {
        "human": "user",
        "user": "user",
        "gpt": "model",
        "chatgpt": "model",
        "bing": "model",
        "bard": "model",
        "system": "system",
    }
)

UNKNOWN_ROLE = "unknown_role"

_NUMBERED = re.compile(r"(.+)_(0|[1-9][0-9]{0,8})", re.DOTALL)
"""More digits than that are a time or a serial number, and so is a number with leading zeros."""


class Message(NamedTuple):
    """One message; its text as published."""

    role: Role
    text: str


@dataclass(frozen=True)
class Record:
    """A conversation, or the part of one that begins with its message number `index` (from 0).

    `whole`: a key that all parts of one conversation share. `file` is the bare name.
    """

    id: str
    whole: str
    index: int
    messages: tuple[Message, ...]
    file: str
    place: str


def records(files: Sequence[Path]) -> Iterator[Record | Drop]:
    """The records of all files in file order.

    Left out are records without messages, those in which somebody speaks who is neither user, model
    nor system, and those whose id cannot be written. Raises UserError naming file and line for what
    has not the form.
    """
    for path in files:
        for found in read_records(path):
            yield _record(found)


def _record(found: Located) -> Record | Drop:
    id = text_of(found.value, "id", found.place)
    if not id:
        raise UserError(found.place, "'id' is empty; give every record a name")
    if has_broken_characters(id):
        return Drop(BROKEN_CHARACTERS, found.place, id.encode("utf-8", "replace").decode())
    messages = []
    for number, item in enumerate(_conversation(found), start=1):
        said_by, text = (item.get("from"), item.get("value")) if isinstance(item, dict) else (0, 0)
        if not (isinstance(said_by, str) and isinstance(text, str)):
            where = f"{found.place}: message {number}"
            said_by, text = text_of(item, "from", where), text_of(item, "value", where)
        role = ROLES.get(said_by)
        if role is None:
            return Drop(UNKNOWN_ROLE, found.place, f"{id}: {said_by[:60]!a}")
        messages.append(Message(cast("Role", role), text))
    if not messages:
        return Drop(NO_USER_TURN, found.place, id)
    whole, index = _part_of(id)
    return Record(id, whole, index, tuple(messages), found.path.name, found.place)


def _conversation(found: Located) -> list[Any]:
    """The messages; older dumps call them `items`."""
    value = found.value.get("conversations", found.value.get("items"))
    if not isinstance(value, list):
        raise UserError(
            found.place,
            f"'conversations' must be a list of messages, not {type(value).__name__}",
        )
    return value


def _part_of(id: str) -> tuple[str, int]:
    """`abc_12` is the part of `abc` from message 12 on; an id without a number is a whole."""
    numbered = _NUMBERED.fullmatch(id)
    # With its underscore: the parts of `abc` are no parts of a record that is called `abc`.
    return (f"{numbered[1]}_", int(numbered[2])) if numbered else (id, 0)
