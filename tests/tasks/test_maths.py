"""The generated sums: reproducible, and right by a second computation."""

from __future__ import annotations

import ast
import operator
import re
from fractions import Fraction
from pathlib import Path

import pytest

from harness.session import Session
from tasks._bundled import DATA
from tasks._maths_book import Book, Unsuitable, decimal, number
from tasks.make_maths import SEED, main, sessions
from tasks.maths import Maths

SESSIONS = list(Maths().sessions())
each_session = pytest.mark.parametrize("session", SESSIONS, ids=lambda s: s.id)

UNSPOKEN = {Fraction(n) for n in (2, 100, 1000)}
"""Literals that a text says in words: half or double, percent, kilo."""

OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def test_the_program_rewrites_the_committed_file_byte_for_byte(tmp_path: Path) -> None:
    main([str(tmp_path / "again.jsonl")])
    assert (tmp_path / "again.jsonl").read_bytes() == (DATA / "maths.jsonl").read_bytes()


def test_another_seed_gives_other_numbers() -> None:
    ours, others = sessions(SEED), sessions(SEED + 1)
    assert [s["id"] for s in ours] == [s["id"] for s in others]
    assert all(a["gold"] != b["gold"] for a, b in zip(ours, others, strict=True))


def test_there_are_six_kinds_and_most_turns_have_gold() -> None:
    assert len({s.metadata["scenario"] for s in SESSIONS}) >= 6
    for session in SESSIONS:
        assert session.gold is not None and session.system is not None
        assert sum(answer is not None for answer in session.gold) >= len(session.turns) - 1
        assert r"\boxed{" in session.system


@each_session
def test_every_gold_answer_follows_from_its_step(session: Session) -> None:
    """A second evaluator, knowing nothing of the generator, goes through the stored steps."""
    assert session.gold is not None
    answers: dict[str, Fraction] = {}
    for turn, (gold, step) in enumerate(
        zip(session.gold, session.metadata["steps"], strict=True), start=1
    ):
        assert (gold is None) == (step is None)
        if gold is not None:
            assert re.fullmatch(r"\d+(\.\d{1,2})?", gold)
            answers[f"t{turn}"] = evaluate(ast.parse(step, mode="eval").body, answers)
            assert answers[f"t{turn}"] == Fraction(gold)


@each_session
def test_the_numbers_of_a_step_were_said_by_then(session: Session) -> None:
    said: set[Fraction] = set()
    for turn, step in zip(session.turns, session.metadata["steps"], strict=True):
        said |= {Fraction(n) for n in re.findall(r"\d+(?:\.\d+)?", turn)}
        assert literals(step or "0") - {Fraction(0)} <= said | UNSPOKEN, turn


@each_session
def test_most_later_turns_need_earlier_ones(session: Session) -> None:
    """The step uses an earlier answer or a number that its own turn does not mention."""
    later = list(zip(session.turns, session.metadata["steps"], strict=True))[1:]
    steps = [(turn, step) for turn, step in later if step is not None]
    for turn, step in steps:
        own = {Fraction(n) for n in re.findall(r"\d+(?:\.\d+)?", turn)}
        assert re.search(r"\bt\d+\b", step) or literals(step) - own - UNSPOKEN, turn
    chained = sum(re.search(r"\bt\d+\b", step) is not None for _, step in steps)
    assert chained >= len(steps) / 2


def test_decimals_are_plain_and_short() -> None:
    shown = {Fraction(5, 2): "2.5", Fraction(1200): "1200", Fraction(1, 20): "0.05"}
    assert {value: decimal(value) for value in shown} == shown
    assert decimal(Fraction(-5, 4)) == "-1.25"
    with pytest.raises(Unsuitable, match="1/3"):
        decimal(Fraction(1, 3))


def test_a_skipped_follow_up_leaves_the_state_alone() -> None:
    book = Book(story=1, kept=frozenset({1}))
    state = book.open(number(10) * 3, "first", "second")
    unchanged = book.change(state, state - 5, "a", "b")
    changed = book.change(unchanged, unchanged - 7, "c", "d")
    assert (unchanged, changed.how) == (state, "t2")
    assert (book.turns, book.gold, book.steps) == (
        ["second", "d"],
        ["30", "23"],
        ["10 * 3", "t1 - 7"],
    )
    with pytest.raises(Unsuitable):
        Book(0, frozenset()).open(number(2) - 3, "debts", "debts")


def evaluate(node: ast.expr, answers: dict[str, Fraction]) -> Fraction:
    match node:
        case ast.BinOp(left, op, right):
            apply = OPERATORS[type(op)]
            return Fraction(apply(evaluate(left, answers), evaluate(right, answers)))
        case ast.Name(name):
            return answers[name]
        case ast.Constant(int() | float() as value):
            return Fraction(str(value))
        case _:
            raise AssertionError(f"unexpected {ast.dump(node)}")


def literals(step: str) -> set[Fraction]:
    nodes = ast.walk(ast.parse(step, mode="eval"))
    return {Fraction(str(node.value)) for node in nodes if isinstance(node, ast.Constant)}
