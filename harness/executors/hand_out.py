"""Which unit a worker serves next: block by block, and none twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from harness.plan import Block, Unit


class HandOut:
    """The units of `blocks`, for several workers.

    A worker takes units of the earliest block that has some, so that all serve one method on one
    task for as long as there is enough to do. A unit that comes back is a block of its own from
    then on, the next that a worker begins: served alone, it can take no other with it when it is
    what workers are lost of. `reference`: in replay, the method whose blocks must be finished,
    whole, before the others of their task and seed begin: a block is then served at its full
    concurrency from its start. None: no block waits for another.
    """

    def __init__(self, blocks: Sequence[Block], reference: str | None = None) -> None:
        self._blocks = list(blocks)
        self._planned = len(self._blocks)
        self._left = [list(block.units) for block in blocks]
        self._open = sum(len(block.units) for block in blocks)
        self._reference = reference
        self._awaited = Counter(
            {(b.task, b.seed): len(b.units) for b in blocks if b.method == reference}
        )
        self._changed = asyncio.Event()

    @property
    def done(self) -> bool:
        """Whether every unit is finished."""
        return self._open == 0

    async def next_block(self) -> int | None:
        """The place of the block that a free worker begins, once there is one.

        None when every unit is finished: those in flight may yet come back.
        """
        while not self.done:
            place = self._returned()
            place = self._earliest() if place is None else place
            if place is not None:
                return place
            await self._changed.wait()
        return None

    async def all_done(self) -> None:
        """Return when every unit is finished."""
        while not self.done:
            await self._changed.wait()

    def take(self, place: int) -> Unit | None:
        """The next unit of a block; None where it has none left, or an earlier block has some."""
        if place < self._planned and self._earliest() != place:
            return None
        return self._left[place].pop(0) if self._left[place] else None

    def give_back(self, place: int, unit: Unit) -> None:
        """A unit of a block was taken and not served: it will be served alone."""
        block = self._blocks[place]
        self._blocks.append(Block(block.method, block.task, block.seed, (unit,)))
        self._left.append([unit])
        self._tell()

    def finished(self, place: int) -> None:
        """A unit of a block that was taken is stored."""
        block = self._blocks[place]
        self._open -= 1
        if block.method == self._reference:
            self._awaited[block.task, block.seed] -= 1
        self._tell()

    def _earliest(self) -> int | None:
        """The place of the first block of the plan that has units and need not wait."""
        places = range(self._planned)
        return next((p for p in places if self._left[p] and self._ready(p)), None)

    def _returned(self) -> int | None:
        """The place of the first unit that came back and nobody took."""
        places = range(self._planned, len(self._left))
        return next((p for p in places if self._left[p]), None)

    def _ready(self, place: int) -> bool:
        block = self._blocks[place]
        return block.method == self._reference or not self._awaited[block.task, block.seed]

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
