"""What G is mined and trained on: a prompt and F's reply to it, as G's token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.method import Message


@dataclass(frozen=True)
class Limits:
    """Longest prompt and longest reply of a case, in tokens."""

    prompt: int = 768
    reply: int = 96


@dataclass(frozen=True)
class Case:
    """`turn_index` is the turn that it was made from. Neither part is empty."""

    turn_index: int
    prompt: tuple[int, ...]
    reply: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return len(self.prompt) + len(self.reply)


def fitting_prompt(
    encode: Callable[[Sequence[Message]], list[int]],
    head: Sequence[Message],
    turns: Sequence[Sequence[Message]],
    query: Sequence[Message],
    limit: int,
) -> tuple[int, ...]:
    """The prompt of `head`, `turns` and `query` in at most `limit` tokens.

    The oldest whole turns are dropped first. Where system prompt and query alone are too long,
    the last `limit` tokens stay.
    """
    for dropped in range(len(turns) + 1):
        kept = [message for turn in turns[dropped:] for message in turn]
        ids = encode([*head, *kept, *query])
        if len(ids) <= limit:
            return tuple(ids)
    return tuple(ids[-limit:])
