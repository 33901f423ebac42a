"""Adding a dataset is one file: the page's example in a user's folder, looked at and run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

ROOT = Path(__file__).parents[2]
POEM = {"name": "pond", "lines": [["Begin.", "An old silent pond"], ["And?", "A frog jumps in"]]}
EMPTY = {"name": "blank", "lines": [["", "Nobody asked"]]}


@pytest.fixture
def haiku(bench: Callable[..., Result]) -> str:
    """The dataset of docs/tasks.md beside its data; returns its name on the command line."""
    page = (ROOT / "docs" / "tasks.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    Path("my_tasks.py").write_text(block)
    lines = "".join(json.dumps(record) + "\n" for record in (POEM, EMPTY))
    Path("poems.jsonl").write_text(lines)
    return "my_tasks.py:Haiku"


def test_it_is_looked_at(haiku: str, bench: Callable[..., Result]) -> None:
    result = bench("tasks", "stats", haiku, "--path", "poems.jsonl", "--json")
    assert result.exit_code == 0, result.output
    stats = json.loads(result.stdout)
    assert (stats["sessions"], stats["user_turns"]) == (1, 2)
    assert stats["dropped"] == {"no_user_turn": 1}


def test_it_is_run(haiku: str, bench: Callable[..., Result]) -> None:
    task = f"{haiku}:path=poems.jsonl,longest=1"
    fast = ("--set", "warmup=false", "--offline", "--max-new-tokens", "2", "--out", "run")
    result = bench("run", "smoke", "-m", "surrogate", "-t", task, *fast)
    assert result.exit_code == 0, result.output
    manifest = json.loads(Path("run/manifest.json").read_text("utf-8"))
    assert manifest["sessions"] == {haiku: ["pond"]}
    assert manifest["dropped"] == {haiku: {"no_user_turn": 1}}
    assert set(manifest["data"][haiku]) == {"poems.jsonl"}
    assert set(manifest["sources"]) == {haiku}
    stats = bench("tasks", "stats", haiku, "--path", "poems.jsonl", "--arg", "longest=1", "--json")
    assert json.loads(stats.stdout)["sha256"] == manifest["task_hashes"][haiku]
    (dropped,) = Path("run/dropped.jsonl").read_text("utf-8").splitlines()
    assert json.loads(dropped)["place"] == "poems.jsonl:2"


def test_its_data_missing_is_one_line(haiku: str, bench: Callable[..., Result]) -> None:
    result = bench("run", "smoke", "-m", "surrogate", "-t", haiku, "--out", "run")
    assert result.exit_code == 2
    assert (
        result.stderr == "error: my_tasks.py:Haiku: path: the data are not here; give path=FILE\n"
    )
    assert not Path("run").exists()
