"""The forms in which a user's file may hold dialogues, told apart by what a record holds.

Each form has one function from a record to its session, with what was left out of it (`Drop`), or
all that is wrong with it (`Fault`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from types import MappingProxyType

from harness.data.faults import Fault, Problem, half_character, shown, turns_problems
from harness.data.json_values import Located
from harness.data.messages import from_conversations, from_messages
from harness.data.own_sessions import from_own
from harness.session import Session
from harness.task import Drop


class Form(StrEnum):
    SESSIONS = "sessions"
    """The project's own: {"id", "turns", ...}."""
    TURNS_BY_ID = "turns_by_id"
    """One object for the whole file: {id: [user turn, ...]}."""
    MESSAGES = "messages"
    """{"messages": [{"role", "content"}], "id"}, or that list alone."""
    CONVERSATIONS = "conversations"
    """{"id", "conversations": [{"from", "value"}]}."""


def form_of(value: object) -> Form | None:
    """The form that a record shows; None where it shows none.

    A key with a list of strings tells nothing: it may be the id of a dialogue in `TURNS_BY_ID`.
    """
    if isinstance(value, list):
        return Form.MESSAGES if value and is_message(value[0]) else None
    if not isinstance(value, dict):
        return None
    for form in (Form.CONVERSATIONS, Form.MESSAGES):
        if form.value in value and not _is_turns(value[form.value]):
            return form
    return Form.SESSIONS if "turns" in value or isinstance(value.get("id"), str) else None


def is_message(value: object) -> bool:
    """Whether a value is a message rather than a record, though it may have an id of its own."""
    lists = {"turns", Form.MESSAGES.value, Form.CONVERSATIONS.value}
    return isinstance(value, dict) and "role" in value and not lists & value.keys()


def _is_turns(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


def from_turns(record: Located, number: int, task: str) -> Iterator[Session | Fault]:
    """The session of a member of `TURNS_BY_ID`: its key is the id; the turns stay as they are."""
    id = record.key or ""
    problems = list(turns_problems(record.value, shown(id)))
    if not id.strip():
        problems.append(Problem("key ''", "is empty; the key is the dialogue's id"))
    if broken := half_character(id):
        problems.append(Problem(f"key {shown(id)}", broken))
    if problems:
        yield from (problem.at(record.place) for problem in problems)
        return
    source = {"file": record.path.name, "record": id}
    yield Session(id=id, task=task, turns=tuple(record.value), source=source)


Converter = Callable[[Located, int, str], Iterator[Session | Drop | Fault]]
"""From a record, its number in the file from 1, and the task's name."""

CONVERTERS = MappingProxyType[Form, Converter](
    {
        Form.SESSIONS: from_own,
        Form.TURNS_BY_ID: from_turns,
        Form.MESSAGES: from_messages,
        Form.CONVERSATIONS: from_conversations,
    }
)
