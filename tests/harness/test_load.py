"""Real runs under load on the embedded pair: what their records and their tables say of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from harness.arrivals import arrival_times
from harness.measure.machine import machine_class
from harness.plan import Plan, Unit, make_plan
from harness.profile import Overrides, load_spec
from harness.record import LoadRecord, SessionRecord
from harness.report.calls import is_work
from harness.report.figures import figures
from harness.report.tables import build_tables
from harness.runner import serve
from harness.serving import EngineSet
from harness.store import Store, read_sessions
from tests.report.reading import summary_of

ADAPTING = "history_ft:warm_turns=1,steps=1"
RATE = 1200.0  # a minute: sessions arrive before the one before has thought twice
THINK_S = 0.05


class Kept(EngineSet):
    """Engines that other tests use too."""

    async def close(self) -> None:
        pass


class Nobody:
    """Watches a run and says nothing."""

    def planned(self, totals: dict[str, int], finished: dict[str, int]) -> None: ...
    def warming(self) -> None: ...
    def started(self, unit: Unit) -> None: ...
    def finished(self, unit: Unit, record: SessionRecord) -> None: ...


def plan_of(*methods: str, limit: int, **overrides: Any) -> Plan:
    settings = ("warmup=false", *overrides.pop("settings", ()))
    spec, place = load_spec(
        "smoke",
        Overrides(
            methods=methods, tasks=("planning",), limit=limit, max_new_tokens=3,
            settings=settings, **overrides,
        ),
    )  # fmt: skip
    return make_plan(spec, place)


def run(
    plan: Plan, folder: Path, engines: EngineSet, *, max_errors: int = 0
) -> list[SessionRecord]:
    kept = Kept(**{f.name: getattr(engines, f.name) for f in fields(engines)})
    with Store(folder, plan.manifest()) as store:
        asyncio.run(serve(plan, store, lambda: kept, Nobody(), max_errors=max_errors))
    return list(read_sessions(folder))


def load(record: SessionRecord) -> LoadRecord:
    found = record["load"]
    assert found is not None
    return found


def by_method(records: list[SessionRecord]) -> Iterator[list[SessionRecord]]:
    for method in dict.fromkeys(r["method"] for r in records):
        yield sorted((r for r in records if r["method"] == method), key=lambda r: r["session_id"])


def most_at_once(records: list[SessionRecord]) -> int:
    steps = [(load(r)["started_s"], 1) for r in records] + [
        (load(r)["ended_s"], -1) for r in records
    ]
    there, most = 0, 0
    for _, step in sorted(steps):
        there += step
        most = max(most, there)
    return most


# Three sessions, two at a time.


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, embedded: EngineSet) -> Path:
    folder = tmp_path_factory.mktemp("concurrency") / "run"
    limits = ("objectives.e2e_s=3600.0",)
    plan = plan_of("surrogate", ADAPTING, limit=3, concurrency=2, settings=limits)
    run(plan, folder, embedded)
    return folder


@pytest.fixture(scope="module")
def records(two: Path) -> list[SessionRecord]:
    return list(read_sessions(two))


@pytest.fixture(scope="module")
def summary(two: Path) -> dict[str, Any]:
    return summary_of(two)


def test_two_sessions_are_served_at_once_and_never_three(records: list[SessionRecord]) -> None:
    groups = list(by_method(records))
    assert [len(group) for group in groups] == [3, 3]
    windows = [{load(r)["window"] for r in group} for group in groups]
    assert [len(names) for names in windows] == [1, 1]
    assert windows[0] != windows[1]
    assert [most_at_once(group) for group in groups] == [2, 2]


def test_whatever_a_session_did_lies_between_its_beginning_and_its_end(
    records: list[SessionRecord],
) -> None:
    for record in records:
        seen = load(record)
        assert 0 <= seen["arrived_s"] == seen["started_s"] < seen["ended_s"]
        reach = seen["started_s"]
        for turn in record["turns"]:
            assert turn["at_s"] >= reach
            reach = turn["at_s"] + turn["timing"]["turn_s"]
            for call in turn["calls"]:
                start = turn["at_s"] + call["start_s"]
                assert seen["started_s"] <= start
                assert start + call["queue_s"] <= start + call["duration_s"] <= seen["ended_s"]
        assert reach <= seen["ended_s"]
        assert record["worker"] == {"index": 0, "machine_class": machine_class()}


def test_the_load_table_is_of_these_records(
    records: list[SessionRecord], summary: dict[str, Any]
) -> None:
    entries = {(e["task"], e["method"]): e for e in summary["load"]}
    for group in by_method(records):
        entry = entries["planning", group[0]["method"]]
        wall = max(load(r)["ended_s"] for r in group)
        assert entry["wall_s"] == wall
        assert 1 < entry["at_once"] <= 2
        assert entry["sessions_per_min"] == pytest.approx(3 * 60 / wall)
        tokens = sum(t["tokens"]["output"] for r in group for t in r["turns"])
        assert entry["reply_tokens_per_s"] == pytest.approx(tokens / wall)
        assert entry["goodput"]["good_sessions"] == 3
        assert entry["goodput"]["turn_share"]["mean"] == 1
        assert entry["goodput"]["good_turns_per_s"] == pytest.approx(9 / wall)
    tables = {table.name: table for table in build_tables(summary)}
    assert {"load", "first_token"} <= tables.keys()
    assert "concurrency 2" in tables["load"].caption
    assert "load_timeline" in figures(summary)


def test_the_parts_of_ttft_add_up_in_every_mean(summary: dict[str, Any]) -> None:
    for entry in summary["results"]:
        mean = {name: metric["mean"] for name, metric in entry["metrics"].items()}
        parts = ("before_call_s", "queue_s", "prefill_s")
        assert sum(mean[name] for name in parts) == pytest.approx(mean["ttft_s"])
        assert all(mean[name] >= 0 for name in parts)


def test_an_adapting_session_is_found_beside_the_other(
    records: list[SessionRecord], summary: dict[str, Any]
) -> None:
    """One trains while the other is answered or waits to train; every turn counts once at most."""
    adapting = next(g for g in by_method(records) if g[0]["method"].startswith("history_ft"))
    works = [c for r in adapting for t in r["turns"] for c in t["calls"] if is_work(c)]
    assert {c["purpose"] for c in works} == {"training"}
    assert sum(c["trained"] for c in works) > 0
    assert {t["served_by"] for r in adapting for t in r["turns"]} == {"F", "G"}
    for entry in summary["adaptation_under_load"]:
        assert entry["method"] == adapting[0]["method"]
        turns = [t for r in adapting for t in r["turns"] if t["served_by"] == entry["role"]]
        ttft = entry["ttft_s"]
        assert ttft["during"]["n"] + ttft["otherwise"]["n"] + entry["own"] == len(turns)


def test_a_resumed_run_adds_a_window(
    two: Path, embedded: EngineSet, tmp_path: Path, records: list[SessionRecord]
) -> None:
    """The last session is lost and served again, alone."""
    plan = plan_of("surrogate", limit=3, concurrency=2)
    folder = tmp_path / "run"
    before = run(plan, folder, embedded)
    lines = (folder / "sessions.jsonl").read_text("utf-8").splitlines(keepends=True)
    (folder / "sessions.jsonl").write_text("".join(lines[:-1]), "utf-8")
    after = run(plan, folder, embedded)
    assert after[:2] == before[:2]
    again, first = load(after[2]), load(before[2])
    assert again["window"] != first["window"]
    (entry,) = [e for e in summary_of(folder)["load"] if e["task"] == "planning"]
    assert entry["windows"] == 2
    kept = max(load(r)["ended_s"] for r in after[:2])
    assert entry["wall_s"] == pytest.approx(kept + again["ended_s"])


BROKEN = '''"""Fails before it has asked anything."""
import asyncio
from harness.method import Method


class Broken(Method):
    async def open(self, session, engines):
        await asyncio.sleep(0.05)
        raise RuntimeError("broken on purpose")
'''


def test_a_failed_session_leaves_its_time(embedded: EngineSet, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    plan = plan_of(f"{tmp_path}/broken.py:Broken", limit=2, concurrency=2)
    records = run(plan, tmp_path / "run", embedded, max_errors=2)
    assert {r["outcome"] for r in records} == {"error"}
    for record in records:
        assert load(record)["ended_s"] - load(record)["started_s"] >= 0.99 * 0.05
        assert record["worker"] == {"index": 0, "machine_class": machine_class()}
    (entry,) = [e for e in summary_of(tmp_path / "run")["load"] if e["task"] == "planning"]
    assert entry["wall_s"] == max(load(r)["ended_s"] for r in records)
    assert entry["sessions_per_min"] == 0
    assert most_at_once(records) == 2


# Three sessions that arrive by themselves, and users that think.


@pytest.fixture(scope="module")
def arriving(tmp_path_factory: pytest.TempPathFactory, embedded: EngineSet) -> Path:
    folder = tmp_path_factory.mktemp("arrivals") / "run"
    plan = plan_of(
        "surrogate", "truncation:serve=G", limit=3, arrival_rate=RATE, think_time=THINK_S
    )
    run(plan, folder, embedded)
    return folder


def test_sessions_arrive_when_they_were_drawn_to(arriving: Path) -> None:
    spec = plan_of("surrogate", limit=3, arrival_rate=RATE).spec
    times = arrival_times(spec, "planning", 0, 3)
    assert times is not None
    records = list(read_sessions(arriving))
    for group in by_method(records):
        assert sorted(load(r)["arrived_s"] for r in group) == times
        assert all(load(r)["arrived_s"] <= load(r)["started_s"] for r in group)
        assert len({load(r)["window"] for r in group}) == 1
        # None waits for another to end: one arrives while the user of the one before thinks.
        assert min(after - before for before, after in pairwise(times)) < 2 * THINK_S
        assert most_at_once(group) >= 2


def test_users_think_between_turns_only(arriving: Path) -> None:
    for record in read_sessions(arriving):
        first, *_ = turns = record["turns"]
        for before, after in pairwise(turns):
            thought = after["at_s"] - before["at_s"] - before["timing"]["turn_s"]
            assert thought >= 0.99 * THINK_S
        assert first["at_s"] >= load(record)["started_s"]
        session_s = record["session_s"]
        assert session_s is not None
        assert session_s + 2 * 0.99 * THINK_S <= load(record)["ended_s"] - load(record)["started_s"]


def test_its_tables_name_the_rate(arriving: Path) -> None:
    summary = summary_of(arriving)
    assert summary["arrival_rate"] == RATE
    (table,) = [t for t in build_tables(summary) if t.name == "load"]
    assert "1200 arrivals/min, 0.05 s think time" in table.caption
    assert "turn_share" not in {column.key for column in table.columns}  # no objectives
    records = list(read_sessions(arriving))
    walls = {e["method"]: e["wall_s"] for e in summary["load"] if e["task"] == "planning"}
    for group in by_method(records):
        assert walls[group[0]["method"]] == max(load(r)["ended_s"] for r in group)
