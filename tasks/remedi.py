"""ReMeDi: Chinese consultations of patients with doctors; the model is the doctor."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, cast

from harness.data.dialogue import (
    EMPTY_MESSAGE,
    Line,
    Speaker,
    exchanges,
    has_broken_characters,
    to_session,
)
from harness.data.json_values import Located, read_values
from harness.dataset import Dataset, RemoteFile, text_of
from harness.errors import UserError
from harness.session import Session
from harness.task import Drop, TaskCard
from tasks._remedi_text import Consultation, is_text_form, read_text

DUPLICATE_ID = "duplicate_id"
DUPLICATE_SESSION = "duplicate_session"
UNKNOWN_ROLE = "unknown_role"

SYSTEM = "你是一名医生，正在网上为患者答疑。请用简短的口语回答；情况不清楚时，先追问。"
OPENING = "对话开始时，你先说了："

_SPEAKERS = MappingProxyType({"patient": "user", "doctor": "model"})
_FACTS = MappingProxyType({"disease": "disease_grad", "topic": "topic"})
_COMMIT = "f94bb9abfba48f467669d2454771bbe263cc4ae5"
_REPOSITORY = "yanguojun123/Medical-Dialogue"


class Remedi(Dataset):
    """Consultations: the patient is the user, the doctor's published replies are references.

    Reads both published forms, told apart by content: JSON (an array, JSON Lines, an object of
    dialogues by id, or one dialogue) and the text form with a line for each reply. What one side
    says in a row becomes one message. The system prompt, in Chinese, is this project's own.
    `metadata` has `disease` and `topic` where the file gives them.

    The same dialogue in a second form or file is left out; an unanswered last message of the
    patient, which the text form lacks, makes no difference.
    """

    card: ClassVar[TaskCard] = TaskCard(
        title="ReMeDi-base, multi-domain medical dialogues",
        license="MIT",
        language="zh",
        origin=f"https://github.com/{_REPOSITORY}",
        citation="Yan et al., ReMeDi: Resources for Multi-domain, Multi-service, Medical "
        "Dialogues, SIGIR 2022, arXiv 2109.00430",
        sessions=1557,
        user_turns=None,
        default_warm_turns=3,
        reference_kind="human",
    )
    scorers: ClassVar[tuple[str, ...]] = ("similarity", "rouge_l", "repetition")
    patterns: ClassVar[tuple[str, ...]] = (
        "ReMeDi-*.json",
        "*.session.json",
        "*_human_annotation*.txt",
    )
    remote: ClassVar[tuple[RemoteFile, ...]] = (
        RemoteFile(
            name="ReMeDi-base.json",
            url=f"https://raw.githubusercontent.com/{_REPOSITORY}/{_COMMIT}/data/ReMeDi-base.json",
            sha256="b27b6b1222255cc87cbc6cc0fb6ce7de98e0b6341f5ea61892bb92f247383458",
        ),
    )

    def read(self, files: Sequence[Path]) -> Iterator[Session | Drop]:
        """Sessions and drops in file order; of two that are the same, the first one stays."""
        ids: set[str] = set()
        dialogues: set[bytes] = set()
        for path in files:
            for found in read_text(path) if is_text_form(path) else _read_json(path):
                if isinstance(found, Drop):
                    yield found
                    continue
                session = self._session(found, path)
                if isinstance(session, Session):
                    digest = _digest(session)
                    if session.id in ids:
                        session = Drop(DUPLICATE_ID, found.place, session.id)
                    elif digest in dialogues:
                        session = Drop(DUPLICATE_SESSION, found.place, session.id)
                    else:
                        ids.add(session.id)
                        dialogues.add(digest)
                        yield from _empty_messages(found, session.id)
                yield session

    def _session(self, found: Consultation, path: Path) -> Session | Drop:
        name, turns = path.name.split(".")[0], exchanges(found.lines)
        id = "-".join(filter(None, ("remedi", name, found.record)))
        return to_session(
            # An opening of the doctor goes into the prompt here, since the prompt is in Chinese.
            replace(turns, opening=None),
            id=id,
            task="remedi",
            place=found.place,
            reference_kind="human",
            system=f"{SYSTEM}\n\n{OPENING}\n{turns.opening}" if turns.opening else SYSTEM,
            language="zh",
            license=self.card.license,
            source={"file": path.name, "record": found.record},
            metadata=found.metadata,
        )


def _read_json(path: Path) -> Iterator[Consultation | Drop]:
    """The dialogues of a JSON file; one without an id has its number or its key for an id."""
    values = read_values(path)
    first = next(values, None)
    if first is None:
        return
    if first.key is not None and not isinstance(first.value, dict):
        record = {str(value.key): value.value for value in chain([first], values)}
        yield _consultation(Located(path, first.line, record), None)
        return
    for number, found in enumerate(chain([first], values), start=1):
        yield _consultation(found, found.key or str(number))


def _consultation(found: Located, default: str | None) -> Consultation | Drop:
    """One dialogue: `information` in ReMeDi-base, `dialogues` as crawled, hold its messages."""
    if not isinstance(found.value, dict):
        raise UserError(
            found.place, f"a dialogue must be an object, not {type(found.value).__name__}"
        )
    key = "information" if "information" in found.value else "dialogues"
    messages = found.value.get(key)
    if not isinstance(messages, list):
        raise UserError(
            found.place,
            "a dialogue must have a list of messages, 'information' or 'dialogues'; "
            f"{key!r} is {type(messages).__name__}",
        )
    record = _record(found, default)
    lines = []
    for number, message in enumerate(messages, start=1):
        where = f"{found.place}: message {number}"
        speaker = _SPEAKERS.get(role := text_of(message, "role", where))
        text = text_of(message, "sentence", where)
        if speaker is None:
            return Drop(UNKNOWN_ROLE, found.place, f"{record}: {role[:60]!r}")
        lines.append(Line(cast("Speaker", speaker), text))
    facts = {
        name: text_of(found.value, published, found.place)
        for name, published in _FACTS.items()
        if found.value.get(published) is not None
    }
    return Consultation(record, found.place, tuple(lines), facts)


def _record(found: Located, default: str | None) -> str | None:
    id: Any = found.value.get("dialogue", default)
    if id is None:
        return None
    if type(id) not in (int, str) or has_broken_characters(str(id)):
        raise UserError(
            found.place, f"'dialogue' must be an id, a number or text, not {str(id)[:60]!r}"
        )
    return str(id)


def _empty_messages(found: Consultation, id: str) -> Iterator[Drop]:
    for number, line in enumerate(found.lines, start=1):
        if not line.text.strip():
            yield Drop(EMPTY_MESSAGE, found.place, f"{id}: message {number}")


def _digest(session: Session) -> bytes:
    """Of what both forms of a dialogue have in common: all up to the last reply, without blanks."""
    replies = session.references or (None,) * len(session.turns)
    answered = [turn + reply for turn, reply in zip(session.turns, replies, strict=True) if reply]
    text = "".join([session.system or "", *(answered or session.turns)])
    return hashlib.blake2b("".join(text.split()).encode(), digest_size=16).digest()
