"""What a run has done and what is left of it: the one place where finished units are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from harness.errors import TooManyErrors
from harness.plan import Block, Plan, Unit
from harness.record import SessionRecord
from harness.replies import ReplyStore
from harness.serving import StoredReply
from harness.store import Store, UnitKey
from harness.unit_server import Served


class Watcher(Protocol):
    """Who is told how a run goes (a progress display)."""

    def planned(self, totals: dict[str, int], finished: dict[str, int]) -> None:
        """Sessions per method: all of them, and those finished before this start."""
        ...

    def warming(self) -> None: ...

    def started(self, unit: Unit) -> None: ...

    def finished(self, unit: Unit, record: SessionRecord) -> None: ...


@dataclass(frozen=True)
class Tally:
    """What one start of a run did. `machines`: the machine classes of a cluster's workers."""

    served: int
    resumed: int
    errors: int
    machines: tuple[str, ...] = ()


class Ledger:
    """`blocks`: what `store` lacks of `plan`, in the order it is to be served; none is empty.

    Made once per start, it tells `watcher` what is planned.
    """

    def __init__(self, plan: Plan, store: Store, watcher: Watcher, max_errors: int) -> None:
        self._store = store
        self._watcher = watcher
        self._max_errors = max_errors
        self._replies = ReplyStore(plan.spec, store.folder)
        self._served = 0
        self._errors = 0
        finished = store.finished()
        blocks = list(plan.blocks())
        keys = [u.key for b in blocks for u in b.units]
        watcher.planned(
            {m: sum(k.method == m for k in keys) for m in plan.methods},
            {m: sum(k.method == m and k in finished for k in keys) for m in plan.methods},
        )
        self._resumed = sum(k in finished for k in keys)
        left = [_left(block, finished) for block in blocks]
        self.blocks: tuple[Block, ...] = tuple(block for block in left if block.units)

    def missing(self, unit: Unit) -> Served | None:
        """What becomes of a unit that cannot be served, since there is nothing to replay."""
        record = self._replies.missing(unit)
        return None if record is None else Served(record, None)

    def stored(self, unit: Unit) -> tuple[StoredReply, ...] | None:
        """In replay, the replies that a unit's history is made of."""
        return self._replies.of(unit)

    def keep(self, unit: Unit, served: Served) -> None:
        """Store a finished unit and count it. Raises TooManyErrors where too many failed."""
        record = served.record
        if served.traceback is not None:
            self._store.write_traceback(unit.key, served.traceback)
        self._errors += record["outcome"] == "error"
        self._served += record["outcome"] == "scored"
        self._replies.keep(record)
        self._store.append(record)
        self._watcher.finished(unit, record)
        if self._errors > self._max_errors:
            raise TooManyErrors(
                f"{self._errors} sessions failed, --max-errors allows {self._max_errors};"
                f" the last: {record['reason']}"
            )

    def tally(self, machines: tuple[str, ...] = ()) -> Tally:
        return Tally(self._served, self._resumed, self._errors, machines)


def _left(block: Block, finished: set[UnitKey]) -> Block:
    units = tuple(u for u in block.units if u.key not in finished)
    return Block(block.method, block.task, block.seed, units)
