"""LIGHT multi-party chat: the model plays one of three characters of a fantasy scene."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from harness.data.json_values import Located
from harness.data.records import read_records
from harness.data.text import read_chunks
from harness.dataset import Dataset, text_of
from harness.errors import UserError
from harness.session import Session
from harness.task import Drop, TaskCard
from tasks._cast import DUPLICATE_ID, Scene, Spoken, play
from tasks._light_acts import read_scenes

LICENSE = "MIT"


class Light(Dataset):
    """Scenes that three people played, each with a location, personas and their lines.

    `character`: whom the model plays, by name; None, the character with the most lines among those
    who do not begin the scene (of equals, the first to speak). Location and personas are in the
    system prompt. `metadata` has `plays`, `characters` and `quality_tier` (1 is the better one).
    """

    character: str | None = Field(default=None, min_length=1)

    card: ClassVar[TaskCard] = TaskCard(
        title="LIGHT multi-party chat (MultiLIGHT)",
        license=LICENSE,
        language="en",
        origin="https://github.com/facebookresearch/ParlAI, parlai/tasks/light_multiparty",
        citation=(
            "Wei et al., Multi-Party Chat: Conversational Agents in Group Settings with Humans "
            "and Models, 2023, arXiv:2304.13835"
        ),
        sessions=None,
        user_turns=None,
        default_warm_turns=8,
        reference_kind="human",
    )
    scorers: ClassVar[tuple[str, ...]] = ("similarity", "rouge_l", "repetition")
    patterns: ClassVar[tuple[str, ...]] = ("*.jsonl", "*.yml")

    def read(self, files: Sequence[Path]) -> Iterator[Session | Drop]:
        """Scenes have no ids: a session is named by its file and its number in it, from 1.

        A second file of the same name before its suffixes repeats ids; its scenes are dropped.
        """
        seen: set[str] = set()
        for path in files:
            scenes = _read_records(path) if _is_json(path) else read_scenes(path)
            for number, found in enumerate(scenes, start=1):
                scene = _scene(found, number)
                if scene.id in seen:
                    yield Drop(DUPLICATE_ID, scene.place, scene.id)
                    continue
                seen.add(scene.id)
                yield from play(
                    scene, self.character, task="light", license=LICENSE, reference_kind="human"
                )


def _is_json(path: Path) -> bool:
    """Whether the content begins as JSON does; ParlAI's YAML begins with a key."""
    return next(read_chunks(path)).lstrip()[:1] in ("{", "[")


def _read_records(path: Path) -> Iterator[Located]:
    """The scenes of the released JSON Lines, in the form that `read_scenes` gives them."""
    for found in read_records(path):
        record, place = found.value, found.place
        if not isinstance(record, dict) or not isinstance(record.get("messages"), list):
            raise UserError(
                place, "is no scene: one has characters, location and a list of messages"
            )
        lines = [
            (text_of(message, "speaker", place), text_of(message, "text", place))
            for message in record["messages"]
        ]
        yield Located(found.path, found.line, {**record, "lines": lines})


def _scene(found: Located, number: int) -> Scene:
    """A scene of either form. Raises UserError for a missing location or persona."""
    record, place = found.value, found.place
    location = record.get("location")
    name, about = (text_of(location, key, place).strip() for key in ("name", "description"))
    return Scene(
        id=f"light-{found.path.name.split('.')[0]}-{number:05d}",
        place=place,
        setting=f"{name}. {about}" if name and about else name or about,
        characters=_characters(record.get("characters"), place),
        lines=tuple(Spoken((speaker.strip(),), text) for speaker, text in record["lines"]),
        source={"file": found.path.name, "record": number},
        metadata={"quality_tier": record.get("quality_tier")},
    )


def _characters(value: Any, place: str) -> dict[str, str]:
    if not isinstance(value, list):
        raise UserError(place, "'characters' must be a list of names with personas")
    return {text_of(item, "name", place).strip(): text_of(item, "persona", place) for item in value}
