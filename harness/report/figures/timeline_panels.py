"""The panels of a session's timeline: its steps, the values behind them, the latency of its turns.

Marks stand at the turn that noted them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harness.record import SessionRecord
from harness.report.adaptation import KINDS, adaptation_events, has
from harness.report.calls import tries_failed
from harness.report.figures.style import SERVER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GAP, _LOCALITY, _BAD = "#CC79A7", "#009E73", "#D55E00"
_MARKS: Mapping[str, str] = MappingProxyType(
    {"mined": "*", "adapted": "P", "switched": ">", "rolled_back": "<"}
)
_LEAST_WAIT = 0.03  # of the tallest bar; a shorter wait is not hatched


def draw_steps(axes: Axes, record: SessionRecord) -> None:
    """A lane per kind of event, in the order a session goes through them, over who answered."""
    lanes = [kind for kind in KINDS if has(record, [kind])]
    counts: Counter[tuple[int, str, bool | None]] = Counter(
        (turn, event["kind"], _verdict(event["kind"], event["data"]))
        for turn, event in adaptation_events(record)
    )
    for (turn, kind, good), count in counts.items():
        _mark(axes, turn, lanes.index(kind), kind, good)
        if count > 1:
            axes.text(turn + 0.14, lanes.index(kind), f"×{count}", va="center", fontsize=7)
    for turn, server in ((t["turn_index"], t["served_by"]) for t in record["turns"]):
        axes.barh(len(lanes), 0.94, left=turn - 0.47, height=0.8, color=SERVER[server])
        ink = "white" if server == "F" else "black"
        axes.text(turn, len(lanes), server, ha="center", va="center", fontsize=7, color=ink)
    names = [kind.replace("_", " ") for kind in lanes]
    axes.set_yticks(range(len(lanes) + 1), [*names, "answered by"], fontsize=7.5)
    axes.set_ylim(len(lanes) + 0.5, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)


def has_values(record: SessionRecord) -> bool:
    """Whether the session has a Gap or a locality to draw."""
    return any(_points(record, name) for name in ("gap", "moving_gap", "locality"))


def draw_values(axes: Axes, record: SessionRecord) -> None:
    """Gap and locality by turn, and the limits they were held against."""
    for kind, name, color, mark, label in (
        ("gate", "gap", _GAP, "s", "mean Gap at the gate"),
        ("drift_check", "gap", _GAP, "o", "Gap of a probed turn"),
        ("drift_check", "moving_gap", _GAP, ".-", "moving Gap"),
        (None, "locality", _LOCALITY, "-^", "locality of the query"),
    ):
        points = _points(record, name, kind)
        if points:
            axes.plot(
                list(points),
                list(points.values()),
                mark,
                color=color,
                markerfacecolor="white" if mark == "o" else color,
                markersize=5,
                linewidth=1.2,
                label=label,
            )
    for kind, name, color, style, label in (
        ("gate", "epsilon", _GAP, "--", "Gap limit of the gate"),
        ("drift_check", "threshold", _GAP, ":", "moving Gap's limit"),
        (None, "min_locality", _LOCALITY, "--", "locality's limit"),
    ):
        for limit in sorted(set(_points(record, name, kind).values())):
            axes.axhline(limit, color=color, linestyle=style, linewidth=1.1, label=label)
    axes.set_ylabel("Gap, locality")
    axes.margins(y=0.12)


def draw_latency(axes: Axes, record: SessionRecord) -> None:
    """A bar per turn, its seconds on top; hatched: the part that waited for an adaptation."""
    turns = record["turns"]
    tallest = max(turn["timing"]["turn_s"] for turn in turns)
    for turn in turns:
        index, total, server = turn["turn_index"], turn["timing"]["turn_s"], turn["served_by"]
        axes.bar(index, total, 0.45, color=SERVER[server], label=f"turn answered by {server}")
        spans = [s["duration_s"] for s in turn["spans"] if s["name"] == "adaptation_wait"]
        waited = min(total, sum(spans))
        if waited > _LEAST_WAIT * tallest:
            axes.bar(
                index,
                waited,
                0.45,
                color="white",
                edgecolor="black",
                linewidth=0.6,
                hatch="////",
                label="wait for adaptation",
            )
        if tries_failed(turn):
            axes.plot(index, 0, "X", color=_BAD, mew=0, clip_on=False, label="with a retry in it")
        if len(turns) <= 24:
            axes.text(index, total, _seconds(total), ha="center", va="bottom", fontsize=6.5)
    axes.set_ylabel("Turn (s)")
    axes.set_ylim(0, tallest * 1.25)


def _verdict(kind: str, data: Mapping[str, Any]) -> bool | None:
    """Whether a check went well; None for an event that is no check."""
    if kind == "gate":
        return bool(data["accepted"])
    return not data["failed"] if kind == "drift_check" else None


def _mark(axes: Axes, turn: int, lane: int, kind: str, good: bool | None) -> None:
    if good is None:
        axes.plot(turn, lane, _MARKS[kind], color="black", markersize=7)
    elif good:
        axes.plot(turn, lane, "o", color="black", markersize=5, label="accepted or passed")
    else:
        axes.plot(turn, lane, "X", color=_BAD, markersize=7, mew=0, label="refused or failed")


def _points(record: SessionRecord, name: str, kind: str | None = None) -> dict[int, float]:
    """A number of the events (of one kind) by turn, where it is known; the last one of a turn."""
    return dict(_numbers(record, name, kind))


def _numbers(record: SessionRecord, name: str, kind: str | None) -> Iterator[tuple[int, float]]:
    kinds = ("gate", "drift_check") if kind is None else (kind,)
    for turn, event in adaptation_events(record):
        value = event["data"].get(name)
        if event["kind"] in kinds and value is not None:
            yield turn, float(value)


def _seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
