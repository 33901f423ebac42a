"""What the harness asks of a scorer: values for turns, each a number or a reason for none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Needs = Literal["reference_reply", "gold", "none"]
"""What a reply is compared with: the reference method's reply, a gold answer, or nothing."""


@dataclass(frozen=True)
class Item:
    """One turn to score. `reference_reply` and `gold` are None where there is none."""

    user: str
    reply: str
    reference_reply: str | None = None
    gold: str | None = None


@dataclass(frozen=True)
class Unscored:
    """A turn that has no value, and why."""

    reason: str


@dataclass(frozen=True)
class Resources:
    """What scorers may use besides the texts. `encoder_dir`: the pair's sentence encoder."""

    encoder_dir: Path | None = None


Value = float | Unscored


class Scorer(Protocol):
    """A scorer is made without arguments and holds nothing that changes its values."""

    needs: Needs
    self_value: float | None
    """The value of a reply against itself, given to the reference method by definition. None for
    a scorer that compares with no reference reply."""

    def values(self, items: Sequence[Item], resources: Resources) -> list[Value]:
        """One value per item, in order. Depends on nothing but the arguments."""
        ...
