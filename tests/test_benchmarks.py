"""The benchmarks run, and what they are bound to hold does; no seconds are asserted."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
