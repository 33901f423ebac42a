"""How a run shows itself: a bar per method on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from harness.plan import Unit
from harness.record import SessionRecord


class BarDisplay:
    """One bar per method, with elapsed time, time left, and what was last finished."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            speed_estimate_period=600,
        )
        self._bars: dict[str, TaskID] = {}
        self._total: TaskID | None = None

    def display(self) -> AbstractContextManager[object]:
        return self._progress

    def planned(self, totals: dict[str, int], finished: dict[str, int]) -> None:
        for method, total in totals.items():
            self._bars[method] = self._progress.add_task(
                method, total=total, completed=finished[method], start=False, note=""
            )
        self._total = self._progress.add_task(
            "all sessions",
            total=sum(totals.values()),
            completed=sum(finished.values()),
            note="loading models",
        )

    def warming(self) -> None:
        self._note("warming up")

    def started(self, unit: Unit) -> None:
        self._progress.start_task(self._bars[unit.key.method])
        self._note(f"{unit.key.method} on {unit.key.task}/{unit.key.session_id}")

    def finished(self, unit: Unit, record: SessionRecord) -> None:
        bar = self._bars[unit.key.method]
        self._progress.update(bar, note=_outcome(record))
        self._progress.advance(bar)
        if self._total is not None:
            self._progress.advance(self._total)

    def _note(self, text: str) -> None:
        if self._total is not None:
            self._progress.update(self._total, note=text)


class LineDisplay:
    """A line per finished session, with the count so far and the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._total = 0
        self._done = 0
        self._fresh = 0
        self._since = time.monotonic()

    def display(self) -> AbstractContextManager[object]:
        return nullcontext()

    def planned(self, totals: dict[str, int], finished: dict[str, int]) -> None:
        self._total = sum(totals.values())
        self._done = sum(finished.values())
        if self._done < self._total:
            self._say(f"{self._total - self._done} sessions to serve; loading models")

    def warming(self) -> None:
        self._say("warming up")
        self._since = time.monotonic()

    def started(self, unit: Unit) -> None:
        pass

    def finished(self, unit: Unit, record: SessionRecord) -> None:
        self._done += 1
        self._fresh += 1
        per_session = (time.monotonic() - self._since) / self._fresh
        left = per_session * (self._total - self._done)
        self._say(
            f"[{self._done}/{self._total}] {unit.key.method} {unit.key.task}/{unit.key.session_id}"
            f" {_outcome(record)}, about {left:.0f} s left"
        )

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def make_display(console: Console) -> BarDisplay | LineDisplay:
    """Bars for a terminal, lines for a file or a pipe."""
    return BarDisplay(console) if console.is_terminal else LineDisplay(console)


def _outcome(record: SessionRecord) -> str:
    if record["outcome"] == "scored":
        return f"{len(record['turns'])} turns in {record['session_s'] or 0:.1f} s"
    return f"{record['outcome']}: {record['reason']}"
