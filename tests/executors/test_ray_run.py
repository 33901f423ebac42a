"""Runs on a local Ray cluster of two workers, with real models: what they serve, and what is left
when a worker or the run itself is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

from harness.report.tables import QUALITY_TABLES

T = TypeVar("T")
Start = Callable[..., "subprocess.Popen[str]"]

ON_RAY = ("--offline", "--executor", "ray", "--out", "run")

METHOD = '''"""Fails on one session, keeps a file of each of the others, and takes its time."""
import asyncio

from harness.method import Method, Reply


class Own(Method):
    """Own."""

    async def open(self, session, engines):
        return Conversation(session, engines)


class Conversation:
    def __init__(self, session, engines):
        self.session, self.engines = session, engines

    async def reply(self, text):
        if self.session.id == "planning-move":
            raise RuntimeError("broken on purpose")
        await asyncio.sleep(1)
        prompt = [{"role": "user", "content": text}]
        return Reply(await self.engines.G.generate(prompt, max_new_tokens=2))

    async def close(self):
        folder = self.engines.folder("own", keep=True)
        (folder / "name.txt").write_text(self.session.id)
'''


def records(run: Path) -> list[dict[str, Any]]:
    path = run / "sessions.jsonl"
    lines = path.read_text("utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def keys(run: Path) -> list[tuple[Any, ...]]:
    return [(r["method"], r["task"], r["session_id"], r["seed"]) for r in records(run)]


def tables(run: Path) -> dict[str, bytes]:
    files = [p for name in QUALITY_TABLES for p in (run / "tables").glob(f"{name}.*")]
    return {p.name: p.read_bytes() for p in files}


def wait_for(process: subprocess.Popen[str], find: Callable[[], T]) -> T:
    """What `find` finds, once it finds something; `process` must not have ended before."""
    while not (found := find()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return found


def serving(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The workers that are serving a session right now, as Ray names their processes."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if child.cmdline()[:1] == ["ray::Worker.serve"]:
                found.append(child)
        except psutil.Error:
            continue  # it ended meanwhile
    return found


def test_a_killed_worker_loses_nothing_and_the_tables_are_those_of_a_plain_run(
    tmp_path: Path, smoke_run: Path, bench_process: Start
) -> None:
    words = ("run", "smoke", "--workers", "2", "--set", "warmup=false")
    process = bench_process(*words, *ON_RAY, cwd=tmp_path)
    run = tmp_path / "run"
    wait_for(process, lambda: records(run))
    os.kill(wait_for(process, lambda: serving(process))[0].pid, signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert len(re.findall(r"^worker \d was lost with [01] sessions in flight: ", err, re.M)) == 1
    assert "raylet" not in out + err

    assert sorted(keys(run)) == sorted(keys(smoke_run))
    assert tables(run) == tables(smoke_run)
    assert len(tables(run)) == 3 * len(QUALITY_TABLES)
    assert {r["worker"]["index"] for r in records(run)} <= {0, 1}
    assert len({r["worker"]["machine_class"] for r in records(run)}) == 1
    methods = {(r["load"]["window"], r["method"]) for r in records(run)}
    assert len(methods) == len({window for window, _ in methods})


def test_a_run_interrupted_on_ray_is_resumed_without_it(
    tmp_path: Path, bench_process: Start
) -> None:
    (tmp_path / "own.py").write_text(METHOD)
    words = ("run", "smoke", "-m", "own.py:Own", "--limit", "2", "--set", "warmup=false")
    process = bench_process(*words, "--workers", "2", *ON_RAY, cwd=tmp_path)
    run = tmp_path / "run"
    wait_for(process, lambda: {r["outcome"] for r in records(run)} == {"error", "scored"})
    daemons = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "the same command resumes run" in err
    assert psutil.wait_procs(daemons, timeout=10)[1] == []
    before = records(run)
    assert len(before) < 4

    process = bench_process(*words, "--offline", "--out", "run", cwd=tmp_path)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, out + err
    assert records(run)[: len(before)] == before
    assert len(keys(run)) == len(set(keys(run))) == 4
    outcomes = {r["session_id"]: r["outcome"] for r in records(run)}
    assert outcomes.pop("planning-move") == "error"
    assert set(outcomes.values()) == {"scored"}
    (trace,) = (run / "errors").iterdir()
    assert "own.py" in trace.read_text()
    kept = {p.read_text() for p in (run / "adapters").glob("*/own/name.txt")}
    assert kept == set(outcomes)
    owners = [json.loads(p.read_text()) for p in (run / "adapters").glob("*/unit.json")]
    assert {owner["session_id"] for owner in owners} == set(outcomes)


def test_engines_that_no_worker_can_load_end_the_run_with_one_line(
    tmp_path: Path, bench_process: Start
) -> None:
    model = 'id = "./nowhere"'
    (tmp_path / "pair.toml").write_text(
        f'[F]\n{model}\n[G]\n{model}\n[encoder]\nid = "embedded:encoder"\n'
    )
    words = ("run", "smoke", "--set", "pair=./pair.toml", *ON_RAY)
    process = bench_process(*words, cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2, out + err
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith(f"error: {tmp_path}/nowhere: holds no model")
    assert "Traceback" not in err
    assert not records(tmp_path / "run")
