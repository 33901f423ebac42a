"""One session, turn by turn: who answered, what was decided on which numbers, how long it took."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING, Any

from harness.record import SessionRecord
from harness.report.adaptation import KINDS, has
from harness.report.figures.style import UNLIKE, finish, new_figure, nothing, stacked
from harness.report.figures.timeline_panels import draw_latency, draw_steps, draw_values, has_values
from harness.report.read import RunData, attempt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST = 6  # methods in one figure
_WIDTH = 7.5
_TITLE_WIDTH = 66  # characters of the title that fit in it


def draw_timeline(data: RunData, summary: Mapping[str, Any]) -> Figure:
    """The first session in which some method switched, else in which one met its gate."""
    records = chosen(data)
    if not records:
        figure, panels = new_figure(1, width=5.4)
        nothing(panels[0], "no method changed models")
        return finish(figure, "One session turn by turn", summary, "nothing to show")
    shown = records[:_MOST]
    figure, panels = stacked([height for r in shown for height in _heights(r)], width=_WIDTH)
    left = list(panels)
    for record in shown:
        _draw(record, [left.pop(0) for _ in _heights(record)], timed=not data.timing_refused)
    panels[-1].set_xlabel("Turn index")
    first = records[0]
    name = fill(f"{first['task']}/{first['session_id']}", _TITLE_WIDTH)
    more = f"; {_MOST} of {len(records)} methods" if len(records) > _MOST else ""
    title = f"One session turn by turn\n{name}"
    return finish(figure, title, summary, f"this session: seed {first['seed']}{more}")


def chosen(data: RunData) -> list[SessionRecord]:
    """What the methods with events of adaptation made of one session, in the order of the spec."""
    served: dict[Any, list[SessionRecord]] = {}
    for method in data.methods:
        for task in data.tasks:
            for record in data.of(task, method).served:
                served.setdefault(attempt(record), []).append(record)
    for kind in ("switched", "gate"):
        for task, ids in data.manifest["sessions"].items():
            for session_id in ids:
                for seed in data.spec["seeds"]:
                    records = served.get((task, session_id, seed), [])
                    if any(has(record, [kind]) for record in records):
                        return [record for record in records if has(record, KINDS)]
    return []


def _heights(record: SessionRecord) -> list[float]:
    """Inches of a method's panels: steps, values where there are any, latency."""
    lanes = 1 + sum(has(record, [kind]) for kind in KINDS)
    return [0.25 * lanes, *([1.5] if has_values(record) else []), 0.8]


def _draw(record: SessionRecord, panels: list[Axes], *, timed: bool) -> None:
    draw_steps(panels[0], record)
    panels[0].set_title(record["method"], loc="left", fontweight="bold")
    if has_values(record):
        draw_values(panels[1], record)
    if timed:
        draw_latency(panels[-1], record)
    else:
        panels[-1].text(0.5, 0.5, UNLIKE, ha="center", va="center", transform=panels[-1].transAxes)
    turns = [turn["turn_index"] for turn in record["turns"]]
    panels[-1].set_xlim(0.4, len(turns) + 0.6)
    step = 1 + (len(turns) - 1) // 24
    panels[-1].set_xticks(turns[::step])
    for axes in panels:
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
        axes.tick_params(axis="x", labelbottom=axes is panels[-1])
