"""Scoring is a pure function of the run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from tests.report.synthetic import build_run, read_records, score, write_sessions


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_run(tmp_path_factory.mktemp("score") / "run")
    score(folder)
    return folder


def lines(run: Path, **wanted: Any) -> list[dict[str, Any]]:
    scores = [json.loads(line) for line in (run / "scores.jsonl").read_text("utf-8").splitlines()]
    return [s for s in scores if all(s[key] == value for key, value in wanted.items())]


def test_one_sorted_line_per_turn_and_scorer(run: Path) -> None:
    found = lines(run)
    names = ("method", "task", "session_id", "seed", "turn_index", "scorer")
    keys = [tuple(line[name] for name in names) for line in found]
    assert keys == sorted(set(keys))
    # 8 sessions of `chat` with 3 scorers and 7 of `arith` with 4 were served, 4 turns each.
    assert len(found) == 8 * 4 * 3 + 7 * 4 * 4 + 1 * 3 + 2 * 4


def test_unserved_sessions_leave_one_line_per_scorer(run: Path) -> None:
    failed = lines(run, method="small", session_id="c3")
    assert [(f["scorer"], f["turn_index"], f["outcome"]) for f in failed] == [
        ("repetition", 0, "error"),
        ("rouge_l", 0, "error"),
        ("similarity", 0, "error"),
    ]
    assert {f["reason"] for f in failed} == {"made to be error"}
    skipped = lines(run, method="brief", session_id="a3")
    assert {f["outcome"] for f in skipped} == {"skipped"}


def test_missing_reference_is_unscored_with_its_reason(run: Path) -> None:
    found = lines(run, method="small", session_id="a2", scorer="similarity")
    assert [(f["outcome"], f["value"]) for f in found] == [("unscored", None)] * 4
    assert {f["reason"] for f in found} == {"reference method big: its session is error"}
    gold = lines(run, method="small", session_id="a2", scorer="exact_match")
    assert [f["value"] for f in gold] == [None, 1.0, 1.0, 0.0]
    assert gold[0]["reason"] == "no gold answer for this turn"


def test_the_reference_equals_itself(run: Path) -> None:
    own = lines(run, method="big", scorer="similarity", outcome="scored")
    assert [line["value"] for line in own] == [1.0] * 20


def test_order_of_lines_and_a_torn_line_change_nothing(run: Path, tmp_path: Path) -> None:
    other = build_run(tmp_path / "run", shuffle=3)
    with (other / "sessions.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"method": "big", "task": "ch')
    assert score(other).read_bytes() == (run / "scores.jsonl").read_bytes()


def test_without_a_reference_comparisons_are_unscored(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", methods=("small",), reference=None)
    score(folder)
    reasons = {line["reason"] for line in lines(folder, scorer="rouge_l", outcome="unscored")}
    assert reasons == {"the run has no reference method"}
    assert lines(folder, scorer="repetition", outcome="scored")


def test_a_session_held_twice_is_refused(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run")
    records = read_records(folder)
    write_sessions(folder, [*records, records[0]])
    with pytest.raises(UserError, match=r"sessions\.jsonl: holds \('big', 'chat', 'c1', 0\) twice"):
        score(folder)
    assert not (folder / "scores.jsonl").exists()


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no manifest\.json"):
        score(tmp_path)
