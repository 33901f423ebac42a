"""The streaming benchmark on small files: everything planted is found, and little is held."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
MB = 2**20
SIZE = 24


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    """The JSON of the benchmark's last line."""
    command = [sys.executable, str(ROOT / "benchmarks" / "streaming.py"), f"--megabytes={SIZE}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("order", ["mostly_adjacent", "far_apart"])
def test_all_that_was_planted_is_found(result: dict[str, Any], order: str) -> None:
    found, planted = result[order], result[order]["planted"]
    assert {key: found[key] for key in ("sessions", "turns", "drops")} == {
        key: planted[key] for key in ("sessions", "turns", "drops")
    }
    assert planted["records"] > planted["sessions"] > planted["split"] > 100
    assert set(planted["drops"]) == {
        "duplicate_part",
        "duplicate_session",
        "empty_message",
        "missing_part",
    }


def test_the_order_of_parts_changes_no_content(result: dict[str, Any]) -> None:
    near, far = result["mostly_adjacent"], result["far_apart"]
    assert near["planted"] == far["planted"]


@pytest.mark.parametrize(("order", "share"), [("mostly_adjacent", 0.5), ("far_apart", 1.5)])
def test_the_file_is_not_held_in_memory(result: dict[str, Any], order: str, share: float) -> None:
    """Loaded whole, the file takes twice its size and more. Of parts that are far apart, some MB
    wait before any are compressed."""
    found = result[order]
    assert found["peak_rss_bytes"] < 400 * MB
    assert found["peak_rss_bytes"] - found["imports_rss_bytes"] < share * SIZE * MB


def test_the_committed_run_of_a_gigabyte() -> None:
    path = ROOT / "results" / "cpu-2core" / "benchmarks" / "streaming.json"
    run = json.loads(path.read_text("utf-8"))
    assert run["megabytes"] == 1024
    for order in ("mostly_adjacent", "far_apart"):
        assert run[order]["peak_rss_bytes"] < 1536 * MB
        assert run[order]["megabytes_per_second"] >= 20
        assert run[order]["turns"] == run[order]["planted"]["turns"]
