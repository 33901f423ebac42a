"""Workers that die, over and over: on real Ray processes, which hold no models here and so start
fast. What they die of is in the sessions that they are sent."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.errors import BenchError, TooManyErrors
from harness.executors import ray_executor
from harness.executors.ledger import Tally
from harness.plan import Plan, Unit, make_plan
from harness.profile import Overrides, load_spec
from harness.record import SessionRecord
from harness.serving import unserved
from harness.session import Session
from harness.store import Store, UnitKey, read_sessions

POISON = "planning-move"
"""Its worker dies of it every time."""


class Silent:
    """A watcher that only counts."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()

    def planned(self, totals: dict[str, int], finished: dict[str, int]) -> None: ...

    def warming(self) -> None: ...

    def started(self, unit: Unit) -> None:
        self.begun[unit.key.session_id] += 1

    def finished(self, unit: Unit, record: SessionRecord) -> None: ...


def worker_that(dies_loading: bool) -> type:
    """A worker that has served every session at once; Ray carries its code to where it runs."""
    session = Session(POISON, "planning", ("hello",))
    record = unserved(UnitKey("", "", "", 0), session, "scored", None)

    class Worker:
        def __init__(self, orders: str) -> None:
            self.index = json.loads(orders)["index"]

        async def load(self) -> dict[str, str]:
            if dies_loading:
                os._exit(1)
            return {"machine_class": f"class-{self.index}"}

        async def warm_up(self) -> None: ...

        async def begin(self) -> None: ...

        async def serve(self, job: str) -> tuple[str, str | None, dict[str, bytes]]:
            key = dict(
                zip(("method", "task", "session_id", "seed"), json.loads(job)["key"], strict=True)
            )
            await asyncio.sleep(0.2)
            if key["session_id"] == POISON:
                os._exit(1)
            return json.dumps({**record, **key}), None, {"who": str(self.index).encode()}

        async def close(self) -> None: ...

    return Worker


@pytest.fixture
def plan() -> Plan:
    chosen: dict[str, Any] = {"methods": ("original", "surrogate"), "tasks": ("planning",)}
    return make_plan(*load_spec("smoke", Overrides(limit=4, concurrency=2, **chosen)))


def serve(plan: Plan, run: Path, said: list[str], watcher: Silent, max_errors: int = 10) -> Tally:
    async def main(store: Store) -> Tally:
        return await ray_executor.serve_on_ray(
            plan,
            store,
            watcher,
            max_errors=max_errors,
            workers=2,
            offline=True,
            say=said.append,
        )

    with Store(run, plan.manifest()) as store:
        return asyncio.run(main(store))


def test_what_kills_its_worker_thrice_fails_and_all_else_is_served_once(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "Worker", worker_that(False))
    said: list[str] = []
    watcher = Silent()
    tally = serve(plan, tmp_path / "run", said, watcher)
    found = list(read_sessions(tmp_path / "run"))
    keys = [(r["method"], r["session_id"]) for r in found]
    assert len(keys) == len(set(keys)) == 8
    failed = [r for r in found if r["outcome"] == "error"]
    assert [r["session_id"] for r in failed] == [POISON, POISON]
    for record in failed:
        reason = str(record["reason"])
        assert reason.startswith("its worker was lost 3 times; the last time: The actor died")
    assert watcher.begun[POISON] == 6
    assert len(said) == 6
    assert all("was lost with" in line for line in said)
    assert (tally.served, tally.errors) == (6, 2)
    assert set(tally.machines) <= {"class-0", "class-1"}
    assert len(list((tmp_path / "run" / "adapters").glob("*/who"))) == 6


def test_too_many_failures_end_the_run(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "Worker", worker_that(False))
    with pytest.raises(TooManyErrors, match="--max-errors allows 0; the last: its worker was lost"):
        serve(plan, tmp_path / "run", [], Silent(), max_errors=0)
    assert sum(r["outcome"] == "error" for r in read_sessions(tmp_path / "run")) == 1


def test_a_worker_that_never_gets_to_serve_ends_the_run(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "Worker", worker_that(True))
    said: list[str] = []
    lost = r"worker \d was lost 3 times in a row before it could serve a session: The actor died"
    with pytest.raises(BenchError, match=lost):
        serve(plan, tmp_path / "run", said, Silent())
    assert 3 <= len(said) <= 6
    assert list(read_sessions(tmp_path / "run")) == []
