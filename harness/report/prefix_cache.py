"""What a prefix cache spared: turns by where they stand to a change of models.

Models share no keys and values, so the first turn that another model answers computes its whole
prompt again, however much of it was cached for the model before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from harness.record import SessionRecord, TurnRecord
from harness.report.metric_list import METRICS
from harness.report.metrics import read_values
from harness.report.read import Cell
from harness.stats import Key, cluster_mean, paired_relative

Group = Literal["all", "first", "later", "switch", "after_switch"]
GROUPS: tuple[Group, ...] = ("all", "first", "later", "switch", "after_switch")
"""All turns; the first; the first that another model answered than the turn before; the one after
that, by the same model; and every other turn."""

_READ = ("prompt_tokens", "cached_tokens", "ttft_s", "prefill_s")


def turn_groups(cell: Cell) -> dict[str, dict[str, Any]]:
    """By group that has turns: how many, and estimates of what `_READ` names and of the share of
    the prompt that was cached.
    """
    place = {key: group for session in cell.served for key, group in _places(session)}
    values = {m.name: read_values(m, cell).known for m in METRICS if m.name in _READ}
    found: dict[str, dict[str, Any]] = {}
    for group in GROUPS:
        keys = {key for key, its in place.items() if group in ("all", its)}
        if keys:
            mine = {
                name: {key: value for key, value in known.items() if key in keys}
                for name, known in values.items()
            }
            found[group] = {
                "turns": len(keys),
                **{name: cluster_mean(known) for name, known in mine.items()},
                "cached_share": _share(mine["cached_tokens"], mine["prompt_tokens"]),
            }
    return found


def group_of(turns: list[TurnRecord], at: int) -> Group:
    """The group of the turn at a place (from 0) of a session's turns."""
    if at == 0:
        return "first"
    if _switches(turns, at):
        return "switch"
    return "after_switch" if _switches(turns, at - 1) else "later"


def _switches(turns: list[TurnRecord], at: int) -> bool:
    return at > 0 and turns[at]["served_by"] != turns[at - 1]["served_by"]


def _places(session: SessionRecord) -> Iterator[tuple[Key, Group]]:
    for at, turn in enumerate(session["turns"]):
        key = Key(session["task"], session["session_id"], session["seed"], turn["turn_index"])
        yield key, group_of(session["turns"], at)


def _share(cached: dict[Key, float], prompts: dict[Key, float]) -> Any:
    """Sum of cached over sum of prompt tokens, from the same sums' relative difference."""
    share = paired_relative(cached, prompts)
    for bound in ("mean", "low", "high"):
        value = share[bound]
        share[bound] = None if value is None else value + 1
    return share
