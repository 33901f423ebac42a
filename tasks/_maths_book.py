"""A maths session under construction: exact numbers that remember how they were computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction

OPENING_TURNS = 2
FOLLOW_UPS = 12
"""Every scenario offers this many follow-up turns; a session keeps some of them, in order."""


class Unsuitable(Exception):
    """The numbers drawn give an answer that nobody would ask for; draw others."""


@dataclass(frozen=True)
class Number:
    """An exact value and the expression that gives it, over literals and earlier answers t1, t2."""

    value: Fraction
    how: str

    def __add__(self, other: Number | int) -> Number:
        other = number(other)
        return Number(self.value + other.value, f"({self.how} + {other.how})")

    def __sub__(self, other: Number | int) -> Number:
        other = number(other)
        return Number(self.value - other.value, f"({self.how} - {other.how})")

    def __mul__(self, other: Number | int) -> Number:
        other = number(other)
        return Number(self.value * other.value, f"({self.how} * {other.how})")

    def __truediv__(self, other: Number | int) -> Number:
        other = number(other)
        return Number(self.value / other.value, f"({self.how} / {other.how})")

    def __str__(self) -> str:
        """In plain decimals, as it stands in a text."""
        return decimal(self.value)


def number(value: Number | int | str) -> Number:
    """A literal: an integer or a decimal written as a string ("2.5")."""
    if isinstance(value, Number):
        return value
    exact = Fraction(value)
    return Number(exact, decimal(exact))


def decimal(value: Fraction) -> str:
    """`value` without trailing zeros. Raises Unsuitable beyond two decimals."""
    hundredths = value * 100
    if hundredths.denominator != 1:
        raise Unsuitable(f"{value} needs more than two decimals")
    whole, rest = divmod(abs(hundredths.numerator), 100)
    sign = "-" if value < 0 else ""
    return f"{sign}{whole}.{rest:02d}".rstrip("0").rstrip(".")


@dataclass
class Book:
    """Collects the turns of one session. `story` 0 or 1 picks which of two wordings is used.

    `kept` holds the follow-ups (numbered from 0) that this session asks; the others are skipped,
    so a scenario's follow-ups must make sense whichever of the earlier ones were asked.
    """

    story: int
    kept: frozenset[int]
    turns: list[str] = field(default_factory=list)
    gold: list[str | None] = field(default_factory=list)
    steps: list[str | None] = field(default_factory=list)
    _offered: int = 0

    def open(self, answer: Number, *wordings: str) -> Number:
        """An opening turn, always asked. Returns its answer, named by its turn."""
        return self._ask(answer, wordings)

    def change(self, state: Number, answer: Number, *wordings: str) -> Number:
        """A follow-up that moves the running state to `answer`; skipped, it leaves it alone."""
        with self._offer() as kept:
            return self._ask(answer, wordings) if kept else state

    def side(self, answer: Number, *wordings: str) -> None:
        """A follow-up that asks about the state and does not move it."""
        with self._offer() as kept:
            if kept:
                self._ask(answer, wordings)

    def talk(self, *wordings: str) -> None:
        """A follow-up without a checkable answer."""
        with self._offer() as kept:
            if kept:
                self._add(wordings, None, None)

    def require(self, condition: bool) -> None:
        """Raise Unsuitable unless the story still makes sense."""
        if not condition:
            raise Unsuitable("the story no longer makes sense")

    @contextmanager
    def _offer(self) -> Iterator[bool]:
        yield self._offered in self.kept
        self._offered += 1

    def _ask(self, answer: Number, wordings: tuple[str, ...]) -> Number:
        self.require(answer.value > 0)
        how = answer.how[1:-1] if answer.how.startswith("(") else answer.how
        self._add(wordings, decimal(answer.value), how)
        return Number(answer.value, f"t{len(self.turns)}")

    def _add(self, wordings: tuple[str, ...], gold: str | None, step: str | None) -> None:
        self.turns.append(wordings[self.story])
        self.gold.append(gold)
        self.steps.append(step)
