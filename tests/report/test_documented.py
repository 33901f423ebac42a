"""Every key of `summary.json` and of the run folder's files stands in the docs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import record
from tests.report.reading import edit, summary_of
from tests.report.synthetic import CACHED, SHIFT, build_run

DOCS = Path(__file__).parents[2] / "docs"
NAMED_BY_THE_RUN = {"sessions_asked", "generation"}  # keys are tasks, or the profile's own


def keys(value: Any) -> Iterator[str]:
    """Every key at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            if key not in NAMED_BY_THE_RUN:
                yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The summary of a run that has something of everything but planted drift."""

    def everything(found: dict[str, Any]) -> None:
        if found["method"] == "small":
            call = found["turns"][0]["calls"][0]
            call["engine"] = {"queue_s": 0.0, "ttft_s": 0.1, "e2e_s": 0.2}
            call["failures"] = ["HTTP 500"]

    folder = build_run(
        tmp_path_factory.mktemp("documented") / "run",
        methods=("big", CACHED, "small", SHIFT),
        concurrency=2,
        objectives={"ttft_s": 0.5, "tpot_s": 0.1, "e2e_s": 1.0},
    )
    return summary_of(edit(folder, everything))


def test_summary(full: dict[str, Any]) -> None:
    assert full["load"] and full["adaptation_under_load"] and full["results"][0]["turn_groups"]
    text = (DOCS / "summary.md").read_text("utf-8")
    assert [key for key in sorted(set(keys(full))) if f"`{key}`" not in text] == []


def test_metrics_and_what_load_is_made_of_have_a_definition(full: dict[str, Any]) -> None:
    defined = (DOCS / "metrics.md").read_text("utf-8")
    names = set(full["load"][0]) | set(full["load"][0]["goodput"]) | {"goodput"}
    names |= set(full["adaptation_under_load"][0]) | set(full["adaptation_under_load"][0]["ttft_s"])
    names |= set(full["results"][0]["turn_groups"]) | {"switch", "after_switch", "cached_share"}
    names |= set(full["results"][0]["metrics"])
    names -= {"task", "method", "role", "goodput"}
    assert [name for name in sorted(names) if f"`{name}`" not in defined] == []


def test_records() -> None:
    text = (DOCS / "run-folder.md").read_text("utf-8")
    types = (
        record.SessionRecord, record.TurnRecord, record.TokensRecord, record.TimingRecord,
        record.SpanRecord, record.EventRecord, record.CallRecord, record.EngineTimingRecord,
        record.LoadRecord, record.WorkerRecord, record.MemoryRecord, record.CostRecord,
        record.BillRecord, record.DataFacts,
    )  # fmt: skip
    names = {name for one in types for name in one.__annotations__}
    said = re.sub(r"`(\w+)\.(\w+)`", r"`\1` `\2`", text)
    assert [name for name in sorted(names) if f"`{name}`" not in said] == []
