"""Running a stage of the pipeline to its end, outside of an engine."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from harness.method import Worked

T = TypeVar("T")


def finish(work: Generator[None, None, list[Worked[T]]]) -> list[Worked[T]]:
    """What the work returns after its last step."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            results: list[Worked[Any]] = end.value
            return results
