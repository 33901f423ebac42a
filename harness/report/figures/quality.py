"""Quality against what it took: points with interval bars, one per method, over all tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.report.figures.style import INTERVALS, Look, finish, looks, new_figure, nothing
from harness.report.read import RunData
from harness.report.table import Interval
from harness.report.tables_common import TITLES, Result, overall_results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN = ("similarity", "exact_match")


def draw_against_latency(data: RunData, summary: Mapping[str, Any]) -> Figure:
    """Quality against mean session time, one panel per quality measure."""
    scorers = _scorers(summary)
    figure, panels = new_figure(len(scorers))
    for axes, scorer in zip(panels, scorers, strict=True):
        _points(axes, summary, scorer, "session_s", "Mean session time (s)", 1)
    return finish(figure, "Quality against session time", summary, INTERVALS)


def draw_against_cost(data: RunData, summary: Mapping[str, Any]) -> Figure:
    """The first quality measure against money and against the tokens of F."""
    scorer = _scorers(summary)[0]
    figure, panels = new_figure(2)
    _points(panels[0], summary, scorer, "usd", "Cost ($ per 1,000 sessions)", 1000)
    _points(panels[1], summary, scorer, "f_tokens", "Tokens of F (per session)", 1)
    return finish(figure, "Quality against cost", summary, INTERVALS)


def _scorers(summary: Mapping[str, Any]) -> list[str]:
    """The measures worth a panel: the known ones with values, else the run's first."""
    valued = [
        name
        for name in summary["scorers"]
        if any(result.mean(name) is not None for result in overall_results(summary))
    ]
    known = [name for name in _SHOWN if name in valued]
    return known or valued[:1] or ["similarity"]


def _points(
    axes: Axes, summary: Mapping[str, Any], scorer: str, cost: str, label: str, scale: float
) -> None:
    style = looks(summary["methods"])
    points = [
        (result, result.interval(cost, scale), result.interval(scorer))
        for result in overall_results(summary)
    ]
    shown = [
        (result, x, y)
        for result, x, y in points
        if isinstance(x, Interval) and isinstance(y, Interval)
    ]
    axes.set_xlabel(label)
    axes.set_ylabel(TITLES.get(scorer, (scorer, ""))[0] + " (mean over turns)")
    if not shown:
        nothing(axes, "no method has both values")
        return
    for result, x, y in shown:
        _point(axes, result, x, y, style[result.data["method"]])
    # Quality has no natural zero worth drawing; cost has, with room for a marker on it.
    right = max(x.high or x.mean for _, x, _ in shown) or 1.0
    axes.set_xlim(-0.04 * right, 1.12 * right)
    axes.margins(y=0.15)


def _point(axes: Axes, result: Result, x: Interval, y: Interval, look: Look) -> None:
    method = result.data["method"]
    axes.errorbar(
        x.mean,
        y.mean,
        xerr=_bars(x),
        yerr=_bars(y),
        color=look.color,
        marker=look.marker,
        markersize=7,
        markeredgecolor="black",
        markeredgewidth=0.6,
        linestyle="none",
        elinewidth=1.1,
        capsize=2.5,
        label=method + (" (reference)" if result.data["is_reference"] else ""),
    )


def _bars(value: Interval) -> list[list[float]] | None:
    if value.low is None or value.high is None:
        return None
    return [[max(0.0, value.mean - value.low)], [max(0.0, value.high - value.mean)]]
