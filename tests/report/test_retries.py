"""A time that includes retries is never mixed with one that does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.report.figures.by_turn import draw_latency, draw_session_time
from harness.report.figures.timeline import draw_timeline
from harness.report.read import read_run
from harness.report.tables import build_tables
from tests.report.reading import edit, result, rows_of, summary_of
from tests.report.synthetic import SHIFT, build_run

WAITED_S = 5.0
METHODS = ("big", "small", SHIFT)


def retry(record: dict[str, Any]) -> None:
    """Turn 2 of c1 under `big`: two tries failed, and all its times grew by 5 s."""
    if (record["method"], record["session_id"]) == ("big", "c1"):
        turn = record["turns"][1]
        turn["calls"][0]["failures"] = ["HTTP 429", "the stream broke off after 3 events"]
        for name in ("ttft_s", "e2e_s", "turn_s"):
            turn["timing"][name] += WAITED_S
        turn["busy_s"] += WAITED_S
        record["session_s"] += WAITED_S
        record["cost"]["busy_s"] += WAITED_S


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_run(tmp_path_factory.mktemp("retries") / "run", methods=METHODS)
    summary_of(folder)
    return edit(folder, retry)


@pytest.fixture(scope="module")
def summary(run: Path) -> dict[str, Any]:
    return summary_of(run)


@pytest.mark.parametrize(
    ("name", "mean", "n"),
    [
        # Of 12 turns of mean 0.45, 0.65 and 0.66 s those of 0.3, 0.5 and 0.51 s are left out.
        ("ttft_s", (12 * 0.45 - 0.3) / 11, 11),
        ("e2e_s", (12 * 0.65 - 0.5) / 11, 11),
        ("turn_s", (12 * 0.66 - 0.51) / 11, 11),
        ("tpot_s", 0.02, 11),
        ("prefill_s", (12 * 0.42 - 0.27) / 11, 11),
        ("queue_s", 0.02, 11),
        # Of the sessions c2 (2.64 s) and c3 (3.04 s) are left; busy time is no other time.
        ("session_s", 2.84 / 0.99, 2),
        ("busy_s", 2.84, 2),
        # The rest is of all: three sessions, twelve turns.
        ("retries", 2 / 3, 3),
        ("usd", 2.64 / 3600, 3),
        ("output_tokens", 11, 12),
        ("f_tokens", 1044, 3),
        ("kv_formula_bytes", 400 * 1024, 3),
    ],
)
def test_means(summary: dict[str, Any], name: str, mean: float, n: int) -> None:
    metric = result(summary, "chat", "big")["metrics"][name]
    assert metric["mean"] == pytest.approx(mean)
    assert metric["n"] == n


def test_what_is_left_out_is_counted(summary: dict[str, Any]) -> None:
    big = result(summary, "chat", "big")
    assert big["retried"] == {"sessions": 1, "turns": 1, "tries": 2}
    assert big["metrics"]["ttft_s"]["outcomes"]["unscored"] == 1
    assert big["metrics"]["session_s"]["outcomes"]["unscored"] == 1
    assert result(summary, "chat", "small")["retried"] == {"sessions": 0, "turns": 0, "tries": 0}


def test_differences_leave_the_session_or_turn_out(summary: dict[str, Any]) -> None:
    difference = result(summary, "chat", "small")["difference"]
    # c1 has no session time under `big`, c3 failed under `small`: c2 is left, 1.32 s of 2.64 s.
    assert difference["session_s"]["n"] == 1
    assert difference["session_s"]["mean"] == pytest.approx(-1.32 / 0.99)
    # Turns 1, 3 and 4 of c1 and all of c2.
    assert difference["ttft_s"]["n"] == 7
    assert difference["usd"]["n"] == 2


def test_break_even_leaves_out_sessions_whose_cost_is_their_time(summary: dict[str, Any]) -> None:
    found = result(summary, "chat", "small")["break_even"]
    assert (found["measure"], found["sessions"], found["retried"]) == ("usd", 1, 1)
    assert found["turn"] == 1


def test_break_even_keeps_them_where_only_tokens_cost(tmp_path: Path) -> None:
    def by_token(record: dict[str, Any]) -> None:
        retry(record)
        record["cost"] |= {"usd_busy": None, "usd_tokens": record["cost"]["usd"]}

    summary = summary_of(edit(build_run(tmp_path / "run", methods=METHODS), by_token))
    found = result(summary, "chat", "small")["break_even"]
    assert (found["measure"], found["sessions"], found["retried"]) == ("usd", 2, 0)


def test_overhead_is_of_the_other_sessions(summary: dict[str, Any]) -> None:
    assert summary["overhead_share"] == pytest.approx(0.01)


def test_tables_say_so(summary: dict[str, Any]) -> None:
    rows = {(r["task"], r["method"]): r for r in rows_of(summary, "latency")}
    assert rows["chat", "big (reference)"]["turns"] == "11"
    assert rows["chat", "big (reference)"]["retried"] == "1"
    assert rows["chat", "small"]["retried"] == "0"
    told = "Calls that failed and were tried again: 2 tries, turns with any: 1."
    notes = {t.name for t in build_tables(summary) if any(told in note for note in t.notes)}
    assert notes >= {"main", "latency", "latency_percentiles", "first_token", "cost"}
    main = {row["method"]: row for row in rows_of(summary, "main")}
    assert "and that no retry made slower" in next(
        note for t in build_tables(summary) if t.name == "main" for note in t.notes
        if note.startswith("Break-even")
    )  # fmt: skip
    # c2, c3, a1 and a3: 2.64 + 3.04 + 2.24 + 3.04 over 4 and 0.99.
    assert main["big (reference)"]["session"] == "2.8"


def test_a_run_without_retries_says_nothing_of_them(tmp_path: Path) -> None:
    summary = summary_of(build_run(tmp_path / "run"))
    tables = {t.name: t for t in build_tables(summary)}
    assert "retried" not in {column.key for column in tables["latency"].columns}
    assert not any("tried again" in note for t in tables.values() for note in t.notes)


def test_figures_leave_them_out(run: Path, summary: dict[str, Any]) -> None:
    """Means at turn 2 are of c2, c3, a1 and a3; session time of c1 is unknown from turn 2 on."""
    data = read_run(run)
    first = draw_latency(data, summary).axes[0].get_lines()[0]
    assert list(first.get_ydata())[1] == pytest.approx(sum((0.4, 0.5, 0.3, 0.5)) / 4)  # type: ignore[arg-type]
    line = draw_session_time(data, summary).axes[0].get_lines()[0]
    so_far = [[0.1 * (i + n) + 0.21 for i in (1, 2)] for n in (2, 3, 1, 3)]
    assert list(line.get_ydata())[1] == pytest.approx(sum(map(sum, so_far)) / 4)  # type: ignore[arg-type]


def test_the_timeline_marks_them(tmp_path: Path) -> None:
    def tried(record: dict[str, Any]) -> None:
        if (record["method"], record["session_id"]) == (SHIFT, "c1"):
            record["turns"][1]["calls"][0]["failures"] = ["HTTP 503"]

    folder = edit(build_run(tmp_path / "run", methods=METHODS), tried)
    summary = summary_of(folder)
    figure = draw_timeline(read_run(folder), summary)
    assert "with a retry in it" in {text.get_text() for text in figure.legends[0].get_texts()}
