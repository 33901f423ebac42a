"""The table of the prefix cache: what it spared, and that a change of models starts anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from harness.report.prefix_cache import GROUPS
from harness.report.table import Column, Table, Value
from harness.report.tables_common import (
    INTERVAL_NOTE,
    METHOD,
    Result,
    interval,
    overall_results,
    setting,
    timing_notes,
)
from harness.report.tables_resources import MIB

CACHE = Column("cache", "Cache")

GROUP_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "all": "all",
        "first": "first",
        "later": "later",
        "switch": "first after a switch",
        "after_switch": "second after a switch",
    }
)
_COLUMNS = (
    METHOD,
    CACHE,
    Column("group", "Turns"),
    Column("turns", "n", "turns", ",d"),
    Column("prompt_tokens", "Prompt", "tokens/turn", ",.1f"),
    Column("cached_tokens", "Cached", "tokens/turn", ",.1f"),
    Column("cached_share", "Cached", "% of prompts", ".1f"),
    Column("ttft_s", "TTFT", "s", ".3f"),
    Column("prefill_s", "Prefill", "s", ".3f"),
    Column("kv_kept", "KV kept, max", "MiB", ",.2f"),
)


def prefix_cache_tables(summary: Mapping[str, Any]) -> list[Table]:
    """The table, where some method has the cache on or was served cached tokens all the same."""
    return [_table(summary)] if shows_cache(summary) else []


def shows_cache(summary: Mapping[str, Any]) -> bool:
    found = [Result(data) for data in summary["results"]]
    return any(r.data["prefix_cache"] == "on" or r.mean("cached_tokens") for r in found)


def _table(summary: Mapping[str, Any]) -> Table:
    return Table(
        name="prefix_cache",
        title="Prefix cache",
        caption=f"Means over all tasks, by where a turn stands. {setting(summary)}",
        columns=_COLUMNS,
        rows=tuple(row for result in overall_results(summary) for row in _rows(result)),
        notes=(
            "Prompt, cached: of the call that made the reply. First after a switch: another model "
            "answered than at the turn before. Models share no keys and values, so it computes its "
            "whole prompt, but for what is left of its own earlier turns. Second after a switch: "
            "the turn after that, by the same model. Later: every other turn after the first.",
            "TTFT holds all that the user waits for, an adaptation before a switch included; "
            "prefill only the engine's work on the call. KV kept: the most that was held for a "
            "session between two of its calls, the largest of any session. " + INTERVAL_NOTE,
            *timing_notes(summary),
        ),
    )


def _rows(result: Result) -> Iterator[dict[str, Value]]:
    for group in GROUPS:
        found = result.data["turn_groups"].get(group)
        if found is None:
            continue
        row: dict[str, Value] = {
            "method": result.head["method"],
            "cache": result.data["prefix_cache"],
            "group": GROUP_NAMES[group],
            "turns": found["turns"],
            "cached_share": interval(found["cached_share"], 100),
        }
        for name in ("prompt_tokens", "cached_tokens", "ttft_s", "prefill_s"):
            row[name] = interval(found[name])
        if group == "all":
            row["kv_kept"] = result.statistic("kv_kept_bytes", "max", MIB)
        yield row
