"""Sessions that were served at the same time: who was there when, and what was done for whom."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harness.record import CallRecord, SessionRecord
from harness.report.calls import REPLY, is_work
from harness.report.figures.style import SERVER, finish, in_lines, new_figure, nothing, stacked
from harness.report.read import RunData

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_METHODS, _SESSIONS = 4, 12  # most in one figure
_WIDTH = 7.5
_THERE, _WORK, _OTHER = "#e4e4e4", "#CC79A7", "#888888"
_LABELS: Mapping[str, str] = MappingProxyType(
    {_THERE: "session is there", _WORK: "work on weights", _OTHER: "another call"}
)


def draw_load(data: RunData, summary: Mapping[str, Any]) -> Figure:
    """The first window of each method on the first task, those first that worked on weights."""
    windows = chosen(data)
    if not windows:
        figure, panels = new_figure(1, width=5.4)
        nothing(panels[0], "no session was served")
        return finish(figure, "Sessions at once", summary, "nothing to show")
    heights = [0.35 + 0.24 * len(window) for window in windows]
    figure, panels = stacked(heights, width=_WIDTH)
    for axes, window in zip(panels, windows, strict=True):
        _draw(axes, window)
    panels[-1].set_xlim(0, max(_load(s)["ended_s"] for window in windows for s in window))
    panels[-1].set_xlabel("Seconds since the window began")
    task = windows[0][0]["task"]
    return finish(figure, "Sessions at once", summary, f"task {task}, first sessions of a window")


def chosen(data: RunData) -> list[list[SessionRecord]]:
    """Of each method the sessions of its first window, in the order in which they began."""
    found = []
    for method in data.methods:
        served = [s for s in data.of(data.tasks[0], method).served if s["load"] is not None]
        if served:
            name = _load(min(served, key=lambda s: _load(s)["started_s"]))["window"]
            window = [s for s in served if _load(s)["window"] == name]
            found.append(sorted(window, key=lambda s: _load(s)["started_s"])[:_SESSIONS])
    found.sort(key=lambda window: not any(map(_works, window)))
    return found[:_METHODS]


def _draw(axes: Axes, window: list[SessionRecord]) -> None:
    for lane, session in enumerate(window):
        seen = _load(session)
        _bar(axes, lane, seen["arrived_s"], seen["ended_s"], _THERE, _LABELS[_THERE], 0.84)
        calls = [(turn["at_s"], call) for turn in session["turns"] for call in turn["calls"]]
        # Work in the background lies under the replies that were given meanwhile.
        for at, call in sorted(calls, key=lambda one: not is_work(one[1])):
            start = at + call["start_s"]
            color, label = _kind(call)
            height = 0.66 if is_work(call) else 0.42
            end = start + call["duration_s"]
            _bar(axes, lane, start + call["queue_s"], end, color, label, height)
    axes.set_yticks(range(len(window)), [s["session_id"][:28] for s in window], fontsize=7)
    axes.set_ylim(len(window) - 0.5, -0.5)
    axes.set_title(in_lines(window[0]["method"]), loc="left", fontweight="bold")
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def _bar(
    axes: Axes, lane: int, start: float, end: float, color: str, label: str, height: float
) -> None:
    axes.barh(lane, end - start, left=start, height=height, color=color, label=label)


def _kind(call: CallRecord) -> tuple[str, str]:
    if is_work(call):
        return _WORK, _LABELS[_WORK]
    if call["purpose"] == REPLY and call["role"] in SERVER:
        return SERVER[call["role"]], f"reply by {call['role']}"
    return _OTHER, _LABELS[_OTHER]


def _works(session: SessionRecord) -> bool:
    return any(is_work(call) for turn in session["turns"] for call in turn["calls"])


def _load(session: SessionRecord) -> Any:
    return session["load"]
