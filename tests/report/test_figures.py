"""Figures keep everything they show inside their edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from harness.record import SessionRecord
from harness.report.figures.memory import draw_memory
from harness.report.figures.style import finish, in_lines, looks, new_figure, styled
from harness.report.figures.timeline import draw_timeline
from harness.report.read import RunData
from harness.report.summary import build_summary
from harness.store import read_manifest
from tests.report.synthetic import SHIFT, build_run, read_records

SUMMARY = {
    "pair": "embedded",
    "history": "live",
    "concurrency": 1,
    "arrival_rate": None,
    "think_time_s": 0.0,
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


def timeline(folder: Path, session_id: str, suffix: str = "", copies: int = 1) -> Figure:
    """The timeline of one session of `chat` under `copies` methods, all of which are `shift`.

    `suffix` makes the session's name longer.
    """
    build_run(folder, methods=(SHIFT,), tasks={"chat": (session_id,)})
    manifest = read_manifest(folder)
    (record,) = read_records(folder)
    names = [f"{SHIFT}-{number}" for number in range(copies)]
    manifest["spec"]["methods"] = [{"id": name} for name in names]
    record["session_id"] += suffix
    manifest["sessions"] = {"chat": [record["session_id"]]}
    records = [cast(SessionRecord, record | {"method": name}) for name in names]
    with styled():
        figure = draw_timeline(RunData(manifest, tuple(records), (), {}), SUMMARY)
        figure.canvas.draw()
    return figure


def lanes(axes: Any) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def legend(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.legends[0].get_texts()}


def test_the_timeline_of_a_session_that_rolled_back(tmp_path: Path) -> None:
    figure = timeline(tmp_path / "run", "c3")
    steps, values, latency = figure.axes
    assert lanes(steps) == [
        "mined", "adapted", "gate", "switched", "drift check", "rolled back", "answered by",
    ]  # fmt: skip
    assert [text.get_text() for text in steps.texts] == ["×2", "F", "G", "G", "F"]
    drawn = {str(line.get_label()): line.get_xydata() for line in values.get_lines()}
    assert np.array_equal(drawn["locality of the query"], [[2, 0.7], [3, 0.2]])
    assert np.array_equal(drawn["Gap of a probed turn"], [[2, 0.5], [3, 0.7]])
    assert np.array_equal(drawn["moving Gap"], [[2, 0.5], [3, 0.6]])
    assert np.array_equal(drawn["mean Gap at the gate"], [[2, 0.08]])
    assert np.array_equal(drawn["moving Gap's limit"], [[0, 0.3], [1, 0.3]])
    heights = [bar.get_height() for bar in latency.patches if isinstance(bar, Rectangle)]
    # Turn 2: 2 s of waiting and half of 0.1 (2 + 3) + 0.21.
    assert heights == pytest.approx([0.61, 2.355, 2.0, 0.405, 0.91])
    assert {"refused or failed", "accepted or passed", "wait for adaptation"} <= legend(figure)


def test_the_timeline_shows_only_what_happened(tmp_path: Path) -> None:
    figure = timeline(tmp_path / "run", "c2")
    assert lanes(figure.axes[0]) == ["mined", "adapted", "gate", "answered by"]
    assert not {"wait for adaptation", "moving Gap", "accepted or passed"} & legend(figure)


def test_a_timeline_of_many_methods_stays_within_its_edges(tmp_path: Path) -> None:
    figure = timeline(tmp_path / "run", "c1", suffix="-long" * 24, copies=8)
    assert len(figure.axes) == 6 * 3
    setting = figure.legends[0].get_title().get_text()
    assert setting.endswith("this session: seed 0; 6 of 8 methods")
    title = figure._suptitle  # type: ignore[attr-defined]
    for box in (title.get_window_extent(), figure.legends[0].get_window_extent()):
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y0 >= 0
        assert box.y1 <= figure.bbox.height


def test_without_a_switch_the_timeline_says_so(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", methods=("big",))
    records = tuple(cast(SessionRecord, record) for record in read_records(folder))
    figure = draw_timeline(RunData(read_manifest(folder), records, (), {}), SUMMARY)
    (text,) = figure.axes[0].texts
    assert text.get_text() == "no method changed models"


def test_a_method_with_many_arguments_leaves_room_for_the_panels(tmp_path: Path) -> None:
    """Its id stands in several lines; in one it would push the bars off the page."""
    long = "soma:" + ",".join(f"argument_{n}=False" for n in range(9))
    folder = build_run(tmp_path / "run")
    manifest = read_manifest(folder)
    for method, name in zip(manifest["spec"]["methods"], ("big", long, "brief"), strict=True):
        method["id"] = name
    records = read_records(folder)
    for record in records:
        record["method"] = {"small": long}.get(record["method"], record["method"])
    scorers: dict[str, tuple[str, ...]] = {"chat": (), "arith": ()}
    data = RunData(manifest, tuple(cast(SessionRecord, r) for r in records), (), scorers)
    with styled():
        figure = draw_memory(data, build_summary(data))
        figure.canvas.draw()
    heights = [axes.get_window_extent().height / figure.dpi for axes in figure.axes]
    assert min(heights) > 0.8
    assert max(map(len, in_lines(long).split("\n"))) <= 28
    assert in_lines(long).replace("\n", "") == long


def test_methods_of_a_long_comparison_do_not_look_alike() -> None:
    names = [f"m{i}" for i in range(220)]
    found = [(look.color, look.marker, look.line) for look in looks(names).values()]
    assert len(set(found)) == len(names)
    assert len({color for color, _, _ in found[:11]}) == 11
