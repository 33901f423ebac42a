"""Serving one unit of a plan: what every executor does with it, wherever it runs."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harness.errors import BenchError
from harness.plan import Unit
from harness.record import SessionRecord
from harness.serving import EngineSet, StoredReply, serve_session, unserved
from harness.spec import RunSpec
from harness.window import Window


class Served(NamedTuple):
    """A finished unit. `traceback`: of what its method raised, where it failed."""

    record: SessionRecord
    traceback: str | None


@dataclass(frozen=True)
class UnitServer:
    """Serves units of a run with loaded engines. `folder`: the run's, for what methods keep."""

    spec: RunSpec
    engines: EngineSet
    warm_turns: dict[str, int]
    folder: Path

    async def serve(
        self,
        unit: Unit,
        window: Window,
        *,
        arrived_s: float | None = None,
        stored: tuple[StoredReply, ...] | None = None,
    ) -> Served:
        """The record of `unit`; whatever its Method raises is its outcome.

        `stored`: in replay, the replies that its history is made of.
        """
        spec = self.spec
        method = next(m for m in spec.methods if m.id == unit.key.method)
        started = window.now()
        try:
            record = await serve_session(
                unit.key,
                unit.method,
                unit.session,
                self.engines,
                spec.generation,
                alone=spec.alone,
                warm_turns=self.warm_turns[unit.key.task],
                think_time_s=spec.think_time_s,
                run_folder=self.folder,
                stored=stored,
                prefix_cache=spec.caches(method),
                window=window,
                arrived_s=arrived_s,
            )
        except Exception as error:
            record = unserved(unit.key, unit.session, "error", one_line(error))
            record["load"] = {  # a session that failed took its time, too
                "window": window.name,
                "arrived_s": started if arrived_s is None else arrived_s,
                "started_s": started,
                "ended_s": window.now(),
            }
            record["worker"] = {"index": window.worker, "machine_class": window.machine_class}
            return Served(record, traceback.format_exc())
        return Served(record, None)


def one_line(error: Exception) -> str:
    """An exception as the reason of a session's outcome."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return text if isinstance(error, BenchError) and text else f"{name}: {text}"[:500]
