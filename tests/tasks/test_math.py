"""MATH: problems in both published forms, composed into sessions by seed, and what is left out."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.session import Session
from harness.task import Drop
from tasks._answers import boxed
from tasks.math import Math

FIXTURES = Path(__file__).parents[1] / "fixtures" / "math"
FIVE_HUNDRED = FIXTURES / "math_500.jsonl"  # 6 of algebra at level 2, 5 of counting at level 4
FOLDERS = FIXTURES / "folders"  # the same problems in the form of MATH


def split(items) -> tuple[list[Session], list[Drop]]:
    items = list(items)
    return (
        [item for item in items if isinstance(item, Session)],
        [item for item in items if isinstance(item, Drop)],
    )


def content(sessions: list[Session]) -> list[tuple]:
    """All of a session but where it was read."""
    return [(s.id, s.turns, s.references, s.gold, s.metadata) for s in sessions]


def write_parquet(path: Path, records: list[dict]) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
    return path


def records_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_by_default_a_session_leaves_room_for_a_switch() -> None:
    """The paper finds that MATH wants 8 warm turns or more; a switch shows with two more."""
    assert Math().problems >= Math.card.default_warm_turns + 2 == 10


def test_a_session_is_five_problems_of_one_subject_and_level() -> None:
    sessions, drops = split(Math(path=FIVE_HUNDRED, problems=5).items())
    assert [s.id for s in sessions] == [
        "math-algebra-2-0001",
        "math-counting_and_probability-4-0001",
    ]
    by_problem = {r["problem"]: r for r in records_of(FIVE_HUNDRED)}
    for session in sessions:
        records = [by_problem[turn] for turn in session.turns]
        assert len(records) == 5
        assert session.references == tuple(r["solution"] for r in records)
        assert session.gold == tuple(r["answer"] for r in records)
        assert session.reference_kind == "human"
        assert session.system is not None
        assert r"\boxed{" in session.system
        assert [p["record"] for p in session.source["problems"]] == [
            r["unique_id"] for r in records
        ]
        assert {p["file"] for p in session.source["problems"]} == {"math_500.jsonl"}
    assert [s.metadata for s in sessions] == [
        {"subject": "algebra", "level": 2},
        {"subject": "counting_and_probability", "level": 4},
    ]
    # Six problems of algebra: one fills no session.
    (drop,) = drops
    taken = {p["record"] for s in sessions for p in s.source["problems"]}
    assert drop.reason == "left_over"
    assert {drop.detail} == {r["unique_id"] for r in by_problem.values()} - taken
    assert drop.place.startswith(f"{FIVE_HUNDRED}:")


def test_all_forms_give_the_same_sessions(tmp_path: Path) -> None:
    expected = content(split(Math(path=FIVE_HUNDRED, problems=5).items())[0])
    assert content(split(Math(path=FOLDERS, problems=5).items())[0]) == expected

    (tmp_path / "MATH").mkdir()
    shutil.copytree(FOLDERS, tmp_path / "MATH" / "test")
    assert content(split(Math(path=tmp_path / "MATH", problems=5).items())[0]) == expected

    rows = write_parquet(tmp_path / "500.parquet", records_of(FIVE_HUNDRED))
    assert content(split(Math(path=rows, problems=5).items())[0]) == expected

    for subject in ("algebra", "counting_and_probability"):
        files = sorted((FOLDERS / subject).glob("*.json"))
        (tmp_path / "hub" / subject).mkdir(parents=True)
        write_parquet(
            tmp_path / "hub" / subject / "test-00000-of-00001.parquet",
            [json.loads(file.read_text("utf-8")) for file in files],
        )
    assert content(split(Math(path=tmp_path / "hub", problems=5).items())[0]) == expected


def test_the_order_of_files_and_lines_changes_nothing(tmp_path: Path) -> None:
    lines = FIVE_HUNDRED.read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "a.jsonl").write_text("".join(lines[:3:-1]), "utf-8")
    (tmp_path / "b.jsonl").write_text("".join(lines[3::-1]), "utf-8")
    ours, dropped = split(Math(path=FIVE_HUNDRED, problems=5).items())
    theirs, dropped_there = split(Math(path=tmp_path, problems=5).items())
    assert content(theirs) == content(ours)
    assert [d.detail for d in dropped_there] == [d.detail for d in dropped]


def test_the_seed_draws_the_order_and_problems_sets_the_length() -> None:
    tasks = [Math(path=FIVE_HUNDRED, problems=5, seed=seed) for seed in range(4)]
    assert len({tuple(s.turns for s in task.sessions()) for task in tasks}) == 4
    assert list(tasks[1].sessions()) == list(tasks[1].sessions())
    sessions, drops = split(Math(path=FIVE_HUNDRED, problems=2).items())
    # A limit takes some of every kind: first the first session of each group, then the second.
    assert [s.id.removeprefix("math-") for s in sessions] == [
        "algebra-2-0001",
        "counting_and_probability-4-0001",
        "algebra-2-0002",
        "counting_and_probability-4-0002",
        "algebra-2-0003",
    ]
    assert [d.reason for d in drops] == ["left_over"]
    turns = [turn for s in sessions for turn in s.turns]
    assert len(turns) == len(set(turns)) == 10


def test_what_is_left_out_and_the_boxes_of_old() -> None:
    path = FIXTURES / "traps.jsonl"
    sessions, drops = split(Math(path=path, problems=2).items())
    (session,) = sessions
    assert session.gold is not None
    assert dict(zip(session.turns, session.gold, strict=True)) == {
        r"What is $6 \cdot 7$?": "42",  # \boxed 42
        "What is a third of 27?": "9",  # \fbox{9}
    }
    assert {(d.reason, d.place.rpartition(":")[2]) for d in drops} >= {
        ("no_answer", "3"),  # no box
        ("no_answer", "4"),  # a box that never closes
        ("unknown_level", "6"),
        ("empty_message", "7"),
        ("broken_characters", "8"),
    }
    assert Counter(d.reason for d in drops)["duplicate_problem"] == 1
    assert len(drops) == 6


def test_a_published_answer_goes_before_the_box(tmp_path: Path) -> None:
    lines = [{**GOOD, "problem": f"P{a}?", "answer": a} for a in ("x = 3", "", None)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    golds = {s.turns: s.gold for s in Math(path=path, problems=1).sessions()}
    assert golds == {("Px = 3?",): ("x = 3",), ("P?",): ("1",), ("PNone?",): ("1",)}


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"$\boxed{1}$, no, $\boxed{\frac{1}{\sqrt{2}}}$.", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{3} and then \boxed{", "3"),
        (r"\boxed{3}, that is \ANSWER{$4}", "$4"),
        (r"\[x = \boxed 12\]", "12"),
        (r"$\boxed\pi$", r"\pi"),
        (r"\boxed{", None),
        ("nothing", None),
    ],
)
def test_the_last_balanced_box_counts(solution: str, answer: str | None) -> None:
    assert boxed(solution) == answer


GOOD = {"problem": "P?", "solution": r"\boxed{1}", "type": "Algebra", "level": "Level 1"}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"problem": None}, "'problem' must be a string, not NoneType"),
        ({"solution": 5}, "'solution' must be a string, not int"),
        ({"type": None}, "'type' must be a string, not NoneType"),
        ({"subject": 3}, "'subject' must be a string, not int"),
        ({"subject": "?"}, "the subject '?' has no letters"),
        ({"answer": 5}, "'answer' must be a string, not int"),
        ({"unique_id": 7}, "'unique_id' must be a string, not int"),
        ({"level": None}, "'level' must be a number or \"Level 3\", not None"),
        ({"level": True}, "not True"),
        ({"level": 2.5}, "not 2.5"),
        ({"level": "hard"}, "not 'hard'"),
    ],
)
def test_what_is_no_problem_is_named_with_its_line(
    tmp_path: Path, change: dict, problem: str
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps({**GOOD, **change, 'n': 2})}\n", "utf-8")
    with pytest.raises(UserError) as caught:
        list(Math(path=path).items())
    assert caught.value.place == f"{path}:2"
    assert problem in caught.value.problem


@pytest.mark.parametrize(
    ("name", "text", "place", "problem"),
    [
        ("a.jsonl", "", "", "is empty"),
        ("a.jsonl", '{"problem": "P', ":1", "not valid JSON"),
        ("a.json", '{\n"problem": "P', ":2", "cut off"),
        ("a.json", '{"1": {"problem": "P"}}', ":1", "'problem' must be a string"),
        ("a.json", '["P"]', ":1", "'problem' must be a string"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, text: str, place: str, problem: str) -> None:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    with pytest.raises(UserError, match=problem) as caught:
        list(Math(path=path).items())
    assert caught.value.place == f"{path}{place}"


def test_there_is_nothing_to_fetch() -> None:
    assert Math.remote == ()
    with pytest.raises(UserError, match="give path=FILE"):
        Math().files()


def test_every_gold_answer_is_one_that_the_scorer_accepts() -> None:
    from harness.quality.base import Resources
    from harness.quality.exact_match import ExactMatch

    paths = (FIVE_HUNDRED, FIXTURES / "traps.jsonl")
    sessions = [s for path in paths for s in Math(path=path, problems=1).sessions()]
    golds = [gold for s in sessions for gold in s.gold or () if gold]
    assert len(golds) == 13
    scorer = ExactMatch()
    replies = [rf"So it is \boxed{{{gold}}}." for gold in golds]
    assert scorer.score_texts(replies, golds, Resources()) == [1.0] * 13
    # Written in another way, and wrong.
    assert scorer.score_texts(
        ["1500", r"\boxed{1/2}", "7"], [r"1{,}500", r"\frac{1}{2}", "8"], Resources()
    ) == [1.0, 1.0, 0.0]
