"""`run`: from a profile to tables and figures, resuming what an earlier start left."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from harness.commands.report import report_if_stale, show_main_table
from harness.engines.hub import go_offline
from harness.load_engines import load_engines
from harness.plan import Plan, make_plan
from harness.profile import Overrides, load_spec
from harness.progress import make_display
from harness.runner import Tally, serve
from harness.spec import RunSpec
from harness.store import Store

INTERRUPTED = 130


def run_profile(
    profile: str,
    *,
    out: Path | None,
    max_errors: int,
    retry_errors: bool,
    offline: bool,
    **overrides: Any,
) -> int:
    """Run a profile; returns the exit code: 0, 1 when the run holds failed sessions, 130 when
    interrupted from the keyboard.

    Raises UserError before anything is written when the profile or its data are wrong, and
    TooManyErrors when the run was stopped for its failures.
    """
    if offline:
        go_offline()
    console = Console(stderr=True)
    spec, place = load_spec(profile, Overrides(**overrides))
    with _Judging(console) as judging:
        plan = make_plan(spec, place, judging)
    folder = out or default_folder(spec)
    dropped = {task: loaded.dropped for task, loaded in plan.loaded.items()}
    with Store(folder, plan.manifest(), dropped) as store:
        if retry_errors:
            store.forget_errors()
        try:
            tally = asyncio.run(_serve(plan, store, console, max_errors, offline))
        except KeyboardInterrupt:
            console.print(f"interrupted; the same command resumes {folder}", markup=False)
            return INTERRUPTED
    _say_what_was_done(console, tally, folder)
    report_if_stale(folder, console)
    show_main_table(folder)
    return 1 if _failed(folder) else 0


class _Judging:
    """Says how many sessions a filter has judged, on a terminal."""

    def __init__(self, console: Console) -> None:
        self._status = console.status("")
        self._shown = console.is_terminal
        self._count = 0

    def __enter__(self) -> _Judging:
        return self

    def __call__(self, task: str) -> None:
        self._count += 1
        self._status.update(f"context filter: session {self._count}, task {escape(task)}")
        if self._shown and self._count == 1:
            self._status.start()

    def __exit__(self, *_: object) -> None:
        self._status.stop()


def default_folder(spec: RunSpec) -> Path:
    """`results/local/<profile>-<hash>` below the current folder."""
    return Path("results") / "local" / f"{spec.profile}-{spec.hash()[:8]}"


async def _serve(
    plan: Plan, store: Store, console: Console, max_errors: int, offline: bool
) -> Tally:
    display = make_display(console)

    with display.display():
        engines = partial(load_engines, plan.spec, offline=offline)
        return await serve(plan, store, engines, display, max_errors=max_errors)


def _say_what_was_done(console: Console, tally: Tally, folder: Path) -> None:
    if tally.served or tally.errors:
        before = f" ({tally.resumed} were finished before)" if tally.resumed else ""
        text = f"served {tally.served} sessions{before}, {tally.errors} failed"
    else:
        text = f"resumed: all {tally.resumed} sessions were finished before; nothing to serve"
    console.print(f"{text}; run folder: {folder}", markup=False, highlight=False, soft_wrap=True)


def _failed(folder: Path) -> bool:
    from harness.store import read_sessions

    return any(r["outcome"] == "error" for r in read_sessions(folder))
