"""Dialogues written as a list of messages, each with its speaker, in the two common spellings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from harness.data.dialogue import EMPTY_MESSAGE, Exchanges, Line, exchanges, to_session
from harness.data.faults import Fault, Problem, half_character, kind_of, shown
from harness.data.json_values import Located
from harness.session import Session
from harness.task import Drop

UNSUPPORTED_CONTENT = "unsupported_content"
"""An image, a call of a tool, or anything else that is not the text of one of the two sides."""

_Role = Literal["system", "user", "model", "tool"]

_ROLES = MappingProxyType[str, _Role](
    {
        "system": "system",
        "developer": "system",
        "user": "user",
        "assistant": "model",
        "tool": "tool",
        "function": "tool",
    }
)
_SPEAKERS = MappingProxyType[str, _Role](
    {
        "system": "system",
        "human": "user",
        "user": "user",
        "gpt": "model",
        "assistant": "model",
        "model": "model",
        "chatgpt": "model",
        "bing": "model",
        "bard": "model",
        "tool": "tool",
        "function": "tool",
        "function_call": "tool",
        "function_response": "tool",
        "tool_call": "tool",
        "tool_response": "tool",
        "observation": "tool",
    }
)
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_NOT_TEXT = ("tool_calls", "function_call", "refusal", "audio")


def from_messages(record: Located, number: int, task: str) -> Iterator[Session | Drop | Fault]:
    """The session of {"messages": [{"role", "content"}], "id"}, or of that list alone."""
    value = record.value
    value = {"messages": value} if isinstance(value, list) else value
    return _dialogue(record, value, number, task, key="messages", read=_read_message)


def from_conversations(record: Located, number: int, task: str) -> Iterator[Session | Drop | Fault]:
    """The session of {"id", "conversations": [{"from", "value"}], "system"}."""
    return _dialogue(record, record.value, number, task, key="conversations", read=_read_saying)


@dataclass(frozen=True)
class _Message:
    """`text`: what was said; `left_out`: what of the message is not text."""

    role: _Role
    text: str
    left_out: tuple[str, ...] = ()


def _dialogue(
    record: Located,
    value: object,
    number: int,
    task: str,
    *,
    key: str,
    read: Callable[[object], _Message | Problem],
) -> Iterator[Session | Drop | Fault]:
    """The session of a record that has its messages at `key`, or all that is wrong with it."""
    if not isinstance(value, dict):
        yield Fault(record.place, "", f"must be an object with {key!r}, not {kind_of(value)}")
        return
    if key not in value:
        yield Fault(record.place, f"key {key!r}", "is missing; every dialogue needs it")
        return
    if not isinstance(value[key], list):
        problem = f"must be a list of messages, not {kind_of(value[key])}"
        yield Fault(record.place, f"{key!r}", problem)
        return
    id, problems = _id(value.get("id"), number)
    said = _Said(id, record.place)
    messages = [(f"{key!r} entry {n}", read(m)) for n, m in enumerate(value[key], start=1)]
    for field, message in [*_prompt(value.get("system"), key), *messages]:
        if isinstance(message, Problem):
            problems.append(Problem(f"{field} {message.field}".rstrip(), message.text))
        elif broken := half_character(message.text):
            problems.append(Problem(field, broken))
        else:
            said.add(message, field)
    if problems:
        yield from (problem.at(record.place) for problem in problems)
        return
    yield from said.drops
    yield to_session(
        said.exchanges(),
        id=id,
        task=task,
        place=record.place,
        reference_kind="model",
        system="\n".join(said.system) or None,
        source={"file": record.path.name, "record": id},
    )


def _prompt(given: object, key: str) -> list[tuple[str, _Message | Problem]]:
    """The system prompt that the second spelling may have beside its messages."""
    if given is None or key != "conversations":
        return []
    return [("'system'", _read_saying({"from": "system", "value": given}))]


def _read_message(message: object) -> _Message | Problem:
    """A message with `role` and `content`. Its text parts stand on lines of their own."""
    if not isinstance(message, dict):
        return Problem("", f"must be an object with 'role' and 'content', not {kind_of(message)}")
    role = _role(message, "role", _ROLES)
    if isinstance(role, Problem):
        return role
    left_out = [key for key in _NOT_TEXT if message.get(key)]
    content = message.get("content")
    if content is None and (role == "tool" or left_out):
        content = ""
    if isinstance(content, str):
        return _Message(role, content, tuple(left_out))
    if not isinstance(content, list):
        return Problem("'content'", f"must be a string or a list of parts, not {kind_of(content)}")
    texts = []
    for number, part in enumerate(content, start=1):
        field = f"'content' part {number}"
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict) or not isinstance(kind, str):
            return Problem(field, f"must be an object with a 'type', not {shown(part)}")
        text = part.get("text")
        if kind not in _TEXT_PARTS:
            left_out.append(f"part of type {shown(kind)}")
        elif isinstance(text, str):
            texts.append(text)
        else:
            return Problem(f"{field} 'text'", f"must be a string, not {kind_of(text)}")
    return _Message(role, "\n".join(texts), tuple(left_out))


def _read_saying(message: object) -> _Message | Problem:
    """A message with `from` and `value`."""
    if not isinstance(message, dict):
        return Problem("", f"must be an object with 'from' and 'value', not {kind_of(message)}")
    role = _role(message, "from", _SPEAKERS)
    if isinstance(role, Problem):
        return role
    text = message.get("value")
    if not isinstance(text, str):
        return Problem("'value'", f"must be a string, not {kind_of(text)}")
    return _Message(role, text)


def _role(message: dict[str, Any], key: str, roles: Mapping[str, _Role]) -> _Role | Problem:
    name = message.get(key)
    role = roles.get(name) if isinstance(name, str) else None
    return role or Problem(f"{key!r}", f"must be one of {', '.join(roles)}, not {shown(name)}")


class _Said:
    """The messages of one dialogue, sorted into system prompt, lines and what is left out."""

    def __init__(self, id: str, place: str) -> None:
        self._id, self._place = id, place
        self.system: list[str] = []
        self.lines: list[Line] = []
        self.drops: list[Drop] = []
        self._has_model = False
        self._unanswerable = False

    def add(self, message: _Message, field: str) -> None:
        text = message.text.strip()
        self._has_model |= message.role == "model"
        for what in message.left_out:
            self._drop(UNSUPPORTED_CONTENT, f"{field}: {what}")
        if message.role == "tool":
            self._drop(UNSUPPORTED_CONTENT, f"{field}: message of a tool")
        elif not text and message.left_out:
            self._unanswerable |= message.role == "user"
        elif not text:
            self._drop(EMPTY_MESSAGE, field)
        elif message.role == "system" and not self.lines:
            self.system.append(text)
        elif message.role == "system":
            # Told at the beginning, it would give away what comes later.
            self._drop(UNSUPPORTED_CONTENT, f"{field}: system message inside the dialogue")
        elif message.role == "user":
            self._unanswerable = False
            self.lines.append(Line("user", text))
        elif self._unanswerable:
            # It would pass for the reply to the turn before.
            self._drop(UNSUPPORTED_CONTENT, f"{field}: reply to a message without text")
        else:
            self.lines.append(Line("model", text))

    def exchanges(self) -> Exchanges:
        """The turns. Where no model has a part in it, each message of the user is one of them."""
        if self._has_model:
            return exchanges(self.lines)
        turns = tuple(line.text for line in self.lines)
        return Exchanges(turns, (None,) * len(turns), opening=None, empty=0)

    def _drop(self, reason: str, what: str) -> None:
        self.drops.append(Drop(reason, self._place, f"{self._id}: {what}"))


def _id(given: object, number: int) -> tuple[str, list[Problem]]:
    """The id of a record; its number in the file where it has none."""
    if given is None:
        return f"record-{number}", []
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given), []
    if not isinstance(given, str):
        return "", [Problem("'id'", f"must be a string or a whole number, not {kind_of(given)}")]
    if not given.strip():
        return "", [Problem("'id'", "is an empty string; write it out or leave the key away")]
    broken = half_character(given)
    return given, [Problem("'id'", broken)] if broken else []
