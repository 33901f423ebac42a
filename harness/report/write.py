"""Writing a report into its run folder: tables, figures, one page, and the summary last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from harness.report.figures import write_figures
from harness.report.page import build_page
from harness.report.read import read_run
from harness.report.render_csv import to_csv
from harness.report.render_latex import to_latex
from harness.report.render_markdown import to_markdown
from harness.report.summary import build_summary, write_summary
from harness.report.table import Table
from harness.report.tables import build_tables
from harness.store import write_text_atomically

TABLES = "tables"
FIGURES = "figures"
PAGE = "report.html"

_RENDERERS: Mapping[str, Callable[[Table], str]] = MappingProxyType(
    {"csv": to_csv, "md": to_markdown, "tex": to_latex}
)


@dataclass(frozen=True)
class ReportFiles:
    """What was written, and the table to show first. `figures` are PNG and PDF files."""

    tables: tuple[Path, ...]
    figures: tuple[Path, ...]
    page: Path
    summary: Path
    main: Table


def write_report(run: Path) -> ReportFiles:
    """Build the report of a scored run; every file replaces its older self whole.

    `summary.json` comes last, so that a summary stands beside a full report. Raises UserError when
    the folder is no run or has no scores.
    """
    data = read_run(run)
    summary = build_summary(data)
    tables = build_tables(summary)
    table_files = _write_tables(tables, run / TABLES)
    figures = write_figures(data, summary, run / FIGURES)
    pictures = {stem: files[0] for stem, files in figures.items()}
    write_text_atomically(run / PAGE, build_page(summary, tables, pictures))
    return ReportFiles(
        tables=table_files,
        figures=tuple(file for files in figures.values() for file in files),
        page=run / PAGE,
        summary=write_summary(run, summary),
        main=tables[0],
    )


def _write_tables(tables: list[Table], folder: Path) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for table in tables:
        for suffix, render in _RENDERERS.items():
            path = folder / f"{table.name}.{suffix}"
            write_text_atomically(path, render(table))
            written.append(path)
    return tuple(written)
