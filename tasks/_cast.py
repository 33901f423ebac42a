"""A scene of several characters as a session: one is the model's, the others' lines are the user's.

What the sets of scenes share: whose lines are played, how the others' lines become user turns, and
what the model is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.data.dialogue import EMPTY_MESSAGE, NO_USER_TURN, Line, exchanges, to_session
from harness.session import ReferenceKind, Session
from harness.task import Drop

CHARACTER_ABSENT = "character_absent"
UNKNOWN_SPEAKER = "unknown_speaker"
DUPLICATE_ID = "duplicate_id"


@dataclass(frozen=True)
class Spoken:
    """One line of a scene and who says it: several names where they say it together."""

    names: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Scene:
    """A scene as published. `characters`: what is known of each by name, empty where nothing is."""

    id: str
    place: str
    setting: str
    characters: Mapping[str, str]
    lines: Sequence[Spoken]
    source: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)


def play(
    scene: Scene,
    character: str | None,
    *,
    task: str,
    license: str,
    reference_kind: ReferenceKind,
) -> Iterator[Session | Drop]:
    """The session in which the model plays `character` (None: see `cast`), and what was left out.

    Drops: one per empty line, one per line without a speaker, and the scene itself where nobody
    can be played, where `character` says nothing, or where no one speaks to it.
    """
    lines = []
    for line in scene.lines:
        if not line.text.strip():
            yield Drop(EMPTY_MESSAGE, scene.place, scene.id)
        elif not any(line.names):
            yield Drop(UNKNOWN_SPEAKER, scene.place, scene.id)
        else:
            lines.append(line)
    plays = cast(lines, scene.characters) if character is None else character
    if plays is None:
        yield Drop(NO_USER_TURN, scene.place, scene.id)
        return
    if all(line.names != (plays,) for line in lines):
        yield Drop(CHARACTER_ABSENT, scene.place, f"{scene.id}: {plays}")
        return
    yield to_session(
        exchanges(as_lines(lines, plays)),
        id=scene.id,
        task=task,
        place=scene.place,
        reference_kind=reference_kind,
        system=scene_prompt(scene.setting, scene.characters, plays),
        license=license,
        source=scene.source,
        metadata={"plays": plays, "characters": list(scene.characters), **scene.metadata},
    )


def cast(lines: Iterable[Spoken], described: Iterable[str]) -> str | None:
    """The character with the most lines among those who do not begin the scene.

    The one who begins is left to the user's side, so that the model has something to answer. Only
    described characters are taken, unless none of them speaks; of equals, the first to speak.
    """
    counts = Counter(line.names[0] for line in lines if len(line.names) == 1)
    others = list(counts)[1:]
    known = set(described)
    candidates = [name for name in others if name in known] or others
    return max(candidates, key=lambda name: counts[name], default=None)


def as_lines(lines: Iterable[Spoken], plays: str) -> Iterator[Line]:
    """Lines of `plays` as the model's, all others as the user's with the speakers' names.

    A line that `plays` says together with others stays with the others: it is no reply of its own.
    """
    for line in lines:
        if line.names == (plays,):
            yield Line("model", line.text)
        else:
            yield Line("user", f"{' and '.join(line.names)}: {line.text.strip()}")


def scene_prompt(setting: str, characters: Mapping[str, str], plays: str) -> str:
    """What the model is told of a scene: where it is, who is there, and whom it plays."""
    there = "\n".join(
        f"- {name}: {about.strip()}" if about.strip() else f"- {name}"
        for name, about in characters.items()
    )
    parts = (
        f"You play {plays} in a scene with several characters.",
        f"Setting: {setting.strip()}" if setting.strip() else "",
        f"Characters:\n{there}" if there else "",
        reply_rule(plays),
    )
    return "\n\n".join(filter(None, parts))


def reply_rule(plays: str) -> str:
    """How the others' lines reach the model, and what it is to write."""
    return (
        'The others\' lines reach you as "Name: words". Answer with what '
        f"{plays} says next, and nothing else: no name before it, no lines of others."
    )
