"""MathChat follow-up: a word problem and two follow-up questions, each with its answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from harness.data.dialogue import EMPTY_MESSAGE, Exchanges, to_session
from harness.data.json_values import Located
from harness.data.records import read_records
from harness.dataset import Dataset, RemoteFile, text_of
from harness.session import Session
from harness.task import Drop, TaskCard
from tasks._answers import (
    SYSTEM,
    after_hashes,
    boxed,
    checkable,
    said,
    without_hashes,
    without_marks,
)

MALFORMED_FOLLOWUP = "malformed_followup"
PREAMBLE = "preamble"
"""What the writing model said before the first follow-up question, mostly about the problem."""

_MARKER = re.compile(r"^[ \t]*\**([AB])\**:\**", re.M)
_FOLLOWUPS = 2


class Mathchat(Dataset):
    """The follow-up part of MathChat, three turns a session.

    Turn 1 is a test problem of GSM8K, its reference a person's solution. Turns 2 and 3, questions
    and references, were written by a model; so `reference_kind` is "model" throughout. Gold is the
    number of each answer, None where the answer is prose or holds several numbers.
    """

    card: ClassVar[TaskCard] = TaskCard(
        title="MathChat follow-up",
        license="Apache-2.0",
        language="en",
        origin="https://github.com/Zhenwen-NLP/MathChat",
        citation="Liang et al., MathChat: Benchmarking Mathematical Reasoning and Instruction "
        "Following in Multi-Turn Interactions, arXiv 2405.19444",
        sessions=1319,
        user_turns=None,
        default_warm_turns=1,
        reference_kind="model",
    )
    scorers: ClassVar[tuple[str, ...]] = ("exact_match", "similarity", "rouge_l", "repetition")
    patterns: ClassVar[tuple[str, ...]] = ("follow_up.jsonl",)
    remote: ClassVar[tuple[RemoteFile, ...]] = (
        RemoteFile(
            "follow_up.jsonl",
            "https://raw.githubusercontent.com/Zhenwen-NLP/MathChat/"
            "f9d899866bd9146b0a2d91ff8362b4440c19adb0/MathChat%20Benchmark/follow_up.jsonl",
            None,
        ),
    )

    def read(self, files: Sequence[Path]) -> Iterator[Session | Drop]:
        number = 0
        for path in files:
            for record in read_records(path):
                number += 1
                yield from _session(record, f"mathchat-{number:04}", number)


def _session(record: Located, id: str, number: int) -> Iterator[Session | Drop]:
    place = record.place
    problem = text_of(record.value, "question", place).strip()
    answer = text_of(record.value, "answer", place)
    before, followups = _followups(text_of(record.value, "followup", place))
    if before:
        yield Drop(PREAMBLE, place, id)
    if not problem:
        yield Drop(EMPTY_MESSAGE, place, id)
    elif followups is None:
        yield Drop(MALFORMED_FOLLOWUP, place, id)
    else:
        final = after_hashes(answer)
        replies = [without_hashes(answer), *(reply for _, reply in followups)]
        yield to_session(
            Exchanges(
                turns=(problem, *(question for question, _ in followups)),
                replies=tuple(without_marks(reply).strip() or None for reply in replies),
                opening=None,
                empty=0,
            ),
            id=id,
            task="mathchat",
            place=place,
            reference_kind="model",
            system=SYSTEM,
            license="Apache-2.0",
            gold=(final and checkable(final), *(_gold(reply) for _, reply in followups)),
            source={"file": record.path.name, "record": number},
        )


def _followups(text: str) -> tuple[str, list[tuple[str, str]] | None]:
    """What stands before the first marker, and the follow-ups as (question, reply).

    None for follow-ups that are not question, reply, question, reply.
    """
    before, *marked = _MARKER.split(text)
    speakers, texts = marked[::2], [part.strip() for part in marked[1::2]]
    if speakers != ["A", "B"] * _FOLLOWUPS or not all(texts):
        return before.strip(), None
    return before.strip(), list(zip(texts[::2], texts[1::2], strict=True))


def _gold(reply: str) -> str | None:
    answer = boxed(reply) or said(reply)
    return checkable(answer) if answer else None
