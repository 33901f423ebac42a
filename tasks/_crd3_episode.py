"""An episode of CRD3 out of its aligned chunks: each turn once, and the summaries by turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.records import read_records
from harness.dataset import text_of
from harness.errors import UserError
from tasks._cast import Spoken


@dataclass(frozen=True)
class Turn(Spoken):
    """A turn of the transcript by its number there; `place` is the chunk that has it first."""

    number: int
    place: str


@dataclass(frozen=True)
class Episode:
    """`turns` by number; `summaries`: texts with the number of the last turn each is about."""

    turns: tuple[Turn, ...]
    summaries: tuple[tuple[int, str], ...]

    def stretches(self) -> Iterator[list[Turn]]:
        """Turns whose numbers follow each other: no alignment reaches over what is missing."""
        stretch: list[Turn] = []
        for turn in self.turns:
            if stretch and turn.number != stretch[-1].number + 1:
                yield stretch
                stretch = []
            stretch.append(turn)
        yield stretch

    def summaries_before(self, number: int) -> list[str]:
        """Summaries of what ended before turn `number`."""
        return [text for last, text in self.summaries if last < number]


def read_episode(path: Path) -> Episode:
    """The episode of a file of chunks.

    Neighbouring chunks share turns, and several may be about the same one. Raises UserError for a
    chunk or turn that is not of the schema, a turn that differs from what an earlier chunk says
    of it, and a file without turns.
    """
    turns: dict[int, Turn] = {}
    summaries = []
    for found in read_records(path):
        chunk, place = found.value, found.place
        summary = " ".join(text_of(chunk, "CHUNK", place).split())
        if not isinstance(chunk.get("TURNS"), list):
            raise UserError(place, "'TURNS' must be a list")
        last = None
        for item in chunk["TURNS"]:
            turn = _turn(item, place)
            known = turns.setdefault(turn.number, turn)
            if (known.names, known.text) != (turn.names, turn.text):
                raise UserError(
                    place,
                    f"turn {turn.number} is not what the chunk at {known.place} says; "
                    "are these chunks of two episodes?",
                )
            last = turn.number if last is None else max(last, turn.number)
        if last is not None:
            summaries.append((last, summary))
    if not turns:
        raise UserError(path, "holds no turns")
    return Episode(tuple(turns[number] for number in sorted(turns)), tuple(summaries))


def _turn(item: Any, place: str) -> Turn:
    if not isinstance(item, dict):
        raise UserError(place, f"a turn must be an object, not {type(item).__name__}")
    number = item.get("NUMBER")
    if not isinstance(number, int) or isinstance(number, bool):
        raise UserError(place, f"'NUMBER' of a turn must be an integer, not {number!r}")
    names, said = (_strings(item, key, f"{place} (turn {number})") for key in _LISTS)
    return Turn(tuple(filter(None, names)), " ".join(filter(None, said)), number, place)


_LISTS = ("NAMES", "UTTERANCES")


def _strings(item: dict[str, Any], key: str, place: str) -> list[str]:
    value = item.get(key)
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise UserError(place, f"{key!r} must be a list of strings")
    return [part.strip() for part in value]
