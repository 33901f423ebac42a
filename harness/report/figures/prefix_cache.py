"""What the prefix cache spares, by where a turn stands to a change of models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.report.figures.style import INTERVALS, Look, finish, looks, new_figure, nothing
from harness.report.prefix_cache import GROUPS
from harness.report.read import RunData
from harness.report.table import Interval
from harness.report.tables_common import Result, interval, overall_results
from harness.report.tables_prefix_cache import GROUP_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN = tuple(group for group in GROUPS if group != "all")
_ROOM = 0.5  # of the distance between two groups, for the methods beside each other


def draw_prefix_cache(data: RunData, summary: Mapping[str, Any]) -> Figure:
    """The share of the prompt that was cached, and what the prefill took, per group of turns."""
    figure, panels = new_figure(2)
    _points(panels[0], summary, "cached_share", "Cached (% of prompt tokens)", 100)
    _points(panels[1], summary, "prefill_s", "Prefill (s)", 1)
    return finish(figure, "Prefix cache", summary, INTERVALS)


def _points(axes: Axes, summary: Mapping[str, Any], name: str, label: str, scale: float) -> None:
    rows = overall_results(summary)
    groups = [g for g in _SHOWN if any(g in row.data["turn_groups"] for row in rows)]
    style = looks(summary["methods"])
    drawn = False
    for place, row in enumerate(rows):
        shift = _ROOM * ((place + 0.5) / len(rows) - 0.5)
        for at, group in enumerate(groups):
            value = interval(row.data["turn_groups"].get(group, {}).get(name), scale)
            if isinstance(value, Interval):
                drawn = True
                _point(axes, row, at + shift, value, style[row.data["method"]])
    axes.set_ylabel(label)
    if not drawn:
        nothing(axes, "unknown for every method")
        return
    names = [GROUP_NAMES[group].replace(" after a ", "\nafter a\n") for group in groups]
    axes.set_xticks(range(len(groups)), names)
    axes.set_xlabel("Turns")
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_ylim(bottom=0)
    axes.grid(visible=False, axis="x")


def _point(axes: Axes, row: Result, x: float, value: Interval, look: Look) -> None:
    bars = None
    if value.low is not None and value.high is not None:
        bars = [[max(0.0, value.mean - value.low)], [max(0.0, value.high - value.mean)]]
    cache = ", cache on" if row.data["prefix_cache"] == "on" else ""
    mark = " (reference)" if row.data["is_reference"] else ""
    axes.errorbar(
        x,
        value.mean,
        yerr=bars,
        color=look.color,
        marker=look.marker,
        markersize=6,
        markeredgecolor="black",
        markeredgewidth=0.6,
        linestyle="none",
        elinewidth=1.1,
        capsize=2.5,
        clip_on=False,
        label=row.data["method"] + mark + cache,
    )
