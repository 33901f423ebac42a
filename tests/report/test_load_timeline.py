"""The figure of sessions at once: which windows it shows, and what of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from harness.report.figures import figures
from harness.report.figures.load_timeline import chosen, draw_load
from harness.report.read import RunData, read_run
from tests.report.reading import edit, set_spec, summary_of
from tests.report.synthetic import SHIFT, build_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("timeline") / "run"
    return build_run(folder, methods=("big", "small", SHIFT), concurrency=2)


def bars(axes: Any) -> dict[tuple[int, float], tuple[float, str]]:
    """(lane, beginning) to (end, label) of every bar."""
    found = {}
    for group in axes.containers:
        (bar,) = [p for p in group.patches if isinstance(p, Rectangle)]
        lane = round(bar.get_y() + bar.get_height() / 2)
        begin, end = bar.get_x(), bar.get_x() + bar.get_width()
        found[lane, round(begin, 3)] = (round(end, 3), str(group.get_label()))
    return found


def test_methods_that_adapt_come_first(run: Path) -> None:
    summary = summary_of(run)
    assert [w[0]["method"] for w in chosen(read_run(run))] == [SHIFT, "big", "small"]
    figure = draw_load(read_run(run), summary)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [SHIFT, "big", "small"]
    # One scale for all, up to the end of the longest window.
    limits = [limit for axes in figure.axes for limit in axes.get_xlim()]
    assert limits == pytest.approx([0.0, 6.92] * 3)


def test_what_a_session_did(run: Path) -> None:
    """c1 is there from 0 to 3.58 s, trains from 0.92 s to 2.92 s, and G answers then; its queue is
    not drawn.
    """
    figure = draw_load(read_run(run), summary_of(run))
    drawn = bars(figure.axes[0])
    assert drawn[0, 0.0] == (3.58, "session is there")
    assert drawn[0, 0.03] == (0.4, "reply by F")
    assert drawn[0, 0.92] == (2.92, "work on weights")
    assert drawn[0, 2.935] == (3.22, "reply by G")
    assert drawn[2, 2.64] == (6.92, "session is there")
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"session is there", "reply by F", "reply by G", "work on weights"} <= labels
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["c1", "c2", "c3"]


def test_only_one_window_of_a_method_is_shown(run: Path, tmp_path: Path) -> None:
    def resumed(record: dict[str, Any]) -> None:
        if record["session_id"] == "c3":
            record["load"] |= {"window": f"{record['method']} again", "started_s": 0.4}

    folder = build_run(tmp_path / "run", methods=("big",), concurrency=2)
    (window,) = chosen(read_run_of(edit(folder, resumed)))
    assert [record["session_id"] for record in window] == ["c1", "c2"]


def read_run_of(folder: Path) -> RunData:
    (folder / "scores.jsonl").touch()
    return read_run(folder)


def test_nothing_served_is_said(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", all_errors=True, concurrency=2)
    figure = draw_load(read_run_of(folder), summary_of(folder))
    assert [t.get_text() for t in figure.axes[0].texts] == ["no session was served"]


def test_many_methods_and_sessions_stay_within_the_figure(tmp_path: Path) -> None:
    ids = tuple(f"c{n}" for n in range(1, 16))
    methods = ("big", "small", "brief", "big-cached", SHIFT)
    folder = build_run(
        tmp_path / "run", methods=methods, tasks={"arith": tuple(f"a{i[1:]}" for i in ids)},
        concurrency=2,
    )  # fmt: skip
    figure = draw_load(read_run_of(folder), summary_of(folder))
    figure.canvas.draw()
    assert len(figure.axes) == 4
    assert {len(axes.get_yticks()) for axes in figure.axes} == {12}
    box = figure.legends[0].get_window_extent()
    assert np.all(np.array([box.x0, box.y0, figure.bbox.width - box.x1]) >= 0)


@pytest.mark.parametrize(
    ("spec", "drawn"),
    [
        ({"concurrency": 2}, True),
        ({"arrival_rate": 6.0}, True),
        ({"objectives": {"ttft_s": 1.0}}, False),
        ({}, False),
    ],
    ids=["concurrency", "arrivals", "limits alone", "alone"],
)
def test_when_it_is_drawn(tmp_path: Path, spec: dict[str, Any], drawn: bool) -> None:
    folder = set_spec(build_run(tmp_path / "run", methods=("big",)), **spec)
    assert ("load_timeline" in figures(summary_of(folder))) is drawn
