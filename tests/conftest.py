"""Shared by all tests: the command line in this process and as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

ROOT = Path(__file__).parents[1]

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the project."""
    return ROOT


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Calls the command line in this process, inside an empty folder."""
    from run_bench import cli

    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> Result:
        return CliRunner().invoke(cli, [str(w) for w in words])

    return call


@pytest.fixture(scope="session")
def bench_process() -> Callable[..., subprocess.Popen[str]]:
    """Starts the command line as a process of its own, as a user would."""

    def start(*words: object, cwd: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "run_bench.py"), *map(str, words)],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def smoke_run(
    tmp_path_factory: pytest.TempPathFactory, bench_process: Callable[..., subprocess.Popen[str]]
) -> Path:
    """A finished run of the smoke profile on the embedded pair, shared by tests that only read."""
    folder = tmp_path_factory.mktemp("smoke")
    process = bench_process("run", "smoke", "--offline", "--out", "run", cwd=folder)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, out + err
    return folder / "run"
