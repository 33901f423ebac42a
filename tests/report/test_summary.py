"""`summary.json` of the synthetic run against numbers worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.report.summary import summarize
from tests.report.reading import result
from tests.report.synthetic import MIB, build_run, read_records, score, write_sessions


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_run(tmp_path_factory.mktemp("summary") / "run")
    score(folder)
    summarize(folder)
    return folder


@pytest.fixture(scope="module")
def summary(run: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in summary.json")

    found: dict[str, Any] = json.loads(
        (run / "summary.json").read_text("utf-8"), parse_constant=refuse
    )
    return found


def test_head(summary: dict[str, Any]) -> None:
    assert summary["sessions"] == {
        "scored": 15, "unscored": 0, "error": 2, "skipped": 1, "missing": 0,
    }  # fmt: skip
    assert summary["overhead_share"] == pytest.approx(0.01)
    assert summary["reference"] == "big"
    assert summary["spec_hash"] == "5e" * 32
    assert [(r["task"], r["method"]) for r in summary["results"]] == [
        (task, method) for task in ("chat", "arith", "all") for method in ("big", "small", "brief")
    ]


@pytest.mark.parametrize(
    "task, method, name, mean, n",
    [
        ("chat", "big", "similarity", 1.0, 12),
        ("chat", "brief", "rouge_l", 1.0, 12),
        ("chat", "small", "repetition", 0.05, 8),
        ("arith", "small", "exact_match", 2 / 3, 9),
        ("all", "small", "exact_match", 2 / 3, 9),
        ("chat", "big", "ttft_s", 0.45, 12),
        ("chat", "big", "e2e_s", 0.65, 12),
        ("chat", "small", "tpot_s", 0.01, 8),
        ("chat", "big", "turn_s", 0.66, 12),
        ("chat", "big", "session_s", 2.64 / 0.99, 3),
        ("chat", "big", "busy_s", 2.64, 3),
        ("chat", "big", "usd", 2.64 / 3600, 3),
        ("chat", "big", "prompt_tokens", 250, 12),
        ("chat", "big", "cached_tokens", 0, 12),
        ("chat", "big", "before_call_s", 0.01, 12),
        ("chat", "big", "call_ttft_s", 0.44, 12),
        ("chat", "big", "queue_s", 0.02, 12),
        ("chat", "big", "prefill_s", 0.42, 12),
        ("chat", "small", "prefill_s", 0.185, 8),  # half of 0.1 (2.5 + 1.5) less half of 0.03
        ("chat", "big", "retries", 0, 3),
        ("chat", "brief", "prompt_tokens", 175, 12),
        ("chat", "brief", "output_tokens", 11, 12),
        ("chat", "big", "f_tokens", 1044, 3),
        ("chat", "big", "g_tokens", 0, 3),
        ("chat", "small", "g_tokens", 1044, 2),
        ("chat", "small", "f_share", 0, 8),
        ("chat", "small", "weights_bytes", 120 * MIB, 2),
        ("chat", "big", "kv_formula_bytes", 400 * 1024, 3),
        ("chat", "big", "kv_measured_bytes", 400 * 1024 + 4096, 3),
    ],
)
def test_means(
    summary: dict[str, Any], task: str, method: str, name: str, mean: float, n: int
) -> None:
    metric = result(summary, task, method)["metrics"][name]
    assert metric["mean"] == pytest.approx(mean)
    assert metric["n"] == n


def test_unknown_is_null_and_not_zero(summary: dict[str, Any]) -> None:
    for name in ("usd_tokens", "cuda_peak_bytes", "adapters_bytes"):
        metric = result(summary, "chat", "big")["metrics"][name]
        assert metric["mean"] is None
        assert metric["n"] == 0
        assert metric["outcomes"]["unscored"] == 3


def test_outcome_counts(summary: dict[str, Any]) -> None:
    arith = result(summary, "arith", "small")["metrics"]
    assert arith["similarity"]["outcomes"] == {
        "scored": 8, "unscored": 4, "error": 0, "skipped": 0,
    }  # fmt: skip
    assert arith["exact_match"]["outcomes"]["unscored"] == 3
    assert result(summary, "arith", "brief")["metrics"]["ttft_s"]["outcomes"]["skipped"] == 1
    assert result(summary, "arith", "big")["sessions"]["error"] == 1
    assert "exact_match" not in result(summary, "chat", "big")["metrics"]


def test_differences_are_paired(summary: dict[str, Any]) -> None:
    difference = result(summary, "chat", "small")["difference"]
    # Sessions c1 and c2 only: 0.1 (2.5 + 1.5) = 0.4 s against half of it.
    assert difference["ttft_s"]["mean"] == pytest.approx(-0.2)
    assert difference["ttft_s"]["n"] == 8
    assert difference["ttft_s"]["dropped_sessions"] == 1
    assert difference["ttft_s"]["relative"]["mean"] == pytest.approx(-0.5)
    assert difference["ttft_s"]["low"] == pytest.approx(-0.225)
    assert difference["ttft_s"]["high"] == pytest.approx(-0.175)
    assert difference["session_s"]["relative"]["low"] == pytest.approx(-0.5)
    assert difference["usd"]["relative"]["mean"] == pytest.approx(-0.5)
    assert result(summary, "chat", "big")["difference"] is None


def test_percentiles_and_failures(summary: dict[str, Any]) -> None:
    chat = result(summary, "chat", "small")["metrics"]["e2e_s"]
    assert chat["p50"] is None
    overall = result(summary, "all", "small")["metrics"]["e2e_s"]
    # 20 turns: for sessions 1, 1, 2, 2, 3 half of 0.1 (index + session) + 0.2 s.
    served = sorted(0.5 * (0.1 * (i + s) + 0.2) for s in (1, 1, 2, 2, 3) for i in (1, 2, 3, 4))
    assert overall["n"] == 20
    assert overall["p50"] == pytest.approx(served[9])
    assert overall["p90"] == pytest.approx(served[17])
    assert overall["p95"] is None
    assert (overall["adj_n"], overall["adj_failures"]) == (24, 4)
    assert overall["adj_p50"] == pytest.approx(served[11])
    assert overall["adj_p90"] is None


def test_unequal_session_sets_are_refused(run: Path, tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run")
    records = read_records(folder)
    gone = ("small", "chat", "c1")
    kept = [r for r in records if (r["method"], r["task"], r["session_id"]) != gone]
    write_sessions(folder, kept)
    (folder / "scores.jsonl").write_bytes((run / "scores.jsonl").read_bytes())
    summary = summarize(folder)
    assert summary["sessions"]["missing"] == 1
    difference = result(summary, "chat", "small")["difference"]["e2e_s"]
    assert difference["mean"] is None
    assert "reference has chat/c1 (seed 0)" in difference["refused"]
    assert result(summary, "arith", "small")["difference"]["e2e_s"]["refused"] is None


def test_a_run_without_scores_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="score the run first"):
        summarize(build_run(tmp_path / "run"))
