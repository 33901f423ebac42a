"""Prompts for the recipe: templates of `prompts.toml` with their slots filled by seed."""

from __future__ import annotations

import random
import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files

SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Dialogue:
    """User turns of one dialogue; the assistant turns are F's to write."""

    kind: str
    turns: tuple[str, ...]


def dialogues(count: int, *, seed: int, held_out: bool, follow_up_share: float) -> list[Dialogue]:
    """Up to `count` distinct dialogues, kinds in turn, from the training or the held-out kinds.

    A share of `follow_up_share` of them has a second user turn, a third of those a third one.
    """
    data = tomllib.loads(files(__package__).joinpath("prompts.toml").read_text("utf-8"))
    rng = random.Random(seed)
    kinds = [k for k in data["kind"] if k.get("held_out", False) == held_out]
    seen: set[str] = set()
    out: list[Dialogue] = []
    misses = 0
    while len(out) < count and misses < 1000 * len(kinds):
        kind = kinds[(len(out) + misses) % len(kinds)]
        opening = _fill(rng.choice(kind["templates"]), data["slots"], rng)
        if opening in seen:
            misses += 1
            continue
        seen.add(opening)
        turns = [opening]
        while len(turns) < 3 and rng.random() < (follow_up_share if len(turns) == 1 else 1 / 3):
            turns.append(rng.choice(data["follow_ups"]))
        out.append(Dialogue(kind["name"], tuple(turns)))
    return out


def _fill(template: str, slots: dict[str, list[str]], rng: random.Random) -> str:
    text = SLOT.sub(lambda m: rng.choice(slots[m.group(1)]), template)
    return text[0].upper() + text[1:]
