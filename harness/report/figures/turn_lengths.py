"""How a task's sessions go on: how long the turns are at each index, and how many reach it."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING

from harness.report.figures.style import legend_below, nothing, stacked
from harness.task_stats import SWITCH_ROOM, TaskStats, TurnStats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LENGTH, _REACH, _SHORT, _WARM = "#0072B2", "#56B4E9", "#D55E00", "#000000"
_MOST_TURNS = 50
_LEAST_SHARE = 0.01  # of the sessions; a mean over fewer says little and stretches the axis
_TITLE_WIDTH = 56  # characters
_NUMBERED = 16  # turns, up to which every bar has its number


def draw_turn_lengths(stats: TaskStats, title: str) -> Figure:
    """Two panels over the turn index: mean tokens (or characters) of a turn, sessions with it."""
    shown = shown_turns(stats)
    figure, panels = stacked([2.0, 1.4], width=6.4)
    if shown:
        _draw_lengths(panels[0], shown)
        _draw_sessions(panels[1], shown, stats)
        for axes in panels:
            _mark_warm(axes, stats.warm_turns, shown[-1].index)
            _ticks(axes, shown[-1].index)
    else:
        for axes in panels:
            nothing(axes, "no sessions")
    figure.suptitle(fill(title, _TITLE_WIDTH), fontsize=11, fontweight="bold")
    legend_below(figure, _setting(stats, shown))
    return figure


def shown_turns(stats: TaskStats) -> tuple[TurnStats, ...]:
    """The turns that enough sessions reach for their mean to say something, 50 at most."""
    least = _LEAST_SHARE * stats.sessions
    return tuple(t for t in stats.by_turn[:_MOST_TURNS] if t.sessions >= least)


def _draw_lengths(axes: Axes, shown: tuple[TurnStats, ...]) -> None:
    has_tokens = all(turn.tokens is not None for turn in shown)
    values = [turn.tokens if turn.tokens is not None else turn.characters for turn in shown]
    axes.bar([turn.index for turn in shown], values, 0.8, color=_LENGTH)
    axes.set_ylabel(f"{'Tokens' if has_tokens else 'Characters'} per turn")
    if len(shown) <= _NUMBERED:
        for turn, value in zip(shown, values, strict=True):
            axes.text(turn.index, value, f"{value:.0f}", ha="center", va="bottom", fontsize=6.5)
        axes.margins(y=0.12)


def _draw_sessions(axes: Axes, shown: tuple[TurnStats, ...], stats: TaskStats) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.bar([turn.index for turn in shown], [turn.sessions for turn in shown], 0.8, color=_REACH)
    short = [t for t in shown if t.index < stats.warm_turns + SWITCH_ROOM and t.ending]
    if short:
        axes.bar(
            [turn.index for turn in short],
            [turn.ending for turn in short],
            0.8,
            color=_SHORT,
            label="end here, never switchable",
        )
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylabel("Sessions")
    axes.set_xlabel("Turn index")


def _mark_warm(axes: Axes, warm_turns: int, last: int) -> None:
    if warm_turns < last:
        label = f"default warm turns, W = {warm_turns}"
        axes.axvline(warm_turns + 0.5, color=_WARM, linestyle="--", linewidth=1, label=label)


def _ticks(axes: Axes, last: int) -> None:
    step = 1 + (last - 1) // 20
    axes.set_xlim(0.4, last + 0.6)
    axes.set_xticks(range(1, last + 1, step))
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")


def _setting(stats: TaskStats, shown: tuple[TurnStats, ...]) -> str:
    last = stats.by_turn[-1].index if stats.by_turn else 0
    setting = f"{stats.sessions:,} sessions, {stats.user_turns:,} user turns"
    if len(shown) < len(stats.by_turn):
        setting += f"; turn indices above {len(shown)}, up to {last}, are not shown"
    return setting
