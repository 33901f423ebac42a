"""Reading summaries and tables of synthetic runs, and changing their records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.report.synthetic import read_records, write_sessions


def summary_of(folder: Path) -> dict[str, Any]:
    """The summary of a run folder without any scores, as JSON gives it back."""
    from harness.report.read import read_run
    from harness.report.summary import build_summary

    (folder / "scores.jsonl").touch()
    return dict(json.loads(json.dumps(build_summary(read_run(folder)), allow_nan=False)))


def edit(folder: Path, change: Callable[[dict[str, Any]], None], *, served: bool = True) -> Path:
    """Apply `change` to every served record of a run (to every one, without `served`)."""
    records = read_records(folder)
    for record in records:
        if record["outcome"] == "scored" or not served:
            change(record)
    write_sessions(folder, records)
    return folder


def set_spec(folder: Path, **changes: Any) -> Path:
    """Change settings in the manifest of a run."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    manifest["spec"] |= changes
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return folder


def result(summary: dict[str, Any], task: str, method: str) -> dict[str, Any]:
    (found,) = [r for r in summary["results"] if (r["task"], r["method"]) == (task, method)]
    return dict(found)


def rows_of(summary: dict[str, Any], table: str) -> list[dict[str, str]]:
    """The rows of a table as people read them, by column key."""
    from harness.report.tables import build_tables

    (found,) = [t for t in build_tables(summary) if t.name == table]
    keys = [column.key for column in found.columns]
    return [dict(zip(keys, cells, strict=True)) for cells in found.cells()]


def score_repetition(folder: Path) -> Path:
    """Score a run by what needs no encoder: whether its replies repeat themselves."""
    from harness.quality.repetition import Repetition
    from harness.score import score_run

    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    set_spec(folder, tasks=[t | {"scorers": ["repetition"]} for t in manifest["spec"]["tasks"]])
    score_run(
        folder,
        make_scorer=lambda name: Repetition(),
        encoder_dir=None,
        progress=lambda scorer, done, total: None,
    )
    return folder
