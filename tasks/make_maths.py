"""Write the bundled maths sessions: `python -m tasks.make_maths [FILE]`.

The same seed gives the same bytes. Every gold answer is computed with exact fractions, and
`metadata.steps` holds the expression of each, over literals and earlier answers (t1 is turn 1's).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from tasks._bundled import DATA
from tasks._maths_book import FOLLOW_UPS, OPENING_TURNS, Book, Unsuitable
from tasks._maths_crowd import recipe, sale
from tasks._maths_money import saving, shopping
from tasks._maths_things import journey, tank

SEED = 2605

SYSTEM = (
    "You are a careful maths helper. Work step by step in a few short lines, using the numbers and "
    "answers given so far. End every answer to a calculation with the final number, without units, "
    "as \\boxed{number}."
)

Scenario = Callable[[Random, Book], None]

PLAN: tuple[tuple[Scenario, int, int], ...] = (
    (shopping, 0, 8),
    (tank, 1, 9),
    (journey, 0, 8),
    (saving, 1, 10),
    (recipe, 0, 12),
    (sale, 1, 10),
    (shopping, 1, 13),
    (tank, 0, 11),
    (journey, 1, 12),
    (saving, 0, 14),
    (recipe, 1, 9),
    (sale, 0, 11),
)
"""In canonical order: the scenario, which of its two stories, and the number of user turns."""


def sessions(seed: int = SEED) -> list[dict[str, Any]]:
    """The sessions as they stand in the file, one JSON object each."""
    return [_session(seed, scenario, story, turns) for scenario, story, turns in PLAN]


def _session(seed: int, scenario: Scenario, story: int, turns: int) -> dict[str, Any]:
    book = _suitable(f"{seed}/{scenario.__name__}/{story}", scenario, story, turns)
    return {
        "id": f"maths-{scenario.__name__}-{story + 1}",
        "system": SYSTEM,
        "turns": book.turns,
        "gold": book.gold,
        "language": "en",
        "license": "MIT",
        "source": {"origin": "written for this project", "generator": "tasks.make_maths"},
        "metadata": {"scenario": scenario.__name__, "steps": book.steps},
    }


def _suitable(seed: str, scenario: Scenario, story: int, turns: int) -> Book:
    """Draw numbers until every answer is positive and short."""
    for attempt in count():
        rng = Random(f"{seed}/{attempt}")
        kept = frozenset(rng.sample(range(FOLLOW_UPS), turns - OPENING_TURNS))
        book = Book(story, kept)
        try:
            scenario(rng, book)
        except Unsuitable:
            continue
        return book
    raise AssertionError("unreachable")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write the bundled maths sessions.")
    parser.add_argument("file", nargs="?", type=Path, default=DATA / "maths.jsonl")
    file: Path = parser.parse_args(arguments).file
    lines = [json.dumps(session, ensure_ascii=False) + "\n" for session in sessions()]
    file.write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
