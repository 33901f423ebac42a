"""ShareGPT: conversations that users of ChatGPT shared, with those put together that were split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from harness.data.dialogue import EMPTY_MESSAGE, Line, exchanges, to_session
from harness.dataset import Dataset, RemoteFile
from harness.errors import UserError, nearest
from harness.session import Session
from harness.task import Drop, TaskCard
from tasks._sharegpt_parts import conversations, plan
from tasks._sharegpt_records import Record, records

DUPLICATE_SESSION = "duplicate_session"
OTHER_LANGUAGE = "other_language"
TOO_SHORT = "too_short"
TOO_LONG = "too_long"

_REVISION = "192ab2185289094fc556ec8ce5ce1e8e587154ca"
_NAME = "ShareGPT_V3_unfiltered_cleaned_split.json"

_LANGUAGE_TURNS, _LANGUAGE_CHARACTERS = 3, 2000
"""By how much of what the user says the language is told."""


class Sharegpt(Dataset):
    """Conversations with ChatGPT as their users shared them; ChatGPT's replies are references.

    `language`: keep conversations in this one (a code such as "en"), told by the first three user
    turns; None keeps all, and says "und" of each. `min_turns`: keep those with at least so many
    user turns. `max_characters`: keep those with at most so many characters of all their texts.

    A session has the id of its first part and stands where its last part stands in the file. Its
    system messages, wherever they stand, are the system prompt. `metadata` has `parts`, the
    records it was put together from.
    """

    language: str | None = None
    min_turns: int = Field(default=1, ge=1)
    max_characters: int | None = Field(default=None, ge=1)

    card: ClassVar[TaskCard] = TaskCard(
        title="ShareGPT, V3 unfiltered, cleaned and split",
        license="none: never licensed by those who wrote it",
        language="many, mostly en",
        origin="https://huggingface.co/datasets/anon8231489123/ShareGPT_Vicuna_unfiltered",
        citation="none; conversations shared by users on sharegpt.com",
        sessions=None,
        user_turns=None,
        default_warm_turns=4,
        reference_kind="model",
    )
    scorers: ClassVar[tuple[str, ...]] = ("similarity", "rouge_l", "repetition")
    patterns: ClassVar[tuple[str, ...]] = (_NAME,)
    remote: ClassVar[tuple[RemoteFile, ...]] = (
        RemoteFile(
            name=_NAME,
            url=f"{card.origin}/resolve/{_REVISION}/{_NAME}",
            sha256="35f0e213ce091ed9b9af2a1f0755e9d39f9ccec34ab281cd4ca60d70f6479ba4",
        ),
    )

    def read(self, files: Sequence[Path]) -> Iterator[Session | Drop]:
        """Sessions and drops; where two sessions are the same, the one that comes first stays."""
        language_of = _detector(self.language) if self.language else None
        seen: set[bytes] = set()
        for parts in conversations(files, plan(records(files))):
            if isinstance(parts, Drop):
                yield parts
                continue
            found = self._session(parts, language_of)
            if isinstance(found, Session):
                digest = _digest(found)
                if digest in seen:
                    found = Drop(DUPLICATE_SESSION, parts[0].place, found.id)
                seen.add(digest)
            if isinstance(found, Session):
                yield from _empty_messages(parts)
            yield found

    def _session(
        self, parts: tuple[Record, ...], language_of: Callable[[Session], str] | None
    ) -> Session | Drop:
        """The session of a conversation, or why it is none."""
        first = parts[0]
        messages = [message for part in parts for message in part.messages]
        system = [m.text.strip() for m in messages if m.role == "system"]
        found = to_session(
            exchanges(Line(m.role, m.text) for m in messages if m.role != "system"),
            id=first.id,
            task="sharegpt",
            place=first.place,
            reference_kind="model",
            system="\n\n".join(filter(None, system)) or None,
            language=self.language or "und",
            license=self.card.license,
            source={"file": first.file, "record": first.id},
            metadata={"parts": [part.id for part in parts]},
        )
        if isinstance(found, Drop):
            return found
        if len(found.turns) < self.min_turns:
            return Drop(TOO_SHORT, first.place, found.id, score=len(found.turns))
        characters = sum(map(len, _texts(found)))
        if self.max_characters is not None and characters > self.max_characters:
            return Drop(TOO_LONG, first.place, found.id, score=characters)
        if language_of and (language := language_of(found)) != self.language:
            return Drop(OTHER_LANGUAGE, first.place, f"{found.id}: {language}")
        return found


def _detector(wanted: str) -> Callable[[Session], str]:
    """Tells the language of a session. Raises UserError where `wanted` is none that it knows."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    if wanted not in identifier.labels:
        raise UserError(
            "sharegpt: language", f"no code {wanted!r}; {nearest(wanted, identifier.labels)}"
        )

    def language_of(session: Session) -> str:
        text = "\n".join(session.turns[:_LANGUAGE_TURNS])[:_LANGUAGE_CHARACTERS]
        return str(identifier.classify(text)[0])

    return language_of


def _empty_messages(parts: Sequence[Record]) -> Iterator[Drop]:
    for part in parts:
        for message in part.messages:
            if not message.text.strip():
                yield Drop(EMPTY_MESSAGE, part.place, part.id)


def _texts(session: Session) -> list[str]:
    """All texts of a session; empty where there is none."""
    replies = [reply or "" for reply in session.references or ()]
    return [session.system or "", *session.turns, *replies]


def _digest(session: Session) -> bytes:
    """Of what is said in a session: the same for two sessions only where all their texts are."""
    texts = _texts(session)
    lengths = " ".join(str(len(text)) for text in texts)
    return hashlib.blake2b("".join([lengths, *texts]).encode("utf-8"), digest_size=16).digest()
