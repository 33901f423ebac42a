"""How figures look: fonts, colours, one colour and marker per method, files without a date."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harness.report.tables_common import offered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with every common colour blindness, yellow last of them, being
# weak on white paper; then three for those who compare more methods.
_COLORS = (
    *("#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442"),
    *("#999999", "#882255", "#117733"),
)
SERVER: Mapping[str, str] = MappingProxyType({"F": "#0072B2", "G": "#E69F00"})
"""The colour of what each model does."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
_LINES = ("-", "--", "-.", ":")
_DPI = 200
_LABEL_WIDTH = 28  # characters

INTERVALS = "bars and bands: 95 % interval"
UNLIKE = "no times: machines of several classes"


@dataclass(frozen=True)
class Look:
    """The colour, marker and line of one method, the same in every figure."""

    color: str
    marker: str
    line: Any


def looks(methods: Sequence[str]) -> dict[str, Look]:
    """One look per method in the order of the spec; 220 methods stay distinct."""
    return {
        method: Look(
            _COLORS[place % len(_COLORS)],
            _MARKERS[place % len(_MARKERS)],
            _LINES[place % len(_LINES)],
        )
        for place, method in enumerate(methods)
    }


@contextmanager
def styled() -> Iterator[None]:
    """The settings of all figures; whoever draws outside of it keeps their own."""
    import matplotlib

    settings: Any = {  # its type spells out every setting there is
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#dddddd",
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "pdf.fonttype": 42,
        "text.parse_math": False,  # a dollar sign is a dollar sign
    }
    with matplotlib.rc_context(settings):
        yield


def new_figure(
    columns: int, *, width: float = 4.2, height: float = 3.4
) -> tuple[Figure, list[Axes]]:
    """A figure of `columns` panels beside each other, drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(width * columns, 5.4), height + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, columns, squeeze=False)
    return figure, list(panels[0])


def stacked(heights: Sequence[float], *, width: float) -> tuple[Figure, list[Axes]]:
    """A figure of panels under each other, of `heights` inches, that share their x axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, sum(heights) + 1.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(
        len(heights), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": list(heights)}
    )
    return figure, list(panels[:, 0])


def finish(figure: Figure, title: str, summary: Mapping[str, Any], marks: str) -> Figure:
    """Title on top; under the panels the setting and one legend. `marks` explains bars or bands."""
    figure.suptitle(title, fontsize=11, fontweight="bold")
    setting = (
        f"pair {summary['pair']}, {summary['history']} history, {offered(summary)}, "
        f"{sum(summary['sessions_asked'].values())} sessions, "
        f"machine {summary['machine'] or 'unknown'}; {marks}"
    )
    legend_below(figure, setting)
    return figure


def legend_below(figure: Figure, setting: str) -> None:
    """One legend of all panels under them, headed by the setting."""
    shown: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            shown.setdefault(in_lines(label), handle)
    figure.legend(
        list(shown.values()),
        list(shown),
        loc="outside lower center",
        ncols=legend_columns(list(shown), figure.get_figwidth()),
        title=setting,
        title_fontsize=6.5,
    )


def in_lines(label: str) -> str:
    """A label in lines of some length; a method's id with many arguments breaks at its commas."""
    lines: list[str] = []
    for part in label.replace(",", ",\0").split("\0"):
        if lines and len(lines[-1]) + len(part) <= _LABEL_WIDTH:
            lines[-1] += part
        else:
            lines.append(part)
    return "\n".join(lines)


def legend_columns(labels: list[str], width: float) -> int:
    """How many entries fit beside each other in a figure of `width` inches; at least one."""
    lines = [line for label in labels for line in label.split("\n")]
    entry = 0.65 + 0.08 * max(map(len, lines), default=0)
    return max(1, min(len(labels), int(width / entry)))


def pale(color: str) -> tuple[float, float, float]:
    """A colour mixed with white, opaque, so that grid lines do not shine through a bar."""
    from matplotlib.colors import to_rgb

    red, green, blue = (0.5 + part / 2 for part in to_rgb(color))
    return red, green, blue


def nothing(axes: Axes, why: str) -> None:
    """Say in the panel why it is empty."""
    axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes, color="#555555")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)


def whole_turns(axes: Axes) -> None:
    """Ticks at whole turn indices, axis from 0."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylim(bottom=0)


def save(figure: Figure, folder: Path, stem: str) -> list[Path]:
    """Write PNG and PDF whole, without the date that would make equal figures differ."""
    no_date: dict[str, dict[str, Any]] = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    written = []
    for kind, metadata in no_date.items():
        target = folder / f"{stem}.{kind}"
        temporary = folder / f".{stem}.{os.getpid()}.{kind}"
        figure.savefig(temporary, dpi=_DPI, format=kind, metadata=metadata)
        temporary.replace(target)
        written.append(target)
    return written
