"""A worker refuses what would make its results another run's, before it loads a model."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from harness.executors.ray_worker import Worker, own_code
from harness.executors.wire import Orders
from harness.profile import Overrides, load_spec

METHOD = '''"""Own."""
from harness.method import Method


class Own(Method):
    """Own."""

    async def open(self, session, engines):
        raise RuntimeError
'''


@pytest.fixture
def orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Of a run started in an empty folder that holds `own.py`."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(METHOD)
    spec, _ = load_spec("smoke", Overrides(methods=("own.py:Own",)))
    missing = spec.pair.F.model_copy(update={"id": str(tmp_path / "nowhere")})
    return {
        "spec": spec.model_copy(update={"pair": spec.pair.model_copy(update={"F": missing})}),
        "index": 1,
        "cores": 1,
        "warm_turns": {},
        "offline": False,
        "folder": str(tmp_path),
        "sources": {"own.py:Own": hashlib.sha256(METHOD.encode()).hexdigest()},
        "code": own_code(),
        "scratch": str(tmp_path),
    }


def told(orders: dict[str, Any]) -> str:
    facts = asyncio.run(Worker(Orders(**orders).model_dump_json()).load())
    assert set(facts) == {"place", "problem"}
    return f"{facts['place']}: {facts['problem']}"


def test_engines_that_cannot_be_loaded_are_the_users_to_mend(
    orders: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found from another folder: the worker goes where the run was started."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert told(orders) == f"{tmp_path}/nowhere: holds no model (no config.json); " + (
        "give a model's folder"
    )
    assert Path.cwd() == tmp_path


def test_a_file_of_the_users_that_is_not_there(orders: dict[str, Any]) -> None:
    Path("own.py").unlink()
    assert "must lie at the same path on every machine" in told(orders)


def test_a_file_of_the_users_where_the_folder_is_not_there(orders: dict[str, Any]) -> None:
    assert "has no /nowhere/own.py" in told({**orders, "folder": "/nowhere"})


def test_a_file_of_the_users_that_differs(orders: dict[str, Any]) -> None:
    Path("own.py").write_text(METHOD + "\n")
    assert "has another" in told(orders)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("harness_version", "0.0", "harness_version: "),
        ("code_version", "abc", "code_version: "),
        ("packages", {"torch": "1.0"}, "packages.torch: "),
    ],
)
def test_other_code_than_the_run_itself_runs(
    orders: dict[str, Any], field: str, value: Any, said: str
) -> None:
    code = own_code().model_copy(update={field: value})
    line = told({**orders, "code": code})
    assert said in line
    assert "install the same on every machine" in line
