"""MT-Bench: 80 two-turn questions in eight categories, 30 of them with replies of GPT-4."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from harness.data.dialogue import EMPTY_MESSAGE, Exchanges, to_session
from harness.data.json_values import Located
from harness.data.records import read_records
from harness.dataset import Dataset, RemoteFile, text_of
from harness.errors import UserError
from harness.session import Session
from harness.task import Drop, TaskCard

WRONG_REFERENCE = "wrong_reference"
WRONG_REFERENCES: Mapping[int, tuple[int, ...]] = MappingProxyType({104: (1, 2)})
"""Turns of the published references that are wrong, by question (lm-sys/FastChat#3053)."""

QUESTIONS = "question.jsonl"
REFERENCES = "reference_answer_gpt-4.jsonl"
_BESIDE = (REFERENCES, "reference_answer/gpt-4.jsonl")
"""Where the references lie, seen from the question file: as fetched, and as in the repository."""

_DATA = (
    "https://raw.githubusercontent.com/lm-sys/FastChat/"
    "0e6d3e4beaab66f4d3f93db72541a4abab8af28d/fastchat/llm_judge/data/mt_bench/"
)


class MtBench(Dataset):
    """MT-Bench in FastChat's form, or in that of the hub (`prompt` for `turns`).

    `path`: the question file, or a folder with it. `reference_path`: the file of reference replies;
    left out, the one beside the question file, if any. References that are known to be wrong are
    left out unless `keep_wrong_references`; `metadata.wrong_references` names their turns either
    way. `metadata` also has `category` and, where the questions carry one, `inline_reference`, a
    note on the right answer that FastChat's judge does not read.
    """

    reference_path: Path | None = None
    keep_wrong_references: bool = False

    card: ClassVar[TaskCard] = TaskCard(
        title="MT-Bench",
        license="Apache-2.0",
        language="en",
        origin="https://github.com/lm-sys/FastChat",
        citation="Zheng et al., Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena, "
        "arXiv 2306.05685",
        sessions=80,
        user_turns=160,
        default_warm_turns=1,
        reference_kind="model",
    )
    scorers: ClassVar[tuple[str, ...]] = ("similarity", "rouge_l", "repetition")
    patterns: ClassVar[tuple[str, ...]] = (QUESTIONS, "*.parquet")
    remote: ClassVar[tuple[RemoteFile, ...]] = (
        RemoteFile(
            QUESTIONS,
            f"{_DATA}question.jsonl",
            "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",
        ),
        RemoteFile(
            REFERENCES,
            f"{_DATA}reference_answer/gpt-4.jsonl",
            "f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f",
        ),
    )

    def files(self) -> list[Path]:
        """The questions, and behind them the references that belong to them."""
        found = super().files()
        beside = [path for path in map(self._references_of, found) if path is not None]
        return list(dict.fromkeys([*found, *beside]))

    def read(self, files: Sequence[Path]) -> Iterator[Session | Drop]:
        answers = set(map(self._references_of, files))
        questions = [path for path in files if path not in answers]
        if not questions:
            raise UserError(files[0], f"holds the references; give {QUESTIONS}, they lie beside it")
        seen: set[int] = set()
        for path in questions:
            answered = self._references_of(path)
            references = _read_references(answered) if answered else None
            for record in read_records(path):
                question = _question(record)
                if question.id in seen:
                    raise UserError(record.place, f"question {question.id} is given twice")
                seen.add(question.id)
                yield from self._session(question, references)

    def _references_of(self, questions: Path) -> Path | None:
        """The file of reference replies to a file of questions; None where there is none."""
        if self.reference_path is not None:
            return self.reference_path.expanduser()
        beside = (questions.parent / name for name in _BESIDE)
        return next((path for path in beside if path.is_file()), None)

    def _session(
        self, question: _Question, references: dict[int, list[str]] | None
    ) -> Iterator[Session | Drop]:
        id, place = f"mt_bench-{question.id}", question.place
        if not all(turn.strip() for turn in question.turns):
            yield Drop(EMPTY_MESSAGE, place, id)
            return
        published = self._published(question, references)
        wrong = WRONG_REFERENCES.get(question.id, ()) if published else ()
        left_out = () if self.keep_wrong_references else wrong
        yield from (Drop(WRONG_REFERENCE, place, f"{id}, turn {turn}") for turn in left_out)
        metadata: dict[str, Any] = {"category": question.category}
        if question.inline:
            metadata["inline_reference"] = question.inline
        if wrong:
            metadata["wrong_references"] = list(wrong)
        yield to_session(
            Exchanges(
                turns=tuple(turn.strip() for turn in question.turns),
                replies=tuple(
                    published[turn - 1].strip() or None
                    if published and turn not in left_out
                    else None
                    for turn in range(1, len(question.turns) + 1)
                ),
                opening=None,
                empty=0,
            ),
            id=id,
            task="mt_bench",
            place=place,
            reference_kind="model",
            license="Apache-2.0",
            source={"file": question.file, "record": question.id},
            metadata=metadata,
        )

    def _published(
        self, question: _Question, references: dict[int, list[str]] | None
    ) -> list[str] | None:
        """The reference replies of a question, one per turn; None where it has none."""
        if references is None:
            return None
        if question.is_hub:
            if self.reference_path is not None:
                raise UserError(
                    question.place,
                    "the questions have no 'question_id', by which references are found; "
                    f"give FastChat's {QUESTIONS}",
                )
            return None
        published = references.get(question.id)
        if published is not None and len(published) != len(question.turns):
            raise UserError(
                question.place,
                f"question {question.id} has {len(question.turns)} turns and {len(published)} "
                "reference replies; give one per turn",
            )
        return published


@dataclass(frozen=True)
class _Question:
    """A question. `is_hub`: `id` is the hub's, taken from the text and not FastChat's number."""

    id: int
    is_hub: bool
    category: str
    turns: list[str]
    inline: list[str]
    file: str
    place: str


def _question(record: Located) -> _Question:
    value, place = record.value, record.place
    category = text_of(value, "category", place)
    is_hub = "question_id" not in value
    turns = _texts(value, "turns" if "turns" in value else "prompt", place)
    if not turns:
        raise UserError(place, "the question has no turns")
    return _Question(
        id=_number(value, "prompt_id" if is_hub else "question_id", place),
        is_hub=is_hub,
        category=category,
        turns=turns,
        inline=_texts(value, "reference", place) if value.get("reference") is not None else [],
        file=record.path.name,
        place=place,
    )


def _read_references(path: Path) -> dict[int, list[str]]:
    """The reply to each turn, by question, of a file of model answers in FastChat's form."""
    found: dict[int, list[str]] = {}
    for record in read_records(path):
        value, place = record.value, record.place
        id = _number(value, "question_id", place)
        choices = value.get("choices")
        if not isinstance(choices, list) or not choices:
            raise UserError(place, "'choices' must be a list with one choice or more")
        if id in found:
            raise UserError(place, f"question {id} has two references; keep one")
        found[id] = _texts(choices[0], "turns", place)
    return found


def _number(value: Any, key: str, place: str) -> int:
    number = value.get(key) if isinstance(value, dict) else None
    if not isinstance(number, int) or isinstance(number, bool):
        raise UserError(place, f"{key!r} must be a whole number, not {type(number).__name__}")
    return number


def _texts(value: Any, key: str, place: str) -> list[str]:
    texts = value.get(key) if isinstance(value, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UserError(place, f"{key!r} must be a list of strings")
    return texts
