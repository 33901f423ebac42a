"""vLLM's processes: children of this one, and theirs."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

import psutil

GRACE_S = 10.0


class Processes:
    """Those that were started within `collect`."""

    def __init__(self) -> None:
        self._children: tuple[BaseProcess, ...] = ()

    @contextmanager
    def collect(self) -> Iterator[None]:
        before = set(multiprocessing.active_children())
        try:
            yield
        finally:
            self._children = tuple(set(multiprocessing.active_children()) - before)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Within it, they are told to end; afterwards they have: vLLM itself does not wait.

        Python would, for ever, for one that nobody told.
        """
        below = list(_below(child.pid for child in self._children))
        try:
            yield
        finally:
            self._end(below)

    def _end(self, below: list[psutil.Process]) -> None:
        for child in self._children:
            child.join(GRACE_S)
            if child.exitcode is None:
                child.kill()
                child.join()
        _, left = psutil.wait_procs(below, GRACE_S)
        for process in left:
            process.kill()
        psutil.wait_procs(left, GRACE_S)


def _below(numbers: Iterable[int | None]) -> Iterator[psutil.Process]:
    for number in numbers:
        try:
            yield from psutil.Process(number).children(recursive=True)
        except psutil.NoSuchProcess:
            continue
