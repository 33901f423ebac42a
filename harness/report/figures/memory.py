"""Memory: weights with the peak key-value memory on top, and the process beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.report.figures.style import finish, looks, new_figure, nothing
from harness.report.read import RunData
from harness.report.tables_common import Result, overall_results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MIB = 1 / 2**20


def draw_memory(data: RunData, summary: Mapping[str, Any]) -> Figure:
    """Left: weights and peak KV stacked. Right: peak KV alone, by formula and as measured."""
    results = overall_results(summary)
    figure, panels = new_figure(2)
    _stacked(panels[0], results, summary)
    _key_value(panels[1], results, summary)
    return finish(figure, "Memory", summary)


def _stacked(axes: Axes, results: list[Result], summary: Mapping[str, Any]) -> None:
    shown = [r for r in results if r.statistic("weights_bytes", "max") is not None]
    axes.set_ylabel("Memory (MiB)")
    if not shown:
        nothing(axes, "no method's weights are known")
        return
    places = list(range(len(shown)))
    weights = [_mib(r, "weights_bytes") for r in shown]
    kv = [_mib(r, "kv_formula_bytes") for r in shown]
    colors = [looks(summary["methods"])[r.data["method"]].color for r in shown]
    axes.bar(places, weights, 0.6, color=colors, alpha=0.45, edgecolor="black", linewidth=0.6)
    axes.bar(
        places, kv, 0.6, bottom=weights, color="white", edgecolor="black", hatch="////",
        linewidth=0.6, label="peak KV by formula, on top of the weights",
    )  # fmt: skip
    rss = [(p, r.statistic("rss_bytes", "max", _MIB)) for p, r in zip(places, shown, strict=True)]
    known = [(p, v) for p, v in rss if isinstance(v, float)]
    if known:
        axes.plot(
            [p for p, _ in known], [v for _, v in known], linestyle="none", marker="_",
            markersize=18, markeredgewidth=2, color="#D55E00",
            label="process RSS, all loaded models",
        )  # fmt: skip
    _names(axes, shown)


def _key_value(axes: Axes, results: list[Result], summary: Mapping[str, Any]) -> None:
    shown = [r for r in results if r.statistic("kv_formula_bytes", "max") is not None]
    axes.set_ylabel("Largest peak KV of a session (MiB)")
    if not shown:
        nothing(axes, "no method's KV size is known")
        return
    places = list(range(len(shown)))
    style = looks(summary["methods"])
    for place, result in zip(places, shown, strict=True):
        look = style[result.data["method"]]
        axes.bar(
            place, _mib(result, "kv_formula_bytes"), 0.6, color=look.color, alpha=0.45,
            edgecolor="black", linewidth=0.6,
        )  # fmt: skip
    measured = [
        (p, r.statistic("kv_measured_bytes", "max", _MIB))
        for p, r in zip(places, shown, strict=True)
    ]
    known = [(p, v) for p, v in measured if isinstance(v, float)]
    if known:
        axes.plot(
            [p for p, _ in known], [v for _, v in known], linestyle="none", marker="x",
            markersize=7, markeredgewidth=1.6, color="black", label="peak KV measured",
        )  # fmt: skip
    _names(axes, shown)


def _mib(result: Result, name: str) -> float:
    value = result.statistic(name, "max", _MIB)
    return value if isinstance(value, float) else 0.0


def _names(axes: Axes, shown: list[Result]) -> None:
    long = any(len(r.data["method"]) > 9 for r in shown) or len(shown) > 5
    axes.set_xticks(
        range(len(shown)),
        [r.data["method"] for r in shown],
        rotation=25 if long else 0,
        ha="right" if long else "center",
    )
    axes.set_xlim(-0.6, len(shown) - 0.4)
    axes.grid(visible=False, axis="x")
