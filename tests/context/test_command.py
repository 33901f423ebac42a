"""`tasks context`: verdicts to look at before a run relies on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.context.test_filter import DEPENDENT, INDEPENDENT, line_of, session


@pytest.fixture
def own(bench: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    sessions = [session("bakery", DEPENDENT), session("quiz", INDEPENDENT)]
    Path("own.jsonl").write_text("".join(map(line_of, sessions)), "utf-8")
    return "own.jsonl"


def test_what_would_be_kept(own: str, bench: Callable[..., Result]) -> None:
    words = ("tasks", "context", "jsonl", "--path", own)
    result = bench(*words, "--json")
    assert result.exit_code == 0, result.output
    bakery, quiz = json.loads(result.stdout)
    assert (bakery["session"], bakery["keep"], bakery["share"]) == ("bakery", True, 1.0)
    assert (quiz["session"], quiz["keep"]) == ("quiz", False)
    assert [turn["turn"] for turn in bakery["turns"]] == [2, 3]
    assert bakery["turns"][0]["cues"] == ["word", "ellipsis"]

    table = bench(*words, "--limit", "1", "--threshold", "9")
    assert "0 of 1 sessions kept" in table.stdout and "quiz" not in table.stdout
    turns = bench(*words, "--session", "quiz")
    assert "Which metal is liquid" in turns.stdout
    wrong = bench(*words, "--session", "quizz")
    assert wrong.exit_code == 2
    assert "did you mean 'quiz'" in wrong.stderr
