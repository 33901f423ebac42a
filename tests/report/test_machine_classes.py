"""Times of several classes of machines are never put together."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.report.figures import figures
from harness.report.read import read_run
from harness.report.summary import build_summary
from harness.report.tables import QUALITY_TABLES, build_tables
from tests.report.reading import edit, result, rows_of, score_repetition, summary_of
from tests.report.synthetic import CACHED, SHIFT, build_run

METHODS = ("big", CACHED, "small", SHIFT)
REASON = "the sessions were served on machines of several classes (card-a, cpu-2core)"


def elsewhere(record: dict[str, Any]) -> None:
    """A second worker served the sessions of number 2, on a machine of another class."""
    if record["session_id"].endswith("2"):
        record["worker"] = {"index": 1, "machine_class": "card-a"}


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("machines") / "run"
    return score_repetition(
        build_run(folder, methods=METHODS, concurrency=2, objectives={"ttft_s": 0.5})
    )


@pytest.fixture(scope="module")
def mixed(alike: Path) -> Path:
    folder = alike.with_name("mixed")
    shutil.copytree(alike, folder)
    return edit(folder, elsewhere)


@pytest.fixture(scope="module")
def summary(mixed: Path) -> dict[str, Any]:
    return build_summary(read_run(mixed))


def test_no_time_memory_load_or_cost_by_time_is_left(summary: dict[str, Any]) -> None:
    assert summary["timing_refused"] == REASON
    assert summary["machine_classes"] == ["card-a", "cpu-2core"]
    assert summary["overhead_share"] is None
    assert summary["load"] == summary["adaptation_under_load"] == []
    for entry in summary["results"]:
        for name, metric in entry["metrics"].items():
            if re.search(r"_s$|_bytes$|^usd", name):
                assert (metric["mean"], metric["n"], metric["low"]) == (None, 0, None), name
                assert {v for k, v in metric.items() if k.startswith("adj_p")} <= {None}
                assert metric.get("adj_n", 0) == 0  # nor are failures infinite times
                assert metric.get("max") is None
        for name, difference in (entry["difference"] or {}).items():
            if re.search(r"_s$|_bytes$|^usd(_busy)?$", name):
                assert (difference["mean"], difference["refused"]) == (None, REASON), name
        for group in entry["turn_groups"].values():
            assert (group["ttft_s"]["mean"], group["prefill_s"]["mean"]) == (None, None)
    small = result(summary, "chat", "small")
    assert small["break_even"]["turn"] is None
    assert "several classes" in small["break_even"]["refused"]
    assert small["against_cached"]["session_s"]["refused"] == REASON


def test_quality_and_tokens_stay(alike: Path, summary: dict[str, Any]) -> None:
    before = build_summary(read_run(alike))
    names = ("repetition", "prompt_tokens", "output_tokens", "f_tokens")
    for entry, other in zip(summary["results"], before["results"], strict=True):
        for name in (*names, "g_tokens", "trained_tokens", "f_share", "switch_turn", "retries"):
            assert entry["metrics"][name] == other["metrics"][name]
        assert entry["adaptation"] == other["adaptation"]
    plain = {t.name: t for t in build_tables(before)}
    for table in build_tables(summary):
        if table.name in QUALITY_TABLES:
            assert table == plain[table.name]


TIMES = ("latency", "latency_percentiles", "first_token", "memory", "cost")


@pytest.mark.parametrize("name", ["main", "adaptation", "prefix_cache", *TIMES])
def test_tables_refuse_with_a_reason(summary: dict[str, Any], name: str) -> None:
    (table,) = [t for t in build_tables(summary) if t.name == name]
    assert sum(REASON in note for note in table.notes) == 1
    counts = {"task", "method", "metric", "sessions", "errors", "skipped", "turns", "n", "adj_n"}
    if name in TIMES:
        shown = {
            value
            for row in rows_of(summary, name)
            for key, value in row.items()
            if key not in counts | {"f_tokens", "g_tokens"}
        }
        assert shown == {"–"}


def test_main_shows_only_what_is_comparable(summary: dict[str, Any]) -> None:
    for row in rows_of(summary, "main"):
        for key in ("ttft", "e2e", "tpot", "session", "session_change", "kv", "weights", "usd"):
            assert row[key] == "–"
        for key in ("break_even", "break_even_cached", "session_change_cached"):
            assert row[key] == "–"
        assert row["repetition"] != "–"
        assert row["f_tokens"] != "–"


def test_dollars_by_token_stay(tmp_path: Path) -> None:
    def by_token(record: dict[str, Any]) -> None:
        elsewhere(record)
        record["cost"] |= {"usd_busy": None, "usd_tokens": record["cost"]["usd"]}

    summary = summary_of(edit(build_run(tmp_path / "run"), by_token))
    metrics = result(summary, "chat", "big")["metrics"]
    assert metrics["usd"]["mean"] == pytest.approx(2.64 / 3600)
    assert metrics["usd_tokens"]["n"] == 3
    assert metrics["busy_s"]["mean"] is None
    assert result(summary, "chat", "small")["break_even"]["turn"] == 1
    assert result(summary, "chat", "small")["difference"]["usd"]["mean"] is not None


def test_figures_show_no_times(mixed: Path, summary: dict[str, Any]) -> None:
    data = read_run(mixed)
    drawn = {stem: draw(data, summary) for stem, draw in figures(summary).items()}
    assert "load_timeline" not in drawn
    for stem in ("latency_by_turn", "session_time_by_turn"):
        assert all(not axes.get_lines() for axes in drawn[stem].axes)
        assert {t.get_text() for axes in drawn[stem].axes for t in axes.texts} == {
            "no times: machines of several classes"
        }
    for axes in drawn["memory"].axes:
        assert [t.get_text() for t in axes.texts] == ["unknown for every method"]
    assert not drawn["session_timeline"].axes[-1].patches
    assert not drawn["quality_latency"].axes[0].containers
    assert len(drawn["tokens_by_turn"].axes[0].get_lines()) == len(METHODS)


def test_several_workers_of_one_class_are_named(alike: Path, tmp_path: Path) -> None:
    def second(record: dict[str, Any]) -> None:
        if record["session_id"].endswith("2"):
            record["worker"] = {"index": 1, "machine_class": "cpu-2core"}

    shutil.copytree(alike, tmp_path / "run")
    summary = summary_of(edit(tmp_path / "run", second))
    before = summary_of(alike)
    assert (before["workers"], summary["workers"], summary["timing_refused"]) == (1, 2, None)
    assert [r["metrics"] for r in summary["results"]] == [r["metrics"] for r in before["results"]]
    told = "Served by 2 workers on machines of one class."
    named = {t.name for t in build_tables(summary) if told in t.notes}
    assert named >= {"main", "latency", "load", "memory", "cost"}
    assert not named & set(QUALITY_TABLES)
    assert not any(told in t.notes for t in build_tables(before))
