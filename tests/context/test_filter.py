"""The filter on real text with the real small model: what depends stays, what does not goes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from harness.context.filter import ContextFilter
from harness.context.likelihood import LikelihoodModel
from harness.context.settings import ContextSettings
from harness.errors import UserError
from harness.session import Session
from harness.task import Drop

DEPENDENT = (
    ("Suggest a name for a small bakery in Lisbon that sells rye bread.", "Centeio & Sol."),
    ("Make it shorter.", "Centeio."),
    ("Write one line for a sign with that name.", "Centeio: rye bread from a small oven."),
)
INDEPENDENT = (
    ("Name the longest river of Africa.", "The Nile."),
    ("Which metal is liquid at room temperature?", "Mercury."),
    ("Translate the word for bread into Portuguese.", "Pão."),
)


def session(name: str, exchanges: Sequence[tuple[str, str]], *, answered: bool = True) -> Session:
    return Session(
        id=name,
        task="own",
        turns=tuple(turn for turn, _ in exchanges),
        references=tuple(reply for _, reply in exchanges) if answered else None,
        reference_kind="human" if answered else None,
    )


@pytest.fixture
def judge(cache: Path, model: LikelihoodModel) -> ContextFilter:
    found = ContextFilter(ContextSettings(), cache)
    found.__dict__["_model"] = model  # loaded once for all tests
    return found


def test_what_depends_stays_and_what_does_not_goes(judge: ContextFilter) -> None:
    verdict = judge.judge(session("bakery", DEPENDENT))
    assert [turn.turn_index for turn in verdict.turns] == [2, 3]
    assert verdict.keep and verdict.share == 1
    assert judge(session("bakery", DEPENDENT)) is None

    drop = judge(session("quiz", INDEPENDENT))
    assert isinstance(drop, Drop)
    assert drop.reason == "context_independent"
    assert drop.detail.startswith("quiz: ") and "of 2 later turns depend" in drop.detail
    assert drop.score is not None and drop.score < ContextSettings().threshold


def test_without_references_the_model_answers_itself(judge: ContextFilter) -> None:
    verdict = judge.judge(session("bakery", DEPENDENT, answered=False))
    assert len(verdict.turns) == 2
    assert verdict.turns[0].score != judge.judge(session("bakery", DEPENDENT)).turns[0].score


def test_one_turn_depends_on_nothing(judge: ContextFilter) -> None:
    drop = judge(session("short", DEPENDENT[:1]))
    assert drop is not None
    assert drop.reason == "single_turn"


def test_scores_are_taken_from_the_cache(cache: Path, judge: ContextFilter) -> None:
    expected = judge.judge(session("bakery", DEPENDENT))
    again = ContextFilter(ContextSettings(model="no/such-model"), cache)
    with pytest.raises(UserError, match="no/such-model"):
        again.judge(session("bakery", DEPENDENT))
    again = ContextFilter(ContextSettings(threshold=0.2), cache)
    assert [t.score for t in again.judge(session("x", DEPENDENT)).turns] == [
        t.score for t in expected.turns
    ]
    assert "_model" not in again.__dict__


def test_a_run_keeps_what_depends_and_lists_what_went(bench: Callable[..., Result]) -> None:
    sessions = [session("bakery", DEPENDENT), session("quiz", INDEPENDENT)]
    lines = [line_of(s) for s in sessions]
    Path("own.jsonl").write_text("".join(lines), "utf-8")
    Path("own.toml").write_text(
        'pair = "embedded"\nwarmup = false\n[generation]\nmax_new_tokens = 2\n'
        '[[methods]]\nname = "surrogate"\n[[tasks]]\nname = "jsonl"\n'
        'args = { path = "own.jsonl" }\n[tasks.context]\nmin_share = 1.0\n'
    )
    result = bench("run", "own.toml", "--offline", "--out", "run")
    assert result.exit_code == 0, result.output
    manifest = json.loads(Path("run/manifest.json").read_text("utf-8"))
    assert manifest["sessions"] == {"jsonl": ["bakery"]}
    assert manifest["dropped"] == {"jsonl": {"context_independent": 1}}
    (dropped,) = map(json.loads, Path("run/dropped.jsonl").read_text("utf-8").splitlines())
    assert dropped["task"] == "jsonl" and dropped["detail"].startswith("quiz: ")
    assert dropped["score"] < manifest["spec"]["tasks"][0]["context"]["threshold"]


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("treshold = 1", "did you mean 'threshold'"),
        ("min_share = 2.0", "tasks[0].context.min_share = 2.0"),
        ('panel = { url = "ftp://x", models = ["a"] }', "panel.url"),
        ('panel = { url = "http://me:pass@x", models = ["a"] }', "holds a password"),
    ],
)
def test_a_wrong_setting_is_one_line(
    bench: Callable[..., Result], setting: str, problem: str
) -> None:
    Path("own.toml").write_text(
        'pair = "embedded"\n[[methods]]\nname = "surrogate"\n'
        f'[[tasks]]\nname = "planning"\n[tasks.context]\n{setting}\n'
    )
    result = bench("run", "own.toml", "--out", "run")
    assert result.exit_code == 2
    assert problem in result.stderr and len(result.stderr.splitlines()) == 1
    assert not Path("run").exists()


def line_of(session: Session) -> str:
    data: dict[str, Any] = {"id": session.id, "turns": session.turns}
    data |= {"references": session.references, "reference_kind": session.reference_kind}
    return json.dumps(data) + "\n"
