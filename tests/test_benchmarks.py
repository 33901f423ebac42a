"""The benchmarks run, and what they are bound to hold does; no seconds are asserted."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.context.settings import ContextSettings

ROOT = Path(__file__).parents[1]
GIB = 2**30


def run(name: str, *words: str) -> dict[str, Any]:
    """The JSON of a benchmark's last line."""
    script = str(ROOT / "benchmarks" / name)
    done = subprocess.run(
        [sys.executable, script, *words], capture_output=True, text=True, timeout=550
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_both_ways_to_adapt_end_at_the_same_losses() -> None:
    result = run("adaptation.py", "--turns=2", "--reply-tokens=8", "--iterations=1", "--steps=2")
    plain, ours = result["mining_losses"]
    assert result["mining_start"] not in (plain, ours)
    assert ours == pytest.approx(plain, abs=0.01)  # ours may be in bfloat16
    plain, ours = result["lora_losses"]
    assert ours == pytest.approx(plain, rel=0.02)
    assert result["lora_start"] not in (plain, ours)


@pytest.mark.slow
def test_a_long_warm_start_fits_in_six_gigabytes() -> None:
    """Twelve turns of 1,024 tokens: what bounds memory is the micro-batch, not the turns."""
    result = run("memory.py", "--candidates=1")
    assert (result["turns"], result["tokens"]) == (12, 1024)
    assert result["process_peak_bytes"] < 6 * GIB
    assert result["mining_bytes"] > 0 < result["training_bytes"]


@pytest.mark.slow
def test_adaptation_helps_on_later_turns() -> None:
    """F's replies to turns that the adapter has not seen are likelier under it.

    Four sessions, to be quick: no interval is asked of so few. The next test holds the full run to
    its interval.
    """
    result = run(
        "later_turns.py",
        "--tasks=maths",
        "--sessions=4",
        "--iterations=1",
        "--candidates=1",
        "--length=4",
        "--steps=8",
        "--rate=1e-3",
        "--max-turns=5",
        "--reply-tokens=24",
        "--only=unadapted,soma",
    )
    difference = result["differences"]["soma - unadapted"]
    assert difference["n"] == 8
    assert difference["mean"] < 0


def test_the_page_tells_what_later_turns_came_to() -> None:
    """In the committed run adaptation helps beyond chance, and the page has its figures."""
    path = ROOT / "results" / "cpu-2core" / "benchmarks" / "later_turns.json"
    result = json.loads(path.read_text("utf-8"))
    assert result["settings"]["sessions"] >= 12
    assert result["differences"]["soma - unadapted"]["high"] < 0
    page = (ROOT / "docs" / "soma.md").read_text("utf-8")
    for estimate in result["nll"].values():
        assert f"| {estimate['mean']:.3f} |" in page
    for difference in result["differences"].values():
        mean, low, high = (f"{difference[part]:+.3f}" for part in ("mean", "low", "high"))
        assert rf"{mean} \[{low}, {high}\]" in page


def test_every_command_of_the_page_names_a_benchmark_here() -> None:
    page = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
    named = set(re.findall(r"^python benchmarks/(\w+\.py)$", page, flags=re.M))
    programs = {p.name for p in (ROOT / "benchmarks").glob("*.py")}
    assert named == programs - {"straightforward.py"}


@pytest.mark.slow
def test_the_context_filter_tells_own_histories_from_others(
    real_sample: Callable[[str], Path],
) -> None:
    """Two dialogues of each type, to be quick; the next test holds the full run to the bar."""
    sample = real_sample("extra_mtbench101/mtbench101.head.jsonl")
    result = run("context.py", f"--path={sample}", "--per-type=2")
    assert result["dialogues"] == 26
    assert result["auc"]["share"]["auc"] >= 0.92


def test_the_page_tells_what_the_context_filter_came_to() -> None:
    """In the committed run the AUC reaches 0.92 beyond chance, and the page has its figures."""
    path = ROOT / "results" / "cpu-2core" / "benchmarks" / "context.json"
    result = json.loads(path.read_text("utf-8"))
    assert result["dialogues"] == 234
    assert result["auc"]["share"]["low"] >= 0.92
    defaults = ContextSettings().model_dump(mode="json", exclude={"panel"})
    assert result["limits"] == defaults
    page = (ROOT / "docs" / "context-filter.md").read_text("utf-8")
    for found in result["auc"].values():
        assert rf"{found['auc']:.3f} \[{found['low']:.3f}, {found['high']:.3f}\]" in page
    for share in result["reach_threshold"].values():
        assert f"{100 * share:.0f} %" in page
