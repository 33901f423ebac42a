"""Killed at random moments and resumed, a run ends as if nothing had happened."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Start = Callable[..., "subprocess.Popen[str]"]

WORDS = (
    *("run", "smoke", "-m", "original,surrogate", "--offline", "--max-new-tokens", "4"),
    *("--set", "warmup=false"),
)


def quality_tables(run: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((run / "tables").glob("quality*"))}


def finish(start: Start, folder: Path) -> str:
    process = start(*WORDS, "--out", "run", cwd=folder)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    return err


@pytest.mark.slow
@pytest.mark.parametrize("half", [1, 2])
def test_kill_9_at_twenty_random_moments(half: int, tmp_path: Path, bench_process: Start) -> None:
    """Ten in each half, so that two processes can share them."""
    whole = tmp_path / "whole"
    whole.mkdir()
    begin = time.monotonic()
    finish(bench_process, whole)
    duration = time.monotonic() - begin
    expected = quality_tables(whole / "run")
    assert expected

    moments = random.Random(half)
    folder = tmp_path / "killed"
    folder.mkdir()
    for _ in range(10):
        process = bench_process(*WORDS, "--out", "run", cwd=folder)
        time.sleep(moments.uniform(0.2, duration))
        process.kill()
        process.communicate()
    finish(bench_process, folder)
    run = folder / "run"
    assert quality_tables(run) == expected
    keys = [
        (r["method"], r["task"], r["session_id"], r["seed"])
        for r in map(json.loads, (run / "sessions.jsonl").open(encoding="utf-8"))
    ]
    assert len(keys) == len(set(keys)) == 4


def test_a_finished_run_resumes_at_once_and_says_so(smoke_run: Path, bench_process: Start) -> None:
    before = {p: p.stat().st_mtime_ns for p in smoke_run.rglob("*") if p.is_file()}
    process = bench_process("run", "smoke", "--offline", "--out", "run", cwd=smoke_run.parent)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "all 6 sessions were finished before" in err
    assert "up to date" in err
    assert "original" in out
    after = {p: p.stat().st_mtime_ns for p in smoke_run.rglob("*") if p.is_file()}
    assert {p.name for p in before} == {p.name for p in after}
    changed = {p.name for p in before if p.name != ".lock" and before[p] != after[p]}
    assert changed == set()


ADAPTING = (
    *("run", "smoke", "--offline", "--max-new-tokens", "8", "--set", "warmup=false", "-t", "maths"),
    *("-m", "original,soma:warm_turns=2,iterations=1,steps=8,gate=false,keep_adapter=true"),
)


def test_kill_9_during_adaptation_leaves_nothing_behind(
    tmp_path: Path, bench_process: Start
) -> None:
    """Killed when its adapter is on disk and the turn that waited for it is not served yet, and
    then at random moments, the session is served from its start."""
    run = tmp_path / "run"
    process = bench_process(*ADAPTING, "--out", "run", cwd=tmp_path)
    while not list(run.glob("adapters/*/*/adapter_config.json")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    (left,) = (run / "adapters").iterdir()
    lines = (run / "sessions.jsonl").read_text("utf-8").splitlines()
    assert not any('"method": "soma' in line for line in lines)

    moments = random.Random(3)
    for _ in range(2):
        process = bench_process(*ADAPTING, "--out", "run", cwd=tmp_path)
        time.sleep(moments.uniform(6, 20))
        process.kill()
        process.communicate()
    process = bench_process(*ADAPTING, "--out", "run", cwd=tmp_path)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert not (run / "work").exists()
    (kept,) = (run / "adapters").iterdir()
    assert kept.name == left.name
    assert {p.name for p in kept.iterdir()} == {"unit.json", "adapter-1"}
    records = [json.loads(line) for line in (run / "sessions.jsonl").open(encoding="utf-8")]
    assert len(records) == 2
    (adapted,) = [r for r in records if r["method"].startswith("soma")]
    kinds = [e["kind"] for t in adapted["turns"] for e in t["events"]]
    assert kinds.count("mined") == kinds.count("adapted") == 1
    assert "".join(t["served_by"] for t in adapted["turns"]) == "FFG"
