"""`score` and `report`: a run folder's replies to scores, tables and figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from harness import registry
from harness.engines.load import resolve_model
from harness.quality.base import Scorer
from harness.report.render_console import to_console
from harness.report.tables import build_tables
from harness.report.write import write_report
from harness.score import score_run
from harness.store import SCORES, SESSIONS, SUMMARY, read_manifest


def score_folder(run: Path, console: Console | None = None) -> None:
    """Score `run` anew. Raises UserError when it is no run folder."""
    console = console or Console(stderr=True, emoji=False)
    encoder = read_manifest(run)["spec"]["pair"]["encoder"]
    with _Bars(console) as bars:
        score_run(
            run,
            make_scorer=_make_scorer,
            encoder_dir=_folder(encoder["id"], encoder["revision"]),
            progress=bars.update,
        )


def report_folder(run: Path, console: Console | None = None) -> None:
    """Write the report of `run` anew, scoring it first when its scores are missing or old."""
    console = console or Console(stderr=True, emoji=False)
    read_manifest(run)
    if _is_older(run / SCORES, run / SESSIONS):
        score_folder(run, console)
    files = write_report(run)
    _say(console, f"wrote {len(files.tables)} tables, {len(files.figures)} figures, {files.page}")


def report_if_stale(run: Path, console: Console) -> None:
    """Score and report `run` unless its summary is younger than its sessions."""
    if _is_older(run / SUMMARY, run / SESSIONS):
        score_folder(run, console)
        report_folder(run, console)
    else:
        _say(console, "the report is up to date")


def show_main_table(run: Path) -> None:
    """Print the table that a reader looks at first."""
    summary: dict[str, Any] = json.loads((run / SUMMARY).read_text("utf-8"))
    Console(emoji=False).print(to_console(build_tables(summary)[0]))


def _is_older(made: Path, source: Path) -> bool:
    """Whether `made` is missing or was written before `source` last changed."""
    if not made.exists():
        return True
    return source.exists() and made.stat().st_mtime_ns < source.stat().st_mtime_ns


def _folder(model_id: str, revision: str) -> Path:
    """Where the encoder lies; a run that was served has already fetched it."""
    return Path(resolve_model(model_id, True, revision))


def _make_scorer(name: str) -> Scorer:
    cls: type[Any] = registry.scorers().load(name, "scorers")
    scorer: Scorer = cls()
    return scorer


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Bars:
    """A bar per scorer on a terminal, silence elsewhere."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("scoring {task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, scorer: str, done: int, total: int) -> None:
        if scorer not in self._bars:
            self._bars[scorer] = self._progress.add_task(scorer, total=total)
        self._progress.update(self._bars[scorer], completed=done)
