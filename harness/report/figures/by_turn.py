"""What grows with the conversation: latency, prompt tokens and session time by turn index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from harness.record import TurnRecord
from harness.report.calls import tries_failed
from harness.report.figures.style import (
    INTERVALS,
    UNLIKE,
    finish,
    looks,
    new_figure,
    nothing,
    whole_turns,
)
from harness.report.read import ALL, Cell, RunData
from harness.stats import Key, cluster_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Read = Callable[[list[TurnRecord], int], float | None]
"""A value of the turn at a place (from 0) of a session's turns."""


def draw_latency(data: RunData, summary: Mapping[str, Any]) -> Figure:
    """Mean TTFT and E2E at each turn index."""
    figure, panels = new_figure(2)
    _times(panels[0], data, "TTFT (s)", lambda turns, at: _time(turns[at], "ttft_s"))
    _times(panels[1], data, "E2E (s)", lambda turns, at: _time(turns[at], "e2e_s"))
    return finish(figure, "Latency by turn", summary, INTERVALS)


def draw_tokens(data: RunData, summary: Mapping[str, Any]) -> Figure:
    """Mean prompt tokens of the reply's call at each turn index."""
    figure, panels = new_figure(1, width=5.4)
    label = "Prompt of the reply (tokens)"
    _lines(panels[0], data, label, lambda turns, at: float(turns[at]["tokens"]["prompt"]))
    return finish(figure, "Prompt tokens by turn", summary, INTERVALS)


def draw_session_time(data: RunData, summary: Mapping[str, Any]) -> Figure:
    """Mean time that a session has taken at the end of each turn."""
    figure, panels = new_figure(1, width=5.4)
    _times(panels[0], data, "Session time so far (s)", _time_so_far)
    return finish(figure, "Cumulative session time by turn", summary, INTERVALS)


def _time_so_far(turns: list[TurnRecord], at: int) -> float | None:
    """Unknown from the first turn on in which a call was tried again."""
    times = [_time(turn, "turn_s") for turn in turns[: at + 1]]
    known = [time for time in times if time is not None]
    return sum(known) if len(known) == len(times) else None


def _time(turn: TurnRecord, name: Literal["ttft_s", "e2e_s", "turn_s"]) -> float | None:
    return None if tries_failed(turn) else turn["timing"][name]


def _times(axes: Axes, data: RunData, label: str, read: Read) -> None:
    """Lines of a time, which has no meaning over machines of several classes."""
    if data.timing_refused:
        axes.set_ylabel(label)
        nothing(axes, UNLIKE)
    else:
        _lines(axes, data, label, read)


def _lines(axes: Axes, data: RunData, label: str, read: Read) -> None:
    style = looks(data.methods)
    drawn = False
    for method in data.methods:
        values = _by_turn(data.of(ALL, method), read)
        if not values:
            continue
        drawn = True
        look = style[method]
        indices = sorted(values)
        estimates = [cluster_mean(values[index]) for index in indices]
        means = [_number(e["mean"]) for e in estimates]
        mark = " (reference)" if method == data.reference else ""
        axes.plot(
            indices,
            means,
            color=look.color,
            marker=look.marker,
            markersize=4.5,
            linestyle=look.line,
            linewidth=1.4,
            label=method + mark,
        )
        low = [m if e["low"] is None else e["low"] for e, m in zip(estimates, means, strict=True)]
        high = [
            m if e["high"] is None else e["high"] for e, m in zip(estimates, means, strict=True)
        ]
        axes.fill_between(indices, low, high, color=look.color, alpha=0.13, linewidth=0)
    axes.set_xlabel("Turn index")
    axes.set_ylabel(label)
    if drawn:
        whole_turns(axes)
    else:
        nothing(axes, "no session was served")


def _by_turn(cell: Cell, read: Read) -> dict[int, dict[Key, float]]:
    values: dict[int, dict[Key, float]] = {}
    for session in cell.served:
        for at, turn in enumerate(session["turns"]):
            value = read(session["turns"], at)
            if value is not None:
                index = turn["turn_index"]
                key = Key(session["task"], session["session_id"], session["seed"], index)
                values.setdefault(index, {})[key] = value
    return values


def _number(value: float | None) -> float:
    if value is None:
        raise ValueError("the mean of at least one value is a number")
    return value
