"""`merge`: the shards of a run to one run folder, scored and reported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from harness.commands.report import report_if_stale, show_main_table
from harness.merge import merge_runs


def merge_folders(out: Path, runs: Sequence[Path], *, partial: bool) -> None:
    """Join `runs` into `out`, and score and report it. Raises UserError for what is no such set."""
    console = Console(stderr=True, emoji=False)
    merged = merge_runs(out, runs, partial=partial)
    lacking = f", {merged.missing} sessions missing" if merged.missing else ""
    _say(console, f"merged {len(merged.shards)} shards, {merged.sessions} sessions{lacking}: {out}")
    for line in merged.differing:
        _say(console, f"the shards differ in {line}")
    report_if_stale(out, console)
    show_main_table(out)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
