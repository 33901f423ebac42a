"""What reports show of adaptation, for the sessions that `shifting.py` describes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from harness.report.figures.timeline import chosen
from harness.report.figures.timeline_panels import has_values
from harness.report.read import RunData, read_run
from harness.report.write import write_report
from tests.report.reading import result
from tests.report.synthetic import MIB, SHIFT, build_run, score

METHODS = ("big", "small", SHIFT)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_run(tmp_path_factory.mktemp("adaptation") / "run", methods=METHODS)
    score(folder)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def data(run: Path) -> RunData:
    return read_run(run)


@pytest.fixture(scope="module")
def summary(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text("utf-8"))
    return found


def rows(run: Path, table: str) -> list[dict[str, str]]:
    """The rows of a table by column key, units left out."""
    with (run / f"tables/{table}.csv").open(encoding="utf-8", newline="") as lines:
        found = list(csv.DictReader(lines))
    return [{name.split(" (")[0]: value for name, value in row.items()} for row in found]


@pytest.mark.parametrize(
    "name, mean, n",
    [
        ("adaptation_s", 2.0, 3),
        ("adaptation_wait_s", 4 / 3, 3),  # not in c2, which adapts in the background
        ("trained_tokens", 500, 3),
        ("probe_f_tokens", 411, 3),  # one probe of 411 tokens in c1, none in c2, two in c3
        ("switch_turn", 2.5, 2),  # turn 3 of c1 and turn 2 of c3
        ("f_share", 8 / 12, 12),
        ("adaptation_peak_bytes", 50 * MIB, 3),
    ],
)
def test_metrics(summary: dict[str, Any], name: str, mean: float, n: int) -> None:
    metric = result(summary, "chat", SHIFT)["metrics"][name]
    assert metric["mean"] == pytest.approx(mean)
    assert metric["n"] == n


def test_a_method_without_adaptation_has_zeros_and_no_switch(summary: dict[str, Any]) -> None:
    metrics = result(summary, "chat", "big")["metrics"]
    names = ("adaptation_s", "adaptation_wait_s", "trained_tokens", "probe_f_tokens")
    assert [metrics[name]["mean"] for name in names] == [0, 0, 0, 0]
    assert metrics["switch_turn"]["mean"] is None
    assert metrics["switch_turn"]["outcomes"]["unscored"] == 3


def test_counts(summary: dict[str, Any]) -> None:
    chat = {
        "sessions": 3, "switched": 2, "gate_accepted": 2, "gate_refused": 1, "rolled_back": 1,
    }  # fmt: skip
    assert result(summary, "chat", SHIFT)["adaptation"] == chat
    nothing = {**dict.fromkeys(chat, 0), "sessions": 3}
    assert result(summary, "arith", SHIFT)["adaptation"] == nothing
    assert result(summary, "all", SHIFT)["adaptation"] == chat | {"sessions": 6}
    assert result(summary, "all", "small")["adaptation"] is None


def test_every_name_is_documented(summary: dict[str, Any]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "summary.md").read_text("utf-8")
    names = set(result(summary, "all", SHIFT)["adaptation"])
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def test_never_switchable_sessions_are_counted_apart(summary: dict[str, Any]) -> None:
    counts = {(r["task"], r["method"]): r["sessions_never_switchable"] for r in summary["results"]}
    assert [counts[task, SHIFT] for task in ("chat", "arith", "all")] == [0, 3, 3]
    assert {counts[task, "small"] for task in ("chat", "arith", "all")} == {None}


def test_break_even(summary: dict[str, Any]) -> None:
    """Two seconds of adaptation per session of `chat` are never saved: G saves 0.66 s at most.

    In `arith` every turn costs as much as the reference's, in the two sessions that both served.
    """
    found = {(r["task"], r["method"]): r["break_even"] for r in summary["results"]}
    assert found["chat", SHIFT] == {
        "turn": None, "measure": "usd", "sessions": 3, "longest": 4, "retried": 0,
        "refused": None,
    }  # fmt: skip
    assert found["arith", SHIFT]["turn"] == 1
    assert found["arith", SHIFT]["sessions"] == 2
    assert found["chat", "small"]["turn"] == 1
    assert found["chat", "big"] is None


def test_the_table_of_adaptation(run: Path) -> None:
    found = rows(run, "adaptation")
    assert [(r["task"], r["method"]) for r in found] == [
        ("chat", SHIFT), ("arith", SHIFT), ("all", SHIFT),
    ]  # fmt: skip
    numbers = found[0]
    assert {name: numbers[name] for name in ("never_switchable", "switched", "gate_refused")} == {
        "never_switchable": "0", "switched": "2", "gate_refused": "1",
    }  # fmt: skip
    assert float(numbers["switch_turn"]) == 2.5
    assert float(numbers["adaptation_peak"]) == 50
    assert float(numbers["adapter"]) == 2
    assert numbers["break_even"] == "not reached"


def test_the_main_tables_show_break_even_and_never_switchable(run: Path) -> None:
    main = {row["method"]: row for row in rows(run, "main")}
    assert main["big (reference)"]["break_even"] == ""
    assert main["small"]["break_even"] == "1"
    assert main[SHIFT]["break_even"] == "not reached"
    assert main[SHIFT]["never_switchable"] == "3"
    assert main["small"]["never_switchable"] == ""
    by_task = {(row["task"], row["method"]): row for row in rows(run, "main_by_task")}
    assert by_task["arith", SHIFT]["never_switchable"] == "3"
    note = "by dollars. Never switchable: sessions too short"
    assert note in (run / "tables/main.md").read_text("utf-8")


def test_the_timeline_takes_the_first_session_that_switched(data: RunData) -> None:
    (record,) = chosen(data)
    assert (record["method"], record["session_id"]) == (SHIFT, "c1")
    assert has_values(record)


def test_without_a_switch_it_takes_the_first_session_with_a_gate(data: RunData) -> None:
    sessions = tuple(s for s in data.sessions if s["session_id"] not in ("c1", "c3"))
    (record,) = chosen(RunData(data.manifest, sessions, data.scores, data.scorers))
    assert record["session_id"] == "c2"


def test_without_either_it_takes_none(data: RunData) -> None:
    sessions = tuple(s for s in data.sessions if s["task"] == "arith")
    assert chosen(RunData(data.manifest, sessions, data.scores, data.scorers)) == []
