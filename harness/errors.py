"""What can go wrong, as types. A `UserError` is the user's to mend: one line, exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchError(Exception):
    """Base of every error that the harness raises on purpose."""


class UserError(BenchError):
    """A mistake in what the user gave: names the place, what is wrong and what would be right.

    `place` is a file, `file:line`, or a key; it leads the message.
    """

    def __init__(self, place: object, problem: str) -> None:
        super().__init__(f"{place}: {problem}")
        self.place = str(place)
        self.problem = problem


class ContextOverflow(BenchError):
    """The prompt and the reply it asks for do not fit the model's context window."""


class OutOfMemory(BenchError):
    """The device ran out of memory; what the request held has been released."""


class TooManyErrors(BenchError):
    """More sessions failed than `max_errors` allows."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """A clause that helps with a mistyped name: the closest valid one, or all of them."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"valid: {', '.join(names) or 'none'}"
