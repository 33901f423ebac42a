"""Putting two sessions together at a turn, and cutting the control that goes with them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from harness.session import ReferenceKind, Session

LEAST_AFTER = 3
"""Least turns from the shift on: a monitor that wants three failed checks in a row can fire."""

_TASK = "drift"


def last_shift(first: Session) -> int:
    """The last turn of `first` that leaves `LEAST_AFTER` turns, that turn included."""
    return len(first.turns) - LEAST_AFTER + 1


def partners(
    first: Sequence[Session], second: Sequence[Session] | None, seed: int
) -> list[tuple[Session, Session]]:
    """Each session of `first` with the one that will follow it, in the order of `first`.

    With `second` None the sessions of `first` follow one another in a ring drawn by `seed`: each
    comes once as a second half and never after itself. Needs two sessions then, else one of each.
    """
    draw = random.Random(f"{seed}/partners")
    if second is None:
        ring = list(range(len(first)))
        draw.shuffle(ring)
        after = dict(zip(ring, ring[1:] + ring[:1], strict=True))
        return [(session, first[after[place]]) for place, session in enumerate(first)]
    order = list(second)
    draw.shuffle(order)
    return [(session, order[place % len(order)]) for place, session in enumerate(first)]


def splice(first: Session, second: Session, shift: int) -> Session:
    """`first` up to the turn before `shift`, then `second` from its beginning.

    As long as `first`, or shorter where `second` ends before. The system prompt stays that of
    `first`. `gold` and `references` are kept where both sessions have them (references of one
    kind).
    """
    before = shift - 1
    after = min(len(first.turns) - before, len(second.turns))
    kind = _common_kind(first, second)
    return Session(
        id=f"drift-{first.id}-{second.id}",
        task=_TASK,
        turns=first.turns[:before] + second.turns[:after],
        references=_joined(first.references, second.references, before, after) if kind else None,
        reference_kind=kind,
        gold=_joined(first.gold, second.gold, before, after),
        system=first.system,
        language=_agreed(first.language, second.language),
        license=_agreed(first.license, second.license),
        source={"first": dict(first.source), "second": dict(second.source)},
        metadata={"shift_turn": shift, "spliced_from": [first.id, second.id]},
    )


def control_of(first: Session, spliced: Session) -> Session:
    """`first` alone, cut to the length of `spliced`."""
    length = len(spliced.turns)
    return replace(
        first,
        id=f"control-{first.id}",
        task=_TASK,
        turns=first.turns[:length],
        references=first.references and first.references[:length],
        gold=first.gold and first.gold[:length],
        metadata={
            "shift_turn": None,
            "control_of": spliced.id,
            "compare_from": spliced.metadata["shift_turn"],
        },
    )


def _joined(
    first: tuple[str | None, ...] | None,
    second: tuple[str | None, ...] | None,
    before: int,
    after: int,
) -> tuple[str | None, ...] | None:
    if first is None or second is None:
        return None
    return first[:before] + second[:after]


def _common_kind(first: Session, second: Session) -> ReferenceKind | None:
    if first.references is None or second.references is None:
        return None
    return first.reference_kind if first.reference_kind == second.reference_kind else None


def _agreed(first: str, second: str) -> str:
    """Of both halves: one word where they agree, else both."""
    return first if first == second else f"{first} and {second}"
