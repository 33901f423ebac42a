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
from harness.errors import UserError
from harness.executors.ledger import Tally
from harness.load_engines import load_engines, measure_own_client
from harness.plan import Plan, make_plan
from harness.profile import Overrides, load_spec
from harness.progress import make_display
from harness.runner import serve
from harness.shard import Shard, manifest_of_shard, parse_shard, plan_of_shard
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
    executor: str = "local",
    workers: int | None = None,
    shard: str | None = None,
    **overrides: Any,
) -> int:
    """Run a profile; returns the exit code: 0, 1 when the run holds failed sessions, 130 when
    interrupted from the keyboard.

    `executor`: "local" or "ray", which takes `workers`. `shard`: `i/n`, a part of the run, which is
    reported when it has been merged with the others. Raises UserError before anything is written
    when the profile or its data are wrong, and TooManyErrors when the run was stopped for its
    failures.
    """
    if offline:
        go_offline()
    console = Console(stderr=True, emoji=False)
    part = None if shard is None else parse_shard(shard)
    spec, place = load_spec(profile, Overrides(**overrides))
    _check_executor(executor, workers, spec)
    with _Judging(console) as judging:
        plan = make_plan(spec, place, judging)
    folder = out or default_folder(spec, part)
    manifest = plan.manifest() if part is None else manifest_of_shard(plan, part)
    manifest["client"] = measure_own_client(spec.pair)
    plan = plan if part is None else plan_of_shard(plan, part)
    dropped = {task: loaded.dropped for task, loaded in plan.loaded.items()}
    with Store(folder, manifest, dropped) as store:
        if retry_errors:
            store.forget_errors()
        try:
            serving = _serve(plan, store, console, max_errors, offline, executor, workers)
            tally = asyncio.run(serving)
        except KeyboardInterrupt:
            console.print(f"interrupted; the same command resumes {folder}", markup=False)
            return INTERRUPTED
    _say_what_was_done(console, tally, folder)
    if part is None:
        report_if_stale(folder, console)
        show_main_table(folder)
    else:
        text = f"shard {part} is served; `merge` joins it with the other {part.count - 1}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
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


def default_folder(spec: RunSpec, shard: Shard | None = None) -> Path:
    """`results/local/<profile>-<hash>` below the current folder; a shard's name says which."""
    part = "" if shard is None else f"-shard-{shard.index}-of-{shard.count}"
    return Path("results") / "local" / f"{spec.profile}-{spec.hash()[:8]}{part}"


def _check_executor(executor: str, workers: int | None, spec: RunSpec) -> None:
    if executor == "ray":
        from harness.executors.ray_cluster import check

        check(spec)
    elif workers is not None:
        raise UserError("--workers", "is for --executor ray; the local executor is one process")


async def _serve(
    plan: Plan,
    store: Store,
    console: Console,
    max_errors: int,
    offline: bool,
    executor: str,
    workers: int | None,
) -> Tally:
    display = make_display(console)

    with display.display():
        if executor == "ray":
            from harness.executors.ray_executor import serve_on_ray

            say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
            return await serve_on_ray(
                plan,
                store,
                display,
                max_errors=max_errors,
                workers=workers,
                offline=offline,
                say=say,
            )
        engines = partial(load_engines, plan.spec, offline=offline)
        return await serve(plan, store, engines, display, max_errors=max_errors)


def _say_what_was_done(console: Console, tally: Tally, folder: Path) -> None:
    if tally.served or tally.errors:
        before = f" ({tally.resumed} were finished before)" if tally.resumed else ""
        text = f"served {tally.served} sessions{before}, {tally.errors} failed"
    else:
        text = f"resumed: all {tally.resumed} sessions were finished before; nothing to serve"
    if tally.machines:
        text += f", by workers of machine class {' and '.join(tally.machines)}"
    console.print(f"{text}; run folder: {folder}", markup=False, highlight=False, soft_wrap=True)


def _failed(folder: Path) -> bool:
    from harness.store import read_sessions

    return any(r["outcome"] == "error" for r in read_sessions(folder))
