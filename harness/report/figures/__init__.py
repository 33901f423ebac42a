"""The figures of a report. Each is a function of the run and its summary, PNG and PDF alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.report.load import meets
from harness.report.read import RunData
from harness.report.tables_prefix_cache import shows_cache

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[RunData, Mapping[str, Any]], "Figure"]


def figures(summary: Mapping[str, Any]) -> dict[str, Draw]:
    """File stem and drawing function of every figure of a run, in the order of the report."""
    from harness.report.figures.by_turn import draw_latency, draw_session_time, draw_tokens
    from harness.report.figures.memory import draw_memory
    from harness.report.figures.quality import draw_against_cost, draw_against_latency
    from harness.report.figures.timeline import draw_timeline

    optional: dict[str, Draw] = {}
    if shows_cache(summary):
        from harness.report.figures.prefix_cache import draw_prefix_cache

        optional["prefix_cache"] = draw_prefix_cache
    if summary["load"] and meets(summary):
        from harness.report.figures.load_timeline import draw_load

        optional["load_timeline"] = draw_load
    return {
        "quality_latency": draw_against_latency,
        "quality_cost": draw_against_cost,
        "latency_by_turn": draw_latency,
        "tokens_by_turn": draw_tokens,
        "session_time_by_turn": draw_session_time,
        **optional,
        "memory": draw_memory,
        "session_timeline": draw_timeline,
    }


def write_figures(data: RunData, summary: Mapping[str, Any], folder: Path) -> dict[str, list[Path]]:
    """Draw every figure into `folder` as PNG and PDF, replacing files whole; paths by stem."""
    from harness.report.figures.style import save, styled

    folder.mkdir(parents=True, exist_ok=True)
    with styled():
        return {
            stem: save(draw(data, summary), folder, stem) for stem, draw in figures(summary).items()
        }
