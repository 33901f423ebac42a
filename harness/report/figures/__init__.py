"""The figures of a report. Each is a function of the run and its summary, PNG and PDF alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.report.read import RunData

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[RunData, Mapping[str, Any]], "Figure"]


def figures() -> dict[str, Draw]:
    """File stem and drawing function of every figure, in the order of the report."""
    from harness.report.figures.by_turn import draw_latency, draw_session_time, draw_tokens
    from harness.report.figures.memory import draw_memory
    from harness.report.figures.quality import draw_against_cost, draw_against_latency
    from harness.report.figures.timeline import draw_timeline

    return {
        "quality_latency": draw_against_latency,
        "quality_cost": draw_against_cost,
        "latency_by_turn": draw_latency,
        "tokens_by_turn": draw_tokens,
        "session_time_by_turn": draw_session_time,
        "memory": draw_memory,
        "session_timeline": draw_timeline,
    }


def write_figures(data: RunData, summary: Mapping[str, Any], folder: Path) -> dict[str, list[Path]]:
    """Draw every figure into `folder` as PNG and PDF, replacing files whole; paths by stem."""
    from harness.report.figures.style import save, styled

    folder.mkdir(parents=True, exist_ok=True)
    with styled():
        return {stem: save(draw(data, summary), folder, stem) for stem, draw in figures().items()}
