"""What a task's data are like, counted in one pass that holds none of its sessions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from harness.errors import UserError
from harness.session import Session
from harness.session_hash import SessionsDigest
from harness.task import Drop

CountTokens = Callable[[Sequence[str]], list[int]]
"""Token counts of texts, in their order."""

SWITCH_ROOM = 2
"""A session of fewer than W + 2 user turns never shows a switch."""

_BATCH_TURNS, _BATCH_CHARACTERS = 1024, 1 << 20


@dataclass(frozen=True)
class TurnStats:
    """The user turns at one turn index, from 1.

    `sessions` reach it, `ending` have it as their last. `characters` and `tokens` are means;
    `tokens` is None where nobody counted them.
    """

    index: int
    sessions: int
    ending: int
    characters: float
    tokens: float | None


@dataclass(frozen=True)
class TaskStats:
    """The counts of a whole task. `by_turn` has one entry per turn index that some session has.

    `with_system`: sessions that have a system prompt. `with_reference` and `with_gold`: user turns
    that have one. `never_switchable`: sessions of fewer than `warm_turns` + 2 user turns.
    `languages` and `dropped` are ordered by falling count, then by name.
    """

    sessions: int
    user_turns: int
    by_turn: tuple[TurnStats, ...]
    warm_turns: int
    never_switchable: int
    with_system: int
    with_reference: int
    with_gold: int
    languages: dict[str, int]
    dropped: dict[str, int]
    sha256: str

    @property
    def lengths(self) -> dict[int, int]:
        """How many sessions have so many user turns, by rising number of turns."""
        return {turn.index: turn.ending for turn in self.by_turn if turn.ending}

    @property
    def never_switchable_share(self) -> float | None:
        return self.never_switchable / self.sessions if self.sessions else None


def measure(
    items: Iterable[Session | Drop],
    *,
    warm_turns: int,
    count_tokens: CountTokens | None,
    place: str,
) -> TaskStats:
    """Count everything in `items`, in one pass.

    Raises UserError at `place` for what no run would accept: a session without user turns, or two
    sessions with the same id.
    """
    digest, turns = SessionsDigest(), _Turns(count_tokens)
    seen: set[str] = set()
    languages: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    with_system = with_reference = with_gold = 0
    for item in items:
        if isinstance(item, Drop):
            dropped[item.reason] += 1
            continue
        if item.id in seen:
            raise UserError(place, f"has two sessions {item.id!r}")
        if not item.turns:
            raise UserError(place, f"session {item.id!r} has no user turns")
        seen.add(item.id)
        digest.add(item)
        turns.add(item.turns)
        languages[item.language] += 1
        with_system += item.system is not None
        with_reference += _known(item.references)
        with_gold += _known(item.gold)
    by_turn = turns.result()
    return TaskStats(
        sessions=len(seen),
        user_turns=sum(turn.sessions for turn in by_turn),
        by_turn=by_turn,
        warm_turns=warm_turns,
        never_switchable=sum(t.ending for t in by_turn if t.index < warm_turns + SWITCH_ROOM),
        with_system=with_system,
        with_reference=with_reference,
        with_gold=with_gold,
        languages=_by_count(languages),
        dropped=_by_count(dropped),
        sha256=digest.hexdigest(),
    )


def median(lengths: dict[int, int]) -> float | None:
    """The median of values given with their counts; between the two middle ones, their mean."""
    total = sum(lengths.values())
    if not total:
        return None
    return (_at(lengths, (total - 1) // 2) + _at(lengths, total // 2)) / 2


def _at(lengths: dict[int, int], place: int) -> int:
    """The value at a place, from 0, of the sorted values."""
    for value in sorted(lengths):
        place -= lengths[value]
        if place < 0:
            return value
    raise IndexError("there are fewer values")


def _known(values: Sequence[str | None] | None) -> int:
    return sum(value is not None for value in values or ())


def _by_count(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


class _Turns:
    """Sums per turn index. Texts wait for the tokenizer in batches of bounded size."""

    def __init__(self, count_tokens: CountTokens | None) -> None:
        self._count_tokens = count_tokens
        self._sessions: Counter[int] = Counter()
        self._ending: Counter[int] = Counter()
        self._characters: Counter[int] = Counter()
        self._tokens: Counter[int] = Counter()
        self._waiting: list[tuple[int, str]] = []
        self._waiting_characters = 0

    def add(self, turns: Sequence[str]) -> None:
        self._ending[len(turns)] += 1
        for index, text in enumerate(turns, start=1):
            self._sessions[index] += 1
            self._characters[index] += len(text)
            if self._count_tokens is not None:
                self._waiting.append((index, text))
                self._waiting_characters += len(text)
        if len(self._waiting) >= _BATCH_TURNS or self._waiting_characters >= _BATCH_CHARACTERS:
            self._count()

    def result(self) -> tuple[TurnStats, ...]:
        self._count()
        return tuple(
            TurnStats(
                index=index,
                sessions=sessions,
                ending=self._ending[index],
                characters=self._characters[index] / sessions,
                tokens=None if self._count_tokens is None else self._tokens[index] / sessions,
            )
            for index, sessions in sorted(self._sessions.items())
        )

    def _count(self) -> None:
        if self._count_tokens is not None and self._waiting:
            counts = self._count_tokens([text for _, text in self._waiting])
            for (index, _), count in zip(self._waiting, counts, strict=True):
                self._tokens[index] += count
        self._waiting.clear()
        self._waiting_characters = 0
