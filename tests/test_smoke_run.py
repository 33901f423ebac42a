"""A real run of the smoke profile: its records, its measurements, its report."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from harness.record import SessionRecord, TurnRecord
from harness.store import read_manifest, read_sessions


@pytest.fixture
def records(smoke_run: Path) -> list[SessionRecord]:
    return list(read_sessions(smoke_run))


@pytest.fixture
def turns(records: list[SessionRecord]) -> list[TurnRecord]:
    return [t for r in records for t in r["turns"]]


@pytest.fixture
def summary(smoke_run: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((smoke_run / "summary.json").read_text("utf-8"))
    return data


def test_every_session_was_served_in_full(records: list[SessionRecord]) -> None:
    assert sorted((r["method"], r["task"]) for r in records) == [
        ("original", "maths"),
        ("original", "planning"),
        ("original-cached", "maths"),
        ("original-cached", "planning"),
        ("surrogate", "maths"),
        ("surrogate", "planning"),
    ]
    for record in records:
        assert record["outcome"] == "scored"
        assert [t["turn_index"] for t in record["turns"]] == [1, 2, 3]
        assert all(t["reply"].strip() for t in record["turns"])


def test_nothing_was_asked_of_the_network(smoke_run: Path) -> None:
    assert not (smoke_run.parent / "network").exists()


def test_the_network_guard_of_that_run_works(tmp_path: Path) -> None:
    import sys

    from tests.conftest import NO_NETWORK

    code = NO_NETWORK.format(log=str(tmp_path / "network"))
    code += "\ntry:\n    socket.create_connection(('localhost', 9))\nexcept OSError:\n    pass\n"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "localhost" in (tmp_path / "network").read_text()


def test_each_method_is_served_by_its_model(records: list[SessionRecord]) -> None:
    served = {(r["method"], t["served_by"]) for r in records for t in r["turns"]}
    assert served == {("original", "F"), ("original-cached", "F"), ("surrogate", "G")}


def test_only_the_method_with_the_prefix_cache_on_reuses_anything(
    records: list[SessionRecord],
) -> None:
    for record in records:
        cached = [turn["tokens"]["cached"] for turn in record["turns"]]
        memory = record["memory"]
        assert memory is not None
        if record["method"] == "original-cached":
            assert cached[0] == 0
            prompts = [turn["tokens"]["prompt"] for turn in record["turns"]]
            assert all(c >= p for c, p in zip(cached[1:], prompts, strict=False))
            assert memory["kv_kept"]
        else:
            assert cached == [0, 0, 0]
            assert memory["kv_kept"] is None


def test_a_session_is_where_its_window_says(records: list[SessionRecord]) -> None:
    assert len({r["load"]["window"] for r in records if r["load"]}) == 6
    for record in records:
        load, worker = record["load"], record["worker"]
        assert load is not None
        assert worker is not None
        assert worker["machine_class"] == worker["machine_class"].strip() != ""
        assert 0 <= load["arrived_s"] <= load["started_s"] <= load["ended_s"]
        ends = [t["at_s"] + t["timing"]["turn_s"] for t in record["turns"]]
        starts = [t["at_s"] for t in record["turns"]]
        assert load["started_s"] <= starts[0]
        assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
        assert ends[-1] <= load["ended_s"]


def test_times_are_ordered_and_add_up(records: list[SessionRecord]) -> None:
    for record in records:
        session_s = record["session_s"]
        assert session_s is not None
        for turn in record["turns"]:
            timing = turn["timing"]
            assert 0 < timing["ttft_s"] <= timing["e2e_s"] <= timing["turn_s"]
            if turn["tokens"]["output"] > 1:
                expected = (timing["e2e_s"] - timing["ttft_s"]) / (turn["tokens"]["output"] - 1)
                assert timing["tpot_s"] == pytest.approx(expected)
        assert session_s >= sum(t["timing"]["turn_s"] for t in record["turns"])
        cost = record["cost"]
        assert cost is not None
        assert cost["busy_s"] <= session_s
        assert record["overhead_s"] == pytest.approx(session_s - cost["busy_s"])


def test_history_grows_and_tokens_are_charged(records: list[SessionRecord]) -> None:
    for record in records:
        prompts = [t["tokens"]["prompt"] for t in record["turns"]]
        assert prompts == sorted(set(prompts))
        role = record["turns"][0]["served_by"]
        cost = record["cost"]
        assert cost is not None
        assert cost["tokens"][role]["prompt"] == sum(prompts)
        assert set(cost["tokens"]) == {role}
        assert cost["usd"] is not None
        assert cost["usd"] > 0


def test_memory_columns_are_separate(records: list[SessionRecord]) -> None:
    by_method = {r["method"]: r["memory"] for r in records}
    original, surrogate = by_method["original"], by_method["surrogate"]
    assert original is not None
    assert surrogate is not None
    assert set(original["weights"]) == {"F"}
    assert set(surrogate["weights"]) == {"G"}
    assert (original["weights"]["F"] or 0) > (surrogate["weights"]["G"] or 0) > 0
    for memory in (original, surrogate):
        assert memory["kv_formula"]
        assert memory["kv_measured"]
        assert memory["kv_measured"] == pytest.approx(memory["kv_formula"], rel=0.02)
        assert memory["rss"] > 100_000_000
        assert memory["adaptation_peak"] is None


def test_harness_overhead_is_within_two_percent(summary: dict[str, Any]) -> None:
    assert 0 <= summary["overhead_share"] <= 0.02


def test_manifest_freezes_the_question(smoke_run: Path) -> None:
    from harness.spec import spec_hash

    manifest = read_manifest(smoke_run)
    assert manifest["spec_hash"] == spec_hash(manifest["spec"])
    assert manifest["spec"]["history"] == "live"
    assert manifest["packages"]["torch"]
    assert manifest["hardware"]["machine_class"]
    shown = [t["user"] for r in read_sessions(smoke_run) for t in r["turns"]]
    assert manifest["warmup"]
    assert not set(manifest["warmup"]) & set(shown)


def test_scoring_and_reporting_again_changes_no_byte(
    smoke_run: Path, bench_process: Callable[..., subprocess.Popen[str]]
) -> None:
    files = [smoke_run / "scores.jsonl", smoke_run / "summary.json"]
    files += sorted((smoke_run / "tables").iterdir()) + sorted((smoke_run / "figures").iterdir())
    before = {f: f.read_bytes() for f in files}
    for command in ("score", "report"):
        process = bench_process(command, smoke_run, cwd=smoke_run.parent)
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, out + err
    assert {f.name for f in files if f.read_bytes() != before[f]} == set()


def test_show_puts_the_methods_side_by_side(
    smoke_run: Path, bench: Callable[..., Result], records: list[SessionRecord]
) -> None:
    session = records[0]["session_id"]
    result = bench("show", smoke_run, "--session", session)
    assert result.exit_code == 0
    for word in ("original", "surrogate", "TTFT"):
        assert word in result.output
    missing = bench("show", smoke_run, "--session", "nobody")
    assert missing.exit_code == 2
    assert "has no session 'nobody'" in missing.stderr


def test_report_has_every_table_and_figure(smoke_run: Path) -> None:
    tables = {p.name for p in (smoke_run / "tables").iterdir()}
    for name in ("main", "quality", "latency", "memory", "cost"):
        assert {f"{name}.csv", f"{name}.md", f"{name}.tex"} <= tables
    figures = list((smoke_run / "figures").iterdir())
    pngs = {p.stem for p in figures if p.suffix == ".png"}
    assert len(pngs) >= 6
    assert pngs == {p.stem for p in figures if p.suffix == ".pdf"}
