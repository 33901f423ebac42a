"""GSM8K, socratic: sub-questions become turns, marks become gold answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.session import Session
from harness.task import Drop
from tasks._answers import after_hashes, without_hashes
from tasks.gsm8k_socratic import Gsm8kSocratic

FIXTURES = Path(__file__).parents[1] / "fixtures" / "gsm8k_socratic"
TEST = FIXTURES / "test_socratic.jsonl"


def split(items) -> tuple[list[Session], list[Drop]]:
    items = list(items)
    return (
        [item for item in items if isinstance(item, Session)],
        [item for item in items if isinstance(item, Drop)],
    )


def test_a_problem_is_asked_step_by_step() -> None:
    (rolls, snail), drops = split(Gsm8kSocratic(path=TEST).items())
    assert drops == []
    assert rolls.id == "gsm8k_socratic-test-0001"
    assert rolls.turns == (
        "Ola bakes 4 trays of 12 rolls and keeps 8. She sells the others for $2 each. How much "
        "does she take?\n\nLet us go step by step. First: How many rolls does Ola bake?",
        "How many rolls does Ola sell?",
        "How much does she take?",
    )
    assert rolls.references == (
        "She bakes 4*12=48 rolls.",
        "She sells 48 - 8 = 40 rolls.",
        "She takes 40 * 2 = $80.",
    )
    assert rolls.gold == ("48", "40", "80")  # the last from "#### 80", not from the mark 80.00
    assert rolls.reference_kind == "human"
    assert rolls.system is not None
    assert r"\boxed{" in rolls.system
    assert rolls.source == {"file": "test_socratic.jsonl", "record": 1}

    assert snail.turns[0].endswith(
        "\nIt never slips.\n\nLet us go step by step. First: Define a variable"
    )
    assert snail.turns[1:] == (
        "How far does it climb a day?",
        "How far does it climb a day?",
        "What is that in percent, rounded?",
        "What does d come to?",
        "After how many days is it out?",
    )
    # No mark; a question that is asked again; the last of two marks; a percentage; a mark of a
    # variable; "#### 1,003".
    assert snail.gold == (None, None, "1/3", "33", "3", "1,003")
    assert snail.references is not None
    assert snail.references[4] == "d = 3, since 2**3 is not asked."


def test_the_last_line_of_hashes_counts() -> None:
    text = "One.\n#### 1\nNo, two: not #### 3.\n#### 2 \n"
    assert after_hashes(text) == "2"
    assert without_hashes(text) == "One.\n\nNo, two: not #### 3."


def test_what_is_left_out() -> None:
    sessions, drops = split(Gsm8kSocratic(path=FIXTURES / "train_socratic.jsonl").items())
    assert [(d.reason, d.detail[-4:], d.place.rpartition(":")[2]) for d in drops] == [
        ("malformed_step", "0001", "1"),
        ("no_answer", "0002", "2"),
        ("empty_message", "0003", "3"),
        ("no_user_turn", "0004", "4"),
        ("empty_message", "0005", "5"),
        ("broken_characters", "0006", "6"),
    ]
    # An empty step takes its reference with it and nothing else: turns and gold stay in line.
    (session,) = sessions
    assert session.id == "gsm8k_socratic-train-0005"
    assert session.turns[1] == "How many is it?"
    assert session.references == (None, "It is 4.")
    assert session.gold == (None, "4")


def test_a_folder_gives_test_before_train_and_the_hubs_files_the_same_ids(tmp_path: Path) -> None:
    ids = [s.id for s in Gsm8kSocratic(path=FIXTURES).sessions()]
    assert ids == [f"gsm8k_socratic-{n}" for n in ("test-0001", "test-0002", "train-0005")]

    import pyarrow
    import pyarrow.parquet

    rows = [json.loads(line) for line in TEST.read_text("utf-8").splitlines()]
    path = tmp_path / "test-00000-of-00001.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    ours, theirs = (list(Gsm8kSocratic(path=p).sessions()) for p in (TEST, tmp_path))
    assert [(s.id, s.turns, s.gold) for s in theirs] == [(s.id, s.turns, s.gold) for s in ours]

    (tmp_path / "test_socratic.jsonl").write_bytes(TEST.read_bytes())
    with pytest.raises(UserError, match="a second file of the part 'test'"):
        list(Gsm8kSocratic(path=tmp_path).items())


@pytest.mark.parametrize(
    ("line", "place", "problem"),
    [
        ('{"question": "Q?"}', ":2", "'answer' must be a string, not NoneType"),
        ('{"question": ["Q?"], "answer": "#### 1"}', ":2", "'question' must be a string, not list"),
        ('"Q?"', ":2", "'question' must be a string"),
        ('{"question": "Q?", "ans', ":2", "not valid JSON at column"),
    ],
)
def test_malformed_lines(tmp_path: Path, line: str, place: str, problem: str) -> None:
    path = tmp_path / "test_socratic.jsonl"
    path.write_text(TEST.read_text("utf-8").splitlines()[0] + "\n" + line, "utf-8")
    with pytest.raises(UserError) as caught:
        list(Gsm8kSocratic(path=path).items())
    assert caught.value.place == f"{path}{place}"
    assert problem in caught.value.problem


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "test_socratic.jsonl").touch()
    with pytest.raises(UserError, match=r"test_socratic\.jsonl: the file is empty"):
        list(Gsm8kSocratic(path=tmp_path).items())


def test_both_parts_are_fetched_at_one_revision() -> None:
    assert [file.name for file in Gsm8kSocratic.remote] == [
        "test_socratic.jsonl",
        "train_socratic.jsonl",
    ]
    assert all("/3101c7d5072418e28b9008a6636bde82a006892c/" in f.url for f in Gsm8kSocratic.remote)


def test_the_real_sample(real_sample: Callable[[str], Path]) -> None:
    r"""Counted without the loader.

    Records: `grep -c .` 200. Turns: `grep -o ' \*\* ' | wc -l` 697, and as many `**` at all.
    Gold, by awk over the lines of the answers: 439 steps that are not the last have a mark, the
    questions of 42 of them are asked again; with the 200 final answers 439 - 42 + 200 = 597.
    """
    path = real_sample("math/gsm8k_test_socratic.head.jsonl")
    sessions, drops = split(Gsm8kSocratic(path=path).items())
    assert drops == []
    assert len(sessions) == 200
    assert sum(len(s.turns) for s in sessions) == 697
    assert sum(g is not None for s in sessions for g in s.gold or ()) == 597
    assert all(None not in (s.references or (None,)) for s in sessions)
    assert not any("<<" in r for s in sessions for r in s.references or () if r)
    # The first of two steps to the same question has come to 12, which is no answer to it.
    assert sessions[12].turns[2] == sessions[12].turns[3]
    assert sessions[12].gold == ("10.5", "7.5", None, "13")
    # By the lines of the answers, less the "####" line: how many turns sessions have.
    lengths = Counter(len(s.turns) for s in sessions)
    assert lengths == {2: 64, 3: 52, 4: 40, 5: 23, 6: 10, 7: 10, 8: 1}


def accepted(path: Path) -> list[float]:
    """What the scorer says of each gold answer as a boxed reply."""
    from harness.quality.base import Resources
    from harness.quality.exact_match import ExactMatch

    golds = [gold for s in Gsm8kSocratic(path=path).sessions() for gold in s.gold or () if gold]
    replies = [rf"So it is \boxed{{{gold}}}." for gold in golds]
    return ExactMatch().score_texts(replies, golds, Resources())


def test_every_gold_answer_is_one_that_the_scorer_accepts() -> None:
    assert accepted(FIXTURES) == [1.0] * (3 + 4 + 1)


def test_every_gold_answer_of_the_sample_too(real_sample: Callable[[str], Path]) -> None:
    assert accepted(real_sample("math/gsm8k_test_socratic.head.jsonl")) == [1.0] * 597
