"""MT-Bench-101: dialogues for thirteen abilities, two to some six turns, with GPT-4's replies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import field_validator

from harness.data.dialogue import EMPTY_MESSAGE, Line, exchanges, to_session
from harness.data.json_values import Located
from harness.data.records import read_records
from harness.dataset import Dataset, RemoteFile, text_of
from harness.errors import UserError
from harness.session import Session
from harness.task import Drop, TaskCard

DUPLICATE_ID = "duplicate_id"
OTHER_TYPE = "other_type"

TYPES: Mapping[str, str] = MappingProxyType(
    {
        "CM": "context memory",
        "AR": "anaphora resolution",
        "SI": "separate input",
        "TS": "topic shift",
        "CC": "content confusion",
        "CR": "content rephrasing",
        "FR": "format rephrasing",
        "SC": "self-correction",
        "SA": "self-affirmation",
        "MR": "mathematical reasoning",
        "GR": "general reasoning",
        "IC": "instruction clarification",
        "PI": "proactive interaction",
    }
)
"""What each type of dialogue asks of a model."""
_VALID = f"valid: {', '.join(sorted(TYPES))}"


class MtBench101(Dataset):
    """MT-Bench-101, all of it or the dialogues of some `types`.

    `types`: codes such as ("GR", "MR"), or "GR+MR" in one word; None takes all thirteen.
    `metadata` has `type`, the code, and `ability`, what it stands for.
    """

    types: tuple[str, ...] | None = None

    card: ClassVar[TaskCard] = TaskCard(
        title="MT-Bench-101",
        license="Apache-2.0",
        language="en",
        origin="https://github.com/mtbench101/mt-bench-101",
        citation="Bai et al., MT-Bench-101: A Fine-Grained Benchmark for Evaluating Large Language "
        "Models in Multi-Turn Dialogues, arXiv 2402.14762",
        sessions=1388,
        user_turns=4208,
        default_warm_turns=1,
        reference_kind="model",
    )
    scorers: ClassVar[tuple[str, ...]] = ("similarity", "rouge_l", "repetition")
    patterns: ClassVar[tuple[str, ...]] = ("mtbench101*.jsonl",)
    remote: ClassVar[tuple[RemoteFile, ...]] = (
        RemoteFile(
            "mtbench101.jsonl",
            "https://raw.githubusercontent.com/mtbench101/mt-bench-101/"
            "bc18b3e2c18c99164e11528f1a79c92083db5953/data/subjective/mtbench101.jsonl",
            None,
        ),
    )

    @field_validator("types", mode="before")
    @classmethod
    def _split(cls, types: Any) -> Any:
        return tuple(types.split("+")) if isinstance(types, str) else types

    @field_validator("types")
    @classmethod
    def _known(cls, types: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if types is not None and not types:
            raise ValueError("names no type; leave it out for all of them")
        for code in types or ():
            if code not in TYPES:
                raise ValueError(f"no type {code!r}; {_VALID}")
        return types

    def read(self, files: Sequence[Path]) -> Iterator[Session | Drop]:
        seen: set[str] = set()
        for path in files:
            for record in read_records(path):
                code, number, lines = _dialogue(record)
                id = f"mt_bench_101-{code}-{number}"
                if self.types is not None and code not in self.types:
                    yield Drop(OTHER_TYPE, record.place, id)
                elif id in seen:
                    yield Drop(DUPLICATE_ID, record.place, id)
                else:
                    seen.add(id)
                    yield from _session(record, id, code, number, lines)


def _session(
    record: Located, id: str, code: str, number: int, lines: list[Line]
) -> Iterator[Session | Drop]:
    found = exchanges(lines)
    yield from (Drop(EMPTY_MESSAGE, record.place, id) for _ in range(found.empty))
    yield to_session(
        found,
        id=id,
        task="mt_bench_101",
        place=record.place,
        reference_kind="model",
        license="Apache-2.0",
        source={"file": record.path.name, "record": number},
        metadata={"type": code, "ability": TYPES[code]},
    )


def _dialogue(record: Located) -> tuple[str, int, list[Line]]:
    """Type, number and messages of a record."""
    value, place = record.value, record.place
    code = text_of(value, "task", place)
    if code not in TYPES:
        raise UserError(place, f"'task' {code!r:.40} is no type; {_VALID}")
    number, history = value.get("id"), value.get("history")
    if not isinstance(number, int) or isinstance(number, bool):
        raise UserError(place, f"'id' must be a whole number, not {type(number).__name__}")
    if not isinstance(history, list):
        raise UserError(place, f"'history' must be a list, not {type(history).__name__}")
    lines = []
    for pair in history:
        lines.append(Line("user", text_of(pair, "user", place)))
        lines.append(Line("model", text_of(pair, "bot", place)))
    return code, number, lines
