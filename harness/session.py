"""A session: one dialogue's user turns, the unit of work, checkpoint, retry and statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Role = Literal["F", "G"]
"""F is the original (large) model, G the surrogate (small) one."""

ReferenceKind = Literal["human", "model"]


@dataclass(frozen=True)
class Session:
    """One dialogue, as a task provides it.

    `references` and `gold`, where given, hold one entry per user turn (None: none for that turn).
    `gold` entries are checkable final answers. `metadata` carries facts a report may group by.
    Raises ValueError when the lengths disagree or a turn is empty.
    """

    id: str
    task: str
    turns: tuple[str, ...]
    references: tuple[str | None, ...] | None = None
    reference_kind: ReferenceKind | None = None
    gold: tuple[str | None, ...] | None = None
    system: str | None = None
    language: str = "en"
    license: str = "unknown"
    source: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("session id is empty")
        for number, turn in enumerate(self.turns, start=1):
            if not turn.strip():
                raise ValueError(f"turn {number} is empty")
        for name in ("references", "gold"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.turns):
                raise ValueError(
                    f"{name} has {len(values)} entries for {len(self.turns)} turns; "
                    "give one per turn (or null)"
                )
        if self.references is not None and self.reference_kind is None:
            raise ValueError("references need reference_kind: 'human' or 'model'")

    def opening(self) -> Session:
        """What a Method may see when it opens the session: nothing of the turns to come.

        Metadata goes too: it may say what a turn will ask, or what the other side wants.
        """
        return replace(self, turns=(), references=None, reference_kind=None, gold=None, metadata={})
