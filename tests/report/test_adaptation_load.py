"""Replies beside another session's work on weights: which are which, and what they took."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

import pytest

from harness.record import Manifest, SessionRecord
from harness.report.adaptation_load import Span, Works, adaptation_under_load, when
from harness.report.read import RunData
from harness.report.tables import build_tables
from tests.report.reading import edit, rows_of, summary_of
from tests.report.synthetic import SHIFT, build_run


def call(purpose: str, role: str, start: float, length: float, **more: Any) -> dict[str, Any]:
    """A call of a turn, from `start` in it on; what is no reply is work unless `more` says not."""
    request = purpose == "reply"
    return {
        "role": role, "purpose": purpose, "start_s": start, "duration_s": length, "queue_s": 0.0,
        "prompt_hash": "0" * 16 if request else None,
        "stop_reason": "length" if request else None,
        "trained": 0, "failures": [],
    } | more  # fmt: skip


def turn(
    index: int, at: float, *calls: dict[str, Any], ttft: float, tpot: float | None = 0.02
) -> dict[str, Any]:
    """A turn that arrives `at` seconds after its window began; `ttft` since then."""
    reply = next(c for c in calls if c["purpose"] == "reply")
    return {
        "turn_index": index, "at_s": at, "served_by": reply["role"], "calls": list(calls),
        "timing": {"ttft_s": ttft, "tpot_s": tpot},
    }  # fmt: skip


def session(
    name: str, *turns: dict[str, Any], window: str = "w", method: str = "m", **more: Any
) -> SessionRecord:
    record: dict[str, Any] = {
        "method": method, "task": "t", "session_id": name, "seed": 0, "outcome": "scored",
        "turns": list(turns), "worker": None,
        "load": {"window": window, "arrived_s": 0.0, "started_s": 0.0, "ended_s": 99.0},
    }  # fmt: skip
    return cast(SessionRecord, record | more)


def entries(*sessions: SessionRecord) -> dict[tuple[str, str], dict[str, Any]]:
    methods = sorted({s["method"] for s in sessions})
    spec: dict[str, Any] = {
        "methods": [{"id": name} for name in methods],
        "tasks": [{"name": "t"}],
        "pair": {role: {"engine": "transformers"} for role in ("F", "G")},
    }
    data = RunData(cast(Manifest, {"spec": spec}), sessions, (), {"t": ()})
    return {(e["method"], e["role"]): e for e in adaptation_under_load(data)}


def reply(index: int, at: float, length: float, ttft: float, **more: Any) -> dict[str, Any]:
    return turn(index, at, call("reply", "F", 0.0, length), ttft=ttft, **more)


def worker(name: str = "worker", **more: Any) -> SessionRecord:
    """In its turn, at 5 s, it waits 0.5 s for its training, which runs from 5.5 s to 7.5 s; G
    replies from then to 8.5 s.
    """
    training = call("training", "G", 0.0, 2.5, queue_s=0.5, trained=100)
    own = turn(1, 5.0, training, call("reply", "G", 2.5, 1.0), ttft=2.8)
    return session(name, own, **more)


def test_replies_are_told_apart_by_what_ran_beside_them() -> None:
    """By hand: turn 1 ends as the training begins, turn 4 begins as it ends; 2 and 3 overlap it."""
    served = session(
        "served",
        reply(1, 5.0, 0.5, 0.1, tpot=0.01),  # beside the wait for the training only
        reply(2, 5.4, 0.2, 0.2, tpot=0.03),
        reply(3, 7.0, 0.4, 0.4, tpot=None),
        reply(4, 7.5, 0.4, 0.3, tpot=0.02),
        reply(5, 9.0, 0.4, 0.5, tpot=0.06),
    )
    found = entries(worker(), served)["m", "F"]
    assert found["own"] == 0
    assert found["ttft_s"]["during"] == pytest.approx(
        {"mean": 0.3, "n": 2, "low": None, "high": None}
    )
    assert found["ttft_s"]["otherwise"]["mean"] == pytest.approx(0.3)  # of 0.1, 0.3 and 0.5
    assert found["ttft_s"]["otherwise"]["n"] == 3
    assert found["ttft_s"]["change"]["mean"] == pytest.approx(0.0)
    # The one-token reply of turn 3 has no TPOT.
    assert (found["tpot_s"]["during"]["mean"], found["tpot_s"]["during"]["n"]) == (0.03, 1)
    assert found["tpot_s"]["otherwise"]["mean"] == pytest.approx(0.03)


def test_changes_are_within_sessions() -> None:
    """Session one: 0.5 against 0.2; two: 0.9 against 0.3. Three has none beside work.

    Mean changes 0.3 and 0.6, so 0.45; the plain means differ by 0.7 - 0.85 instead.
    """
    found = entries(
        worker(),
        session("one", reply(1, 6.0, 0.5, 0.5), reply(2, 9.0, 0.5, 0.2)),
        session("two", reply(1, 6.5, 0.5, 0.9), reply(2, 9.0, 0.5, 0.3)),
        session("three", reply(1, 9.0, 0.5, 2.05)),
    )["m", "F"]["ttft_s"]
    assert found["during"]["mean"] == pytest.approx(0.7)
    assert found["otherwise"]["mean"] == pytest.approx((0.2 + 0.3 + 2.05) / 3)
    assert (found["change"]["mean"], found["change"]["n"]) == (pytest.approx(0.45), 2)
    assert found["change"]["low"] == pytest.approx(0.3)
    assert found["change"]["high"] == pytest.approx(0.6)


def test_a_session_s_own_work_is_in_neither_group() -> None:
    """In the background its own training runs beside turn 2, from 1.5 s before it to its end."""
    background = call("training", "G", -1.5, 2.0, trained=10)
    own = turn(2, 7.0, background, call("reply", "F", 0.0, 0.5), ttft=9.9)
    busy = session("busy", reply(1, 1.0, 0.5, 0.1), own)
    # Its turn 2 is beside the worker's training too: it counts as that.
    assert entries(worker(), busy)["m", "F"]["ttft_s"]["during"]["mean"] == 9.9
    late = turn(2, 17.0, background, call("reply", "F", 0.0, 0.5), ttft=9.9)
    alone = session("alone", reply(1, 1.0, 0.5, 0.1), late, reply(3, 6.0, 0.1, 0.7))
    found = entries(worker(), alone)["m", "F"]
    assert found["own"] == 1
    assert found["ttft_s"]["otherwise"]["mean"] == pytest.approx(0.1)
    assert found["ttft_s"]["during"]["mean"] == pytest.approx(0.7)


def test_ttft_counts_from_the_call() -> None:
    """G's turn waits 2.5 s for its own adaptation; its reply's first token takes 0.3 s."""
    other = worker("other", window="w")
    other["turns"][0]["at_s"] = 6.0  # trains until 8.5 s: beside the first one's reply
    found = entries(worker(), other)["m", "G"]
    assert found["ttft_s"]["during"]["mean"] == pytest.approx(0.3)
    assert found["ttft_s"]["otherwise"]["mean"] == pytest.approx(0.3)
    assert (found["ttft_s"]["during"]["n"], found["ttft_s"]["otherwise"]["n"]) == (1, 1)


@pytest.mark.parametrize(
    "others",
    [
        [worker(window="elsewhere")],
        [worker(method="n")],
        [],
        [session("probing", turn(1, 5.0, call("reply", "F", 0.0, 9.0), ttft=1.0))],
        [session("reading", turn(1, 5.0, call("embed", "encoder", 0.0, 9.0),
                                 call("reply", "G", 9.0, 0.1), ttft=9.1))],
        [worker(load=None)],
    ],
    ids=["another window", "another method", "none", "requests", "the encoder", "no times"],
)  # fmt: skip
def test_without_both_groups_there_is_no_entry(others: list[SessionRecord]) -> None:
    served = session("served", reply(1, 6.0, 0.5, 0.5), reply(2, 9.0, 0.5, 0.2))
    assert ("m", "F") not in entries(served, *others)


def test_work_that_only_reads_counts() -> None:
    reading = turn(1, 5.0, call("embed", "G", 0.0, 2.0), call("reply", "G", 2.0, 1.0), ttft=2.5)
    served = session("served", reply(1, 6.0, 0.5, 0.5), reply(2, 9.0, 0.5, 0.2))
    found = entries(session("reading", reading), served)["m", "F"]
    assert found["ttft_s"]["during"]["n"] == 1


def test_a_retried_turn_is_in_neither_group() -> None:
    tried = turn(1, 6.0, call("reply", "F", 0.0, 0.5, failures=["HTTP 500"]), ttft=0.5)
    served = session("served", tried, reply(2, 6.5, 0.5, 0.4), reply(3, 9.0, 0.5, 0.2))
    assert entries(worker(), served)["m", "F"]["ttft_s"]["during"]["n"] == 1


def test_unlike_machines_are_not_compared() -> None:
    served = session("served", reply(1, 6.0, 0.5, 0.5), reply(2, 9.0, 0.5, 0.2))
    machines = [{"index": n, "machine_class": name} for n, name in enumerate(("one", "two"))]
    both = [worker(worker=machines[0]), cast(SessionRecord, served | {"worker": machines[0]})]
    assert entries(*both)
    assert not entries(both[0], cast(SessionRecord, served | {"worker": machines[1]}))


def test_overlaps_are_those_of_every_span() -> None:
    """The search by start times against looking at each span."""
    draw = random.Random(3)
    for _ in range(200):
        spans = [
            Span(("t", str(draw.randrange(4)), 0), start, start + draw.choice((0, 1, 2, 9)))
            for start in (draw.randrange(20) for _ in range(draw.randrange(9)))
        ]
        start = draw.randrange(20)
        asked = Span(("t", "0", 0), start, start + draw.randrange(1, 6))
        whose = {s.whose for s in spans if s.start < asked.end and s.end > asked.start}
        expected = "during" if whose - {asked.whose} else "own" if whose else "otherwise"
        assert when(asked, Works(spans)) == expected


def test_the_table_on_whole_records(tmp_path: Path) -> None:
    """Two sessions at once: c1 trains from 0.92 s to 2.92 s, beside turns 2, 3 and 4 of c2 (at
    0.51, 1.12 and 1.83 s) and turn 1 of c3 (at 2.64 s); c3 trains from 3.25 s to 5.25 s, beside
    turn 4 of c1, which G answers.
    """

    def in_the_way(record: dict[str, Any]) -> None:
        if (record["method"], record["session_id"]) == (SHIFT, "c2"):
            del record["turns"][2]["calls"][1:]  # it trained in the background

    folder = build_run(tmp_path / "run", methods=("big", SHIFT), concurrency=2)
    summary = summary_of(edit(folder, in_the_way))
    rows = {row["role"]: row for row in rows_of(summary, "adaptation_under_load")}
    assert {row["method"] for row in rows.values()} == {SHIFT}
    assert (rows["F"]["ttft_s_during_n"], rows["G"]["ttft_s_during_n"]) == ("4", "1")
    # TTFT from the call on, of c2 0.39, 0.49, 0.59 s, of c3 0.39 s.
    assert rows["F"]["ttft_s_during"].startswith("0.465")
    assert rows["F"]["tpot_s_during"].startswith("20.0")
    # Turn 4 of c1 under G: 0.25 s less the 5 ms before its call.
    assert rows["G"]["ttft_s_during"] == "0.245"
    # Turn 3 of c1 took 0.195 s: the change within c1 is the only one.
    assert rows["G"]["ttft_s_change"] == "+0.050"
    assert "adaptation_under_load" not in {
        table.name for table in build_tables(summary | {"adaptation_under_load": []})
    }
