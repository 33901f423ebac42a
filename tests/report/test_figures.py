"""Figures keep everything they show inside their edges."""

from __future__ import annotations

import pytest

from harness.report.figures.style import finish, new_figure

SUMMARY = {
    "pair": "embedded",
    "history": "live",
    "concurrency": 1,
    "sessions_asked": {"a": 8},
    "machine": "cpu-2core",
}


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("methods", [1, 4, 9])
def test_the_legend_is_never_cut_off(columns: int, methods: int) -> None:
    figure, panels = new_figure(columns, width=5.4 if columns == 1 else 3.1)
    for number in range(methods):
        panels[0].plot([1, 2], [1, 2], label=f"original (reference) {number}")
    finish(figure, "Title", SUMMARY, "bars: 95 % interval")
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert box.y0 >= 0
