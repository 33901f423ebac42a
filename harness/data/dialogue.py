"""From the messages of a published dialogue to a session: who speaks, in turns, with references."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.session import ReferenceKind, Session
from harness.task import Drop

Speaker = Literal["user", "model"]
"""Whose line it is: the side that a user plays here, or the side that the model plays."""

NO_USER_TURN = "no_user_turn"
EMPTY_MESSAGE = "empty_message"
BROKEN_CHARACTERS = "broken_characters"
"""Half of a surrogate pair, as a text that was cut inside a character holds."""


@dataclass(frozen=True)
class Line:
    """One message as published."""

    speaker: Speaker
    text: str


@dataclass(frozen=True)
class Exchanges:
    """A dialogue in turns: `turns` of the user, per turn the model side's reply (None: none).

    `opening`: what the model's side says before the first user turn, None where the user begins.
    `empty`: how many messages held no text.
    """

    turns: tuple[str, ...]
    replies: tuple[str | None, ...]
    opening: str | None
    empty: int


def exchanges(lines: Iterable[Line], joint: str = "\n") -> Exchanges:
    """Put lines in turns: what one side says in a row becomes one message, put together by `joint`.

    Messages without text are left out and counted; texts are stripped at both ends.
    """
    opening: list[str] = []
    turns: list[tuple[list[str], list[str]]] = []
    empty = 0
    for line in lines:
        text = line.text.strip()
        if not text:
            empty += 1
        elif line.speaker == "model":
            (turns[-1][1] if turns else opening).append(text)
        elif turns and not turns[-1][1]:
            turns[-1][0].append(text)
        else:
            turns.append(([text], []))
    return Exchanges(
        turns=tuple(joint.join(said) for said, _ in turns),
        replies=tuple(joint.join(reply) or None for _, reply in turns),
        opening=joint.join(opening) or None,
        empty=empty,
    )


def to_session(
    found: Exchanges,
    *,
    id: str,
    task: str,
    place: str,
    reference_kind: ReferenceKind,
    system: str | None = None,
    language: str = "en",
    license: str = "unknown",
    gold: tuple[str | None, ...] | None = None,
    source: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Session | Drop:
    """The session of a dialogue, its replies as references; or why it is none.

    An opening of the model's side is told to the model in the system prompt: it has said it.
    """
    if not found.turns:
        return Drop(NO_USER_TURN, place, id)
    system = with_opening(system, found.opening)
    texts = [id, system or "", *found.turns, *filter(None, (*found.replies, *(gold or ())))]
    facts = json.dumps([source or {}, metadata or {}], ensure_ascii=False, default=str)
    if any(map(has_broken_characters, [*texts, facts])):
        return Drop(BROKEN_CHARACTERS, place, id.encode("utf-8", "backslashreplace").decode())
    has_replies = any(reply is not None for reply in found.replies)
    return Session(
        id=id,
        task=task,
        turns=found.turns,
        references=found.replies if has_replies else None,
        reference_kind=reference_kind if has_replies else None,
        gold=gold,
        system=system,
        language=language,
        license=license,
        source=dict(source or {}),
        metadata=dict(metadata or {}),
    )


def with_opening(system: str | None, opening: str | None) -> str | None:
    """The system prompt, with what the model's side said before the first user turn."""
    if opening is None:
        return system
    said = f"You opened the conversation with these words:\n{opening}"
    return f"{system}\n\n{said}" if system else said


def has_broken_characters(text: str) -> bool:
    """Whether the text cannot be written as UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
