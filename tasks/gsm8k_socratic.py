"""GSM8K, socratic: a word problem asked step by step, with a person's answer to every step."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from harness.data.dialogue import EMPTY_MESSAGE, NO_USER_TURN, Exchanges, to_session
from harness.data.json_values import Located
from harness.data.records import read_records
from harness.dataset import Dataset, RemoteFile, text_of
from harness.errors import UserError
from harness.session import Session
from harness.task import Drop, TaskCard
from tasks._answers import SYSTEM, after_hashes, calculated, without_hashes, without_marks

MALFORMED_STEP = "malformed_step"
NO_ANSWER = "no_answer"

_DATA = (
    "https://raw.githubusercontent.com/openai/grade-school-math/"
    "3101c7d5072418e28b9008a6636bde82a006892c/grade_school_math/data/"
)
_BETWEEN = "**"
"""Stands between a sub-question and its step."""
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


class Gsm8kSocratic(Dataset):
    """The socratic form of GSM8K, a session per problem.

    The first turn is the problem as published, which ends with its own question, and the first
    sub-question; each later sub-question is a turn. References are the steps without calculator
    marks. Gold is the number that a step calculates, where it has a mark, and the final answer at
    the last turn. A step on the way, whose question is asked again further on, has no gold.
    """

    card: ClassVar[TaskCard] = TaskCard(
        title="GSM8K, socratic",
        license="MIT",
        language="en",
        origin="https://github.com/openai/grade-school-math",
        citation="Cobbe et al., Training Verifiers to Solve Math Word Problems, arXiv 2110.14168",
        sessions=8792,
        user_turns=None,
        default_warm_turns=2,
        reference_kind="human",
    )
    scorers: ClassVar[tuple[str, ...]] = ("exact_match", "similarity", "rouge_l", "repetition")
    patterns: ClassVar[tuple[str, ...]] = ("*socratic*.jsonl", "*.parquet")
    remote: ClassVar[tuple[RemoteFile, ...]] = (
        RemoteFile("test_socratic.jsonl", f"{_DATA}test_socratic.jsonl", None),
        RemoteFile("train_socratic.jsonl", f"{_DATA}train_socratic.jsonl", None),
    )

    def read(self, files: Sequence[Path]) -> Iterator[Session | Drop]:
        parts: set[str] = set()
        for path in files:
            part = _part(path)
            if part in parts:
                raise UserError(path, f"is a second file of the part {part!r}; give one of them")
            parts.add(part)
            for number, record in enumerate(read_records(path), start=1):
                yield from _session(record, f"gsm8k_socratic-{part}-{number:04}", number)


def _part(path: Path) -> str:
    """ "test" of `test_socratic.jsonl`, and of the hub's `test-00000-of-00001.parquet`."""
    return _SHARD.sub("", path.name.split(".")[0].replace("_socratic", ""))


def _session(record: Located, id: str, number: int) -> Iterator[Session | Drop]:
    place = record.place
    problem = text_of(record.value, "question", place).strip()
    answer = text_of(record.value, "answer", place)
    final = after_hashes(answer)
    pairs = [
        [part.strip() for part in line.partition(_BETWEEN)]
        for line in without_hashes(answer).split("\n")
        if line.strip()
    ]
    if not problem:
        yield Drop(EMPTY_MESSAGE, place, id)
    elif final is None:
        yield Drop(NO_ANSWER, place, id)
    elif not pairs:
        yield Drop(NO_USER_TURN, place, id)
    elif not all(question and between for question, between, _ in pairs):
        yield Drop(MALFORMED_STEP, place, id)
    else:
        questions, steps = [q for q, _, _ in pairs], [step for _, _, step in pairs]
        yield from (Drop(EMPTY_MESSAGE, place, id) for step in steps if not step)
        gold = [
            None if questions[turn] in questions[turn + 1 :] else calculated(step)
            for turn, step in enumerate(steps[:-1])
        ]
        questions[0] = f"{problem}\n\nLet us go step by step. First: {questions[0]}"
        references = tuple(without_marks(step).strip() or None for step in steps)
        yield to_session(
            Exchanges(tuple(questions), references, opening=None, empty=0),
            id=id,
            task="gsm8k_socratic",
            place=place,
            reference_kind="human",
            system=SYSTEM,
            license="MIT",
            gold=(*gold, final),
            source={"file": record.path.name, "record": number},
        )
