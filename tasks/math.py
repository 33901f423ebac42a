"""MATH: competition problems, several of one subject and level as the turns of a session."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from harness.data.dialogue import (
    BROKEN_CHARACTERS,
    EMPTY_MESSAGE,
    Exchanges,
    has_broken_characters,
    to_session,
)
from harness.data.json_values import Located
from harness.data.records import read_records
from harness.dataset import Dataset, text_of
from harness.errors import UserError
from harness.session import Session
from harness.task import Drop, TaskCard
from tasks._answers import SYSTEM, boxed

DUPLICATE_PROBLEM = "duplicate_problem"
LEFT_OVER = "left_over"
NO_ANSWER = "no_answer"
UNKNOWN_LEVEL = "unknown_level"

LICENSE = "disputed: published as MIT, taken off the hub after a DMCA notice of 2025-01-02"

Group = tuple[str, int]
"""Subject and level."""


class Math(Dataset):
    """Sessions made of MATH or MATH-500, `problems` of one subject and level each.

    The sets are single questions: which ones make a session, and in which order, is this project's
    choice and no part of the published data. It is drawn by `seed` and depends on nothing but the
    problems: not on names, layout or order of the files. References are the published solutions;
    gold is the published answer, else the last box of the solution. `metadata` has `subject` and
    `level`.
    """

    problems: int = Field(default=12, ge=1)
    seed: int = 0

    card: ClassVar[TaskCard] = TaskCard(
        title="MATH, problems of one kind in a row",
        license=LICENSE,
        language="en",
        origin="https://github.com/hendrycks/math (no longer there)",
        citation="Hendrycks et al., Measuring Mathematical Problem Solving With the MATH Dataset, "
        "arXiv 2103.03874; MATH-500: Lightman et al., Let's Verify Step by Step, arXiv 2305.20050",
        sessions=None,
        user_turns=None,
        default_warm_turns=8,
        reference_kind="human",
    )
    scorers: ClassVar[tuple[str, ...]] = ("exact_match", "similarity", "rouge_l", "repetition")
    # Parquet lies in a folder per subject, JSON in one per subject within one per split.
    patterns: ClassVar[tuple[str, ...]] = (
        *("*.jsonl", "*.parquet", "*.json"),
        *("*/*.parquet", "*/*.json", "*/*/*.json"),
    )

    def read(self, files: Sequence[Path]) -> Iterator[Session | Drop]:
        found: list[_Problem] = []
        for path in files:
            for record in _records(path):
                item = _problem(record)
                if isinstance(item, Drop):
                    yield item
                else:
                    found.append(item)
        groups: dict[Group, list[_Problem]] = {}
        previous = None
        for problem in sorted(found, key=_Problem.sort_key):
            if problem.text == previous:
                yield Drop(DUPLICATE_PROBLEM, problem.place, problem.record)
            else:
                groups.setdefault((problem.subject, problem.level), []).append(problem)
            previous = problem.text
        yield from self._compose(groups)

    def _compose(self, groups: Mapping[Group, list[_Problem]]) -> Iterator[Session | Drop]:
        """The first session of every group, then the second ones: a limit takes some of each."""
        composed: list[tuple[int, Group, list[_Problem]]] = []
        left: list[_Problem] = []
        for group, members in sorted(groups.items()):
            subject, level = group
            random.Random(f"math {self.seed} {subject} {level}").shuffle(members)
            whole = len(members) // self.problems
            left += members[whole * self.problems :]
            for number in range(1, whole + 1):
                start = (number - 1) * self.problems
                composed.append((number, group, members[start : start + self.problems]))
        for number, group, chosen in sorted(composed, key=lambda made: made[:2]):
            yield _session(number, group, chosen)
        yield from (Drop(LEFT_OVER, problem.place, problem.record) for problem in left)


@dataclass(frozen=True)
class _Problem:
    """One problem. `subject` is spelt as in ids; `digest`, of the text, names and sorts it."""

    text: str
    solution: str
    gold: str
    subject: str
    level: int
    digest: str
    record: str
    file: str
    place: str

    def sort_key(self) -> tuple[str, str, int, str, str, str]:
        return (self.digest, self.subject, self.level, self.solution, self.gold, self.record)


def _session(number: int, group: Group, chosen: list[_Problem]) -> Session | Drop:
    subject, level = group
    return to_session(
        Exchanges(
            turns=tuple(problem.text for problem in chosen),
            replies=tuple(problem.solution or None for problem in chosen),
            opening=None,
            empty=0,
        ),
        id=f"math-{subject}-{level}-{number:04}",
        task="math",
        place=chosen[0].place,
        reference_kind="human",
        system=SYSTEM,
        license=LICENSE,
        gold=tuple(problem.gold for problem in chosen),
        source={"problems": [{"file": p.file, "record": p.record} for p in chosen]},
        metadata={"subject": subject, "level": level},
    )


def _records(path: Path) -> Iterator[Located]:
    """The problems of a file: rows, items or lines, or the one object of a JSON file."""
    members: dict[str, Any] = {}
    for found in read_records(path):
        if found.key is None:
            yield found
        else:
            members[found.key] = found.value
    if members:
        yield Located(path, 1, members)


def _problem(located: Located) -> _Problem | Drop:
    """A record of MATH (`type`, level in words) or of MATH-500 (`subject`, `answer`, a number)."""
    value, place = located.value, located.place
    text = text_of(value, "problem", place).strip()
    solution = text_of(value, "solution", place).strip()
    subject = text_of(value, "subject" if "subject" in value else "type", place)
    level = _level(value.get("level"), place)
    answer = text_of(value, "answer", place).strip() if value.get("answer") is not None else ""
    name = text_of(value, "unique_id", place) if value.get("unique_id") is not None else ""
    if any(map(has_broken_characters, (text, solution, subject, answer, name))):
        return Drop(BROKEN_CHARACTERS, place)
    digest = hashlib.sha256(text.encode()).hexdigest()
    record = name or digest[:12]
    gold = answer or boxed(solution)
    if not text:
        return Drop(EMPTY_MESSAGE, place, record)
    if gold is None:
        return Drop(NO_ANSWER, place, record)
    if level is None:
        return Drop(UNKNOWN_LEVEL, place, record)
    return _Problem(
        text=text,
        solution=solution,
        gold=gold,
        subject=_spelt(subject, place),
        level=level,
        digest=digest,
        record=record,
        file=located.path.name,
        place=place,
    )


def _level(value: Any, place: str) -> int | None:
    """3 of 3, "3" and "Level 3"; None of "Level ?"."""
    words = str(value).removeprefix("Level").strip()
    if isinstance(value, int | str) and not isinstance(value, bool):
        if re.fullmatch(r"[0-9]{1,2}", words):
            return int(words)
        if words == "?":
            return None
    raise UserError(place, f"'level' must be a number or \"Level 3\", not {value!r:.40}")


def _spelt(subject: str, place: str) -> str:
    """`counting_and_probability` of "Counting & Probability"."""
    spelt = "_".join(re.findall(r"[a-z0-9]+", subject.lower().replace("&", " and ")))
    if not spelt:
        raise UserError(place, f"the subject {subject!r:.40} has no letters")
    return spelt
