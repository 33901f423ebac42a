"""Memory: weights with the peak key-value memory on top, that memory alone, and the process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harness.report.figures.style import finish, in_lines, looks, new_figure, nothing, pale
from harness.report.read import RunData
from harness.report.tables_common import Result, overall_results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MIB = 1 / 2**20
_EDGE: Mapping[str, Any] = MappingProxyType({"edgecolor": "black", "linewidth": 0.6})


def draw_memory(data: RunData, summary: Mapping[str, Any]) -> Figure:
    """The largest value of any session, in MiB; the process holds every loaded model."""
    results = overall_results(summary)
    colors = {method: pale(look.color) for method, look in looks(summary["methods"]).items()}
    figure, panels = new_figure(3, width=3.1)
    shown = _bars(panels[0], results, colors, "weights_bytes", "Weights and peak KV (MiB)")
    if shown:
        panels[0].bar(
            range(len(shown)),
            [_mib(result, "kv_formula_bytes") or 0.0 for result in shown],
            0.6,
            bottom=[_mib(result, "weights_bytes") or 0.0 for result in shown],
            color="white",
            hatch="////",
            label="peak KV by formula",
            **_EDGE,
        )
    shown = _bars(panels[1], results, colors, "kv_formula_bytes", "Peak KV by formula (MiB)")
    _measured(panels[1], shown)
    _bars(panels[2], results, colors, "rss_bytes", "Process RSS, all loaded models (MiB)")
    return finish(figure, "Memory", summary, "largest value of any session")


def _bars(
    axes: Axes,
    results: Sequence[Result],
    colors: Mapping[str, tuple[float, float, float]],
    name: str,
    label: str,
) -> list[Result]:
    """A bar per method that knows `name`; returns those methods' results, from left to right."""
    shown = [result for result in results if _mib(result, name) is not None]
    axes.set_ylabel(label)
    if not shown:
        nothing(axes, "unknown for every method")
        return shown
    axes.bar(
        range(len(shown)),
        [_mib(result, name) or 0.0 for result in shown],
        0.6,
        color=[colors[result.data["method"]] for result in shown],
        **_EDGE,
    )
    axes.set_xticks(
        range(len(shown)),
        [in_lines(result.data["method"]) for result in shown],
        rotation=30,
        ha="right",
        rotation_mode="anchor",
    )
    axes.set_xlim(-0.6, len(shown) - 0.4)
    axes.grid(visible=False, axis="x")
    return shown


def _measured(axes: Axes, shown: Sequence[Result]) -> None:
    sizes = [(place, _mib(result, "kv_measured_bytes")) for place, result in enumerate(shown)]
    known = [(place, size) for place, size in sizes if size is not None]
    if known:
        axes.plot(
            [place for place, _ in known],
            [size for _, size in known],
            linestyle="none",
            marker="x",
            markersize=7,
            markeredgewidth=1.6,
            color="black",
            label="peak KV as the engine held it",
        )


def _mib(result: Result, name: str) -> float | None:
    value = result.statistic(name, "max", _MIB)
    return float(value) if isinstance(value, (int, float)) else None
