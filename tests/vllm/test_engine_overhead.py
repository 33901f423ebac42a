"""The benchmark of what the harness costs on top of vLLM, at a small size."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.engine_overhead import Size, measure

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "results" / "cpu-2core" / "benchmarks" / "engine_overhead.json"
SMALL = Size(sessions=1, turns=2, tokens=8, concurrency=4, rounds=1)


def test_both_serve_the_same_and_the_ratio_is_of_their_speeds(
    engine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    result = asyncio.run(measure(engine, SMALL))
    assert "warm-up: " in capsys.readouterr().out
    assert result["requests"] == 8
    assert 8 <= result["output_tokens"] <= 8 * SMALL.tokens
    ours, bare = result["ours_tokens_per_second"], result["bare_tokens_per_second"]
    assert result["ratio"] == pytest.approx(ours / bare)
    assert len(result["ratio_by_round"]) == SMALL.rounds
    assert json.loads(json.dumps(result)) == result


def test_in_the_committed_run_the_harness_costs_at_most_a_twentieth() -> None:
    result = json.loads(COMMITTED.read_text("utf-8"))
    assert result["size"]["concurrency"] == 8
    assert result["requests"] >= 100
    assert result["ratio"] >= 0.95
