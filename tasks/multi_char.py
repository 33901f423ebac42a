"""Multi-character dialogue: the model plays one character, the user's turns are all the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from harness.data.json_values import Located
from harness.data.records import read_records
from harness.dataset import Dataset, RemoteFile, text_of
from harness.errors import UserError
from harness.session import Session
from harness.task import Drop, TaskCard
from tasks._cast import DUPLICATE_ID, Scene, Spoken, play

LICENSE = "CC-BY-4.0"
OUTCOME = "setting after interaction"
REVISION = "c082b3d894e5c90b82e48dd83048ff46f899e9bd"


class MultiChar(Dataset):
    """Scenes with a setting, described characters and their lines.

    `character`: whom the model plays, by name; None, the described character with the most lines
    among those who do not begin the scene (of equals, the first to speak). The setting and all
    descriptions are in the system prompt. `metadata` has `plays`, `characters` and `outcome`: what
    the scene led to, which no method sees.
    """

    character: str | None = Field(default=None, min_length=1)

    card: ClassVar[TaskCard] = TaskCard(
        title="Multi-character dialogue",
        license=LICENSE,
        language="en",
        origin="https://huggingface.co/datasets/agentlans/multi-character-dialogue",
        citation="agentlans, Multi-Character Dialogue Dataset, Hugging Face, 2024",
        sessions=None,
        user_turns=None,
        default_warm_turns=8,
        reference_kind="model",
    )
    scorers: ClassVar[tuple[str, ...]] = ("similarity", "rouge_l", "repetition")
    patterns: ClassVar[tuple[str, ...]] = ("*.jsonl", "*.json", "*.parquet")
    remote: ClassVar[tuple[RemoteFile, ...]] = (
        RemoteFile(
            "train.jsonl.gz",
            "https://huggingface.co/datasets/agentlans/multi-character-dialogue/resolve/"
            f"{REVISION}/train.jsonl.gz",
            None,
        ),
    )

    def read(self, files: Sequence[Path]) -> Iterator[Session | Drop]:
        """Records have no ids: a session is named by its file and its number in it, from 1.

        A second file of the same name before its suffixes repeats ids; its records are dropped.
        """
        seen: set[str] = set()
        for path in files:
            for number, found in enumerate(read_records(path), start=1):
                scene = _scene(found, number)
                if scene.id in seen:
                    yield Drop(DUPLICATE_ID, scene.place, scene.id)
                    continue
                seen.add(scene.id)
                yield from play(
                    scene,
                    self.character,
                    task="multi_char",
                    license=LICENSE,
                    reference_kind="model",
                )


def _scene(found: Located, number: int) -> Scene:
    """Raises UserError for a record without setting, characters or conversation."""
    record, place = found.value, found.place
    if not isinstance(record, dict):
        raise UserError(place, f"a record must be an object, not {type(record).__name__}")
    for key in ("setting", "characters", "conversation"):
        if record.get(key) is None:
            raise UserError(
                place, f"has no {key!r}; a record has setting, characters and conversation"
            )
    lines = _lines(record["conversation"], place)
    speaking = {name for line in lines for name in line.names}
    return Scene(
        id=f"multi_char-{found.path.name.split('.')[0]}-{number:05d}",
        place=place,
        setting=_prose(record["setting"]),
        characters={
            name: about
            for name, about in _characters(record["characters"], place)
            if name and (about or name in speaking)
        },
        lines=lines,
        source={"file": found.path.name, "record": number},
        metadata={"outcome": _prose(record.get(OUTCOME)) or None},
    )


def _characters(value: Any, place: str) -> list[tuple[str, str]]:
    """Names and descriptions, of an object by name or of a list of name and description.

    A table with typed columns (parquet) gives every record the names of all, with null for who is
    not in it: without a description the name counts only where it speaks.
    """
    if isinstance(value, dict):
        return [(name.strip(), _prose(about)) for name, about in value.items()]
    if isinstance(value, list):
        return [
            (text_of(item, "name", place).strip(), _prose(item.get("description")))
            for item in value
        ]
    raise UserError(
        place, f"'characters' must map names to descriptions, not be {type(value).__name__}"
    )


def _lines(value: Any, place: str) -> tuple[Spoken, ...]:
    """The conversation: each line with `from` and `message`, or with `speaker` and `text`."""
    if not isinstance(value, list):
        raise UserError(place, f"'conversation' must be a list, not {type(value).__name__}")
    lines = []
    for number, item in enumerate(value, start=1):
        where = f"{place} (line {number} of the conversation)"
        who, what = ("from", "message")
        if isinstance(item, dict) and "from" not in item and "speaker" in item:
            who, what = ("speaker", "text")
        name = text_of(item, who, where).strip()
        said = "" if item.get(what, "") is None else text_of(item, what, where)
        lines.append(Spoken((name,), said))
    return tuple(lines)


def _prose(value: Any) -> str:
    """A description as text. The records were written by a model: some may hold lists or parts."""
    if isinstance(value, dict):
        parts = ((key, _prose(part)) for key, part in value.items())
        return "; ".join(f"{key}: {part}" for key, part in parts if part)
    if isinstance(value, list):
        return ", ".join(filter(None, map(_prose, value)))
    return "" if value is None else str(value).strip()
