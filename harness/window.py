"""A window: one stretch of serving one method's sessions without a break, on one clock."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """`origin`: its beginning, in `time.perf_counter()` seconds. `worker`: whose window it is."""

    name: str
    origin: float
    worker: int = 0
    machine_class: str = ""

    @classmethod
    def begin(cls, worker: int = 0, machine_class: str = "") -> Window:
        """A window that begins now, with a name of its own."""
        return cls(uuid.uuid4().hex[:12], time.perf_counter(), worker, machine_class)

    def now(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self.origin
