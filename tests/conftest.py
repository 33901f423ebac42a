"""Shared by all tests: the command line in this process and as a process of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

if TYPE_CHECKING:
    from harness.serving import EngineSet

ROOT = Path(__file__).parents[1]

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Two processes of two OpenMP threads each wait for each other most of the time on two cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

NO_NETWORK = """
import socket

def refuse(*args, **kwargs):
    with open({log!r}, "a") as file:
        file.write(repr(args[-1]) + "\\n")
    raise OSError("no network in this test")

socket.socket.connect = socket.socket.connect_ex = refuse
socket.create_connection = socket.getaddrinfo = refuse
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: at the end they would leave the other process idle."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the project."""
    return ROOT


@pytest.fixture(scope="session")
def real_sample() -> Callable[[str], Path]:
    """A file or folder of the real samples by its path there; skips where they are not."""

    def find(name: str) -> Path:
        path = ROOT.parent / "shared" / "data" / "real_samples" / name
        if not path.exists():
            pytest.skip(f"the real sample {name} is not here")
        return path

    return find


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

    def start(
        *words: object, cwd: Path, env: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "run_bench.py"), *map(str, words)],
            cwd=cwd,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def smoke_run(
    tmp_path_factory: pytest.TempPathFactory, bench_process: Callable[..., subprocess.Popen[str]]
) -> Path:
    """A finished run of the smoke profile on the embedded pair, shared by tests that only read.

    It runs without `--offline` and without any switch in its environment, but where no socket
    can reach anything: whatever it tried to reach is listed in the file `network`.
    """
    folder = tmp_path_factory.mktemp("smoke")
    guard = tmp_path_factory.mktemp("guard")
    (guard / "sitecustomize.py").write_text(NO_NETWORK.format(log=str(folder / "network")))
    env = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "PYTHONPATH")}
    process = bench_process(
        "run", "smoke", "--out", "run", cwd=folder, env={**env, "PYTHONPATH": str(guard)}
    )
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, out + err
    return folder / "run"


@pytest.fixture(scope="session")
def embedded() -> Iterator[EngineSet]:
    """F, G and encoder of the embedded pair, in float32, loaded once."""
    from harness.engines.load import load_encoder, load_engine
    from harness.engines.pairs import load_pair
    from harness.serving import EngineSet

    pair = load_pair("embedded")
    f, g = (m.model_copy(update={"dtype": "float32"}) for m in (pair.F, pair.G))
    engines = EngineSet(
        pair,
        load_engine(f, "F", offline=True, batch_size=8),
        load_engine(g, "G", offline=True, batch_size=8),
        load_encoder(pair.encoder, offline=True),
    )
    yield engines
    asyncio.run(engines.close())
