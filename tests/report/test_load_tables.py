"""Throughput and goodput of runs whose sessions meet, against numbers worked out by hand.

`_at_once` of the synthetic run says when sessions begin and end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from harness.record import TurnRecord
from harness.report.load import is_good
from harness.report.tables import build_tables
from tests.report.reading import edit, result, rows_of, set_spec, summary_of
from tests.report.synthetic import SHIFT, build_run

METHODS = ("big", "small", "brief", SHIFT)
LIMITS = {"ttft_s": 0.55}


def entry(summary: dict[str, Any], task: str, method: str) -> dict[str, Any]:
    (found,) = [e for e in summary["load"] if (e["task"], e["method"]) == (task, method)]
    return dict(found)


def table_names(summary: dict[str, Any]) -> set[str]:
    return {table.name for table in build_tables(summary)}


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("load") / "run"
    return summary_of(build_run(folder, methods=METHODS, concurrency=2, objectives=LIMITS))


def test_throughput(summary: dict[str, Any]) -> None:
    """Sessions of 2.24, 2.64 and 3.04 s, the last one from 2.24 s on; 12 replies of 11 tokens."""
    big = entry(summary, "chat", "big")
    assert big["wall_s"] == pytest.approx(5.28)
    assert big["windows"] == 1
    assert big["at_once"] == pytest.approx(7.92 / 5.28)
    assert big["reply_tokens_per_s"] == pytest.approx(132 / 5.28)
    assert big["output_tokens_per_s"] == pytest.approx(132 / 5.28)
    assert big["sessions_per_min"] == pytest.approx(3 * 60 / 5.28)


def test_all_output_has_the_tokens_of_every_call(summary: dict[str, Any]) -> None:
    """Three probes of 11 tokens. c1: 0.41 + 0.51 + 2.305 + 0.355 = 3.58 s; c2: 2.64 s; c3:
    0.61 + 2.355 + 0.405 + 0.91 = 4.28 s, from the end of c2 on.
    """
    shift = entry(summary, "chat", SHIFT)
    assert shift["wall_s"] == pytest.approx(2.64 + 4.28)
    assert shift["reply_tokens_per_s"] == pytest.approx(132 / 6.92)
    assert shift["output_tokens_per_s"] == pytest.approx(165 / 6.92)


def test_goodput(summary: dict[str, Any]) -> None:
    """TTFT is 0.1 (turn + session): at most 0.55 s in 4, 3 and 2 turns of c1, c2 and c3."""
    good = entry(summary, "chat", "big")["goodput"]
    assert (good["good_turns"], good["good_sessions"]) == (9, 1)
    assert good["turn_share"]["mean"] == pytest.approx(9 / 12)
    assert (good["turn_share"]["n"], good["session_share"]["n"]) == (12, 3)
    assert good["session_share"]["mean"] == pytest.approx(1 / 3)
    assert good["good_turns_per_s"] == pytest.approx(9 / 5.28)
    assert good["good_sessions_per_min"] == pytest.approx(60 / 5.28)
    # The interval draws sessions: of shares 1, 3/4 and 1/2 no draw leaves [1/2, 1].
    assert 0.5 <= good["turn_share"]["low"] < 0.75 < good["turn_share"]["high"] <= 1


def test_failed_sessions_are_not_good_and_skipped_ones_do_not_count(
    summary: dict[str, Any],
) -> None:
    """`small` is fast enough in c1 and c2 and failed in c3, of which `big` served four turns."""
    small = entry(summary, "chat", "small")
    assert small["wall_s"] == pytest.approx(1.32)
    assert small["sessions_per_min"] == pytest.approx(2 * 60 / 1.32)
    good = small["goodput"]
    assert (good["good_turns"], good["turn_share"]["n"]) == (8, 12)
    assert (good["good_sessions"], good["session_share"]["n"]) == (2, 3)
    brief = entry(summary, "arith", "brief")["goodput"]
    assert (brief["session_share"]["mean"], brief["session_share"]["n"]) == (1, 2)
    assert brief["turn_share"]["n"] == 8


def test_a_failed_session_took_its_time(tmp_path: Path) -> None:
    def failed_late(record: dict[str, Any]) -> None:
        if record["outcome"] == "error" and record["method"] == "small":
            window = {"window": "small/chat", "arrived_s": 1.12, "started_s": 1.12}
            record["load"] = window | {"ended_s": 4.0}

    folder = build_run(tmp_path / "run", concurrency=2)
    small = entry(summary_of(edit(folder, failed_late, served=False)), "chat", "small")
    assert small["wall_s"] == pytest.approx(4.0)
    assert small["sessions_per_min"] == pytest.approx(30)
    assert small["at_once"] == pytest.approx((1.12 + 1.32 + 2.88) / 4)


def test_over_all_tasks_windows_add_up(summary: dict[str, Any]) -> None:
    """Of `arith` `big` served a1 and a3, both from the beginning: 3.04 s."""
    big = entry(summary, "all", "big")
    assert big["wall_s"] == pytest.approx(5.28 + 3.04)
    assert big["windows"] == 2
    assert big["sessions_per_min"] == pytest.approx(5 * 60 / 8.32)
    # a1: 4 turns, a3: 2, and four of the failed a2 that others served.
    assert big["goodput"]["good_turns"] == 15
    assert big["goodput"]["turn_share"]["mean"] == pytest.approx(15 / 24)
    assert big["goodput"]["session_share"]["mean"] == pytest.approx(2 / 6)


def test_a_resumed_run_has_several_windows(tmp_path: Path) -> None:
    def resumed(record: dict[str, Any]) -> None:
        if record["session_id"] == "c3":
            length = record["load"]["ended_s"] - record["load"]["started_s"]
            record["load"] = {
                "window": f"second {record['method']}", "arrived_s": 0.5, "started_s": 0.5,
                "ended_s": 0.5 + length,
            }  # fmt: skip

    big = entry(
        summary_of(edit(build_run(tmp_path / "run", concurrency=2), resumed)), "chat", "big"
    )
    assert big["windows"] == 2
    assert big["wall_s"] == pytest.approx(2.64 + 0.5 + 3.04)  # from the windows' beginnings
    assert big["sessions_per_min"] == pytest.approx(3 * 60 / 6.18)


def test_think_time_lies_on_the_wall_and_in_no_latency(
    tmp_path: Path, summary: dict[str, Any]
) -> None:
    def thought(record: dict[str, Any]) -> None:
        for turn in record["turns"]:
            turn["at_s"] += 2.0 * (turn["turn_index"] - 1)
        record["load"]["ended_s"] += 6.0

    folder = build_run(tmp_path / "run", methods=METHODS, concurrency=2, objectives=LIMITS)
    found = summary_of(set_spec(edit(folder, thought), think_time_s=2.0))
    big = entry(found, "chat", "big")
    assert big["wall_s"] == pytest.approx(11.28)
    assert big["goodput"]["turn_share"] == entry(summary, "chat", "big")["goodput"]["turn_share"]
    assert result(found, "chat", "big")["metrics"] == result(summary, "chat", "big")["metrics"]
    (load,) = [table for table in build_tables(found) if table.name == "load"]
    assert "concurrency 2, 2 s think time," in load.caption


def test_a_retried_turn_is_judged_by_what_its_user_waited(tmp_path: Path) -> None:
    def retry(record: dict[str, Any]) -> None:
        if (record["method"], record["session_id"]) == ("big", "c1"):
            record["turns"][0]["calls"][0]["failures"] = ["HTTP 503"]
            record["turns"][0]["timing"]["ttft_s"] = 0.6

    folder = build_run(tmp_path / "run", concurrency=2, objectives=LIMITS)
    found = summary_of(edit(folder, retry))
    good = entry(found, "chat", "big")["goodput"]
    assert (good["good_turns"], good["turn_share"]["n"], good["good_sessions"]) == (8, 12, 0)
    assert result(found, "chat", "big")["metrics"]["ttft_s"]["n"] == 11


@pytest.mark.parametrize(
    ("limits", "good"),
    [
        ({"ttft_s": 0.3}, True),
        ({"ttft_s": 0.29}, False),
        ({"tpot_s": 0.02}, True),
        ({"tpot_s": 0.019}, False),
        ({"e2e_s": 0.5}, True),
        ({"e2e_s": 0.49}, False),
        ({"ttft_s": 0.3, "tpot_s": 0.02, "e2e_s": 0.49}, False),
    ],
)
def test_a_turn_must_keep_every_limit(limits: dict[str, float], good: bool) -> None:
    turn = {"timing": {"ttft_s": 0.3, "tpot_s": 0.02, "e2e_s": 0.5, "turn_s": 0.6}}
    assert is_good(cast(TurnRecord, turn), limits) is good


def test_one_token_has_no_pace_to_exceed() -> None:
    turn = {"timing": {"ttft_s": 0.3, "tpot_s": None, "e2e_s": 0.3, "turn_s": 0.3}}
    assert is_good(cast(TurnRecord, turn), {"tpot_s": 0.001})


def test_one_session_has_rates_and_no_interval(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", tasks={"chat": ("c1",)}, concurrency=2, objectives=LIMITS)
    big = entry(summary_of(folder), "chat", "big")
    assert big["wall_s"] == pytest.approx(2.24)
    assert big["at_once"] == pytest.approx(1)
    share = big["goodput"]["session_share"]
    assert (share["mean"], share["low"], share["high"]) == (1, None, None)


def test_nothing_served_has_no_rates(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", all_errors=True, concurrency=2, objectives=LIMITS)
    big = entry(summary_of(folder), "chat", "big")
    assert big["wall_s"] == 0
    assert big["sessions_per_min"] is None
    assert big["goodput"]["good_turns_per_s"] is None
    assert big["goodput"]["turn_share"]["mean"] == 0
    assert "load" in table_names(summary_of(folder))


@pytest.mark.parametrize(
    ("spec", "shown", "goodput"),
    [
        ({}, False, False),
        ({"objectives": {"ttft_s": None, "tpot_s": None, "e2e_s": None}}, False, False),
        ({"objectives": {"ttft_s": 1.0, "tpot_s": None, "e2e_s": None}}, True, True),
        ({"concurrency": 2}, True, False),
        ({"arrival_rate": 30.0}, True, False),
        ({"arrival_rate": 30.0, "objectives": {"e2e_s": 1.0}}, True, True),
    ],
    ids=["alone", "no limits", "limits alone", "concurrency", "arrivals", "arrivals, limits"],
)
def test_when_it_is_shown(tmp_path: Path, spec: dict[str, Any], shown: bool, goodput: bool) -> None:
    summary = summary_of(set_spec(build_run(tmp_path / "run"), **spec))
    assert ("load" in table_names(summary)) is shown
    if shown:
        keys = set(rows_of(summary, "load")[0])
        assert ("turn_share" in keys) is goodput
        assert ("arrival_rate" in keys) is ("arrival_rate" in spec)
        assert ("concurrency" in keys) is not ("arrival_rate" in keys)
        assert (entry(summary, "chat", "big")["goodput"] is not None) is goodput


def test_the_table(summary: dict[str, Any]) -> None:
    rows = {(row["task"], row["method"]): row for row in rows_of(summary, "load")}
    assert len(rows) == 3 * len(METHODS)
    big = rows["chat", "big (reference)"]
    shown = {
        "sessions": "3", "errors": "0", "concurrency": "2", "at_once": "1.50", "wall_s": "5.3",
        "reply_tokens_per_s": "25.0", "output_tokens_per_s": "25.0", "sessions_per_min": "34.09",
        "good_turns_per_s": "1.705", "good_sessions_per_min": "11.36", "ttft_p50": "–",
    }  # fmt: skip
    assert {key: big[key] for key in shown} == shown
    assert big["turn_share"].startswith("75.0 [")
    assert rows["chat", "small"]["errors"] == "1"
    (load,) = [table for table in build_tables(summary) if table.name == "load"]
    assert any("a turn with TTFT <= 0.55 s, retries included" in note for note in load.notes)


def test_percentiles_of_waiting(tmp_path: Path) -> None:
    """40 turns of ten sessions: turn + session is 2 once, 3 twice, ... 13 twice, 14 once.

    So the 20th is an 8 and the 38th a 13.
    """
    ids = tuple(f"c{n}" for n in range(1, 11))
    folder = build_run(tmp_path / "run", methods=("big",), tasks={"chat": ids}, concurrency=2)
    (row,) = rows_of(summary_of(folder), "load")
    names = ("ttft_p50", "ttft_p95", "queue_p50", "queue_p95")
    assert [row[name] for name in names] == ["0.800", "1.300", "0.020", "0.020"]
    listed = [r["metric"] for r in rows_of(summary_of(folder), "latency_percentiles")]
    assert listed == ["TTFT", "TPOT", "E2E", "Turn", "Session", "Queue", "Prefill"]
