"""MT-Bench: questions with the replies of a second file, and the two that are wrong."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.data.files import sha256_of
from harness.errors import UserError
from harness.session import Session
from harness.task import Drop
from tasks.mt_bench import MtBench

FIXTURES = Path(__file__).parents[1] / "fixtures" / "mt_bench"
QUESTIONS = FIXTURES / "question.jsonl"
REFERENCES = FIXTURES / "reference_answer_gpt-4.jsonl"


def split(items) -> tuple[list[Session], list[Drop]]:
    items = list(items)
    return (
        [item for item in items if isinstance(item, Session)],
        [item for item in items if isinstance(item, Drop)],
    )


def test_questions_get_the_references_of_the_second_file() -> None:
    sessions, drops = split(MtBench(path=FIXTURES).items())
    assert [s.id for s in sessions] == [f"mt_bench-{n}" for n in (81, 103, 104, 131)]
    fence, clock, sisters, colours = sessions
    assert fence.turns == ("Write a short note to a neighbour about a fence.", "Now make it rhyme.")
    assert fence.references is None
    assert fence.reference_kind is None
    assert fence.metadata == {"category": "writing"}
    assert clock.references == ("It takes 30 seconds.", "No time at all.")
    assert clock.reference_kind == "model"
    assert clock.source == {"file": "question.jsonl", "record": 103}
    assert clock.metadata == {
        "category": "reasoning",
        "inline_reference": ["30 seconds, since there are ten gaps.", ""],
    }
    assert colours.references is None
    # Question 104: wrong references are left out and marked.
    assert sisters.references is None
    assert sisters.metadata["wrong_references"] == [1, 2]
    assert [(d.reason, d.place, d.detail) for d in drops] == [
        ("wrong_reference", f"{QUESTIONS}:3", f"mt_bench-104, turn {turn}") for turn in (1, 2)
    ]


def test_wrong_references_can_be_kept() -> None:
    sessions, drops = split(MtBench(path=QUESTIONS, keep_wrong_references=True).items())
    assert drops == []
    assert sessions[2].references == ("Ida has one sister.", "Ida has two sisters.")
    assert sessions[2].metadata["wrong_references"] == [1, 2]


def test_where_the_references_may_lie(tmp_path: Path) -> None:
    expected = list(MtBench(path=FIXTURES).sessions())
    # As in the repository, and as fetched: both files are handed to `read`.
    shutil.copy(QUESTIONS, tmp_path)
    (tmp_path / "reference_answer").mkdir()
    shutil.copy(REFERENCES, tmp_path / "reference_answer" / "gpt-4.jsonl")
    assert list(MtBench(path=tmp_path).sessions()) == expected
    assert split(MtBench().read([QUESTIONS, REFERENCES]))[0] == expected
    # By argument, which goes before the file that lies there.
    other = tmp_path / "other.jsonl"
    other.write_text(
        '{"question_id": 81, "choices": [{"turns": ["A note.", "A rhyme."]}]}\n', "utf-8"
    )
    sessions, drops = split(MtBench(path=tmp_path, reference_path=other).items())
    assert [s.references for s in sessions] == [("A note.", "A rhyme."), None, None, None]
    # Nothing of 104 is left out where there is nothing, and nothing is marked.
    assert drops == []
    assert "wrong_references" not in sessions[2].metadata
    # None at all.
    (tmp_path / "reference_answer" / "gpt-4.jsonl").unlink()
    assert {s.references for s in MtBench(path=tmp_path).sessions()} == {None}


def hub(path: Path) -> Path:
    """The questions as the hub has them: `prompt`, an empty `reference`, an id of its own."""
    import pyarrow
    import pyarrow.parquet

    records = [json.loads(line) for line in QUESTIONS.read_text("utf-8").splitlines()]
    rows = [
        {
            "category": r["category"],
            "prompt": r["turns"],
            "reference": r.get("reference", []),
            "prompt_id": 7_000 + r["question_id"],
        }
        for r in records
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_the_hubs_form_has_the_same_turns_and_no_references(tmp_path: Path) -> None:
    sessions, drops = split(MtBench(path=hub(tmp_path / "train.parquet")).items())
    ours = list(MtBench(path=QUESTIONS).sessions())
    assert drops == []
    assert [s.turns for s in sessions] == [s.turns for s in ours]
    assert [s.id for s in sessions] == [f"mt_bench-{n}" for n in (7081, 7103, 7104, 7131)]
    assert sessions[1].metadata == ours[1].metadata
    assert sessions[0].metadata == {"category": "writing"}
    assert {s.references for s in sessions} == {None}
    with pytest.raises(UserError, match="have no 'question_id'"):
        list(MtBench(path=tmp_path, reference_path=REFERENCES).items())


def test_empty_and_broken_turns_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "question.jsonl"
    path.write_text(
        '{"question_id": 1, "category": "a", "turns": ["Q?", " "]}\n'
        '{"question_id": 2, "category": "a", "turns": ["Q \\ud83d?", "R?"]}\n'
        '{"question_id": 3, "category": "a", "turns": ["Q?"], "reference": ["\\ud83d"]}\n',
        "utf-8",
    )
    sessions, drops = split(MtBench(path=path).items())
    assert sessions == []
    assert [(d.reason, d.place) for d in drops] == [
        ("empty_message", f"{path}:1"),
        ("broken_characters", f"{path}:2"),
        ("broken_characters", f"{path}:3"),
    ]


GOOD = {"question_id": 1, "category": "a", "turns": ["Q?", "R?"]}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"question_id": 2, "turns": ["Q?"]}', "'category' must be a string, not NoneType"),
        (json.dumps({**GOOD, "question_id": "2"}), "'question_id' must be a whole number, not str"),
        (json.dumps({**GOOD, "question_id": True}), "must be a whole number, not bool"),
        ('{"category": "a", "turns": ["Q?"]}', "'prompt_id' must be a whole number, not NoneType"),
        ('{"question_id": 2, "category": "a"}', "'prompt' must be a list of strings"),
        (json.dumps({**GOOD, "turns": "Q?"}), "'turns' must be a list of strings"),
        (json.dumps({**GOOD, "turns": ["Q?", None]}), "'turns' must be a list of strings"),
        (json.dumps({**GOOD, "turns": []}), "the question has no turns"),
        (json.dumps({**GOOD, "reference": "R"}), "'reference' must be a list of strings"),
        (json.dumps(GOOD), "question 1 is given twice"),
        ("7", "'category' must be a string"),
        ('{"question_id": 2, "cat', "not valid JSON at column"),
    ],
)
def test_malformed_questions(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "question.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{line}", "utf-8")
    with pytest.raises(UserError) as caught:
        list(MtBench(path=path).items())
    assert caught.value.place == f"{path}:2"
    assert problem in caught.value.problem


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"choices": [{"turns": ["A"]}]}', "'question_id' must be a whole number"),
        ('{"question_id": 9, "choices": []}', "'choices' must be a list with one choice or more"),
        ('{"question_id": 9, "choices": ["A"]}', "'turns' must be a list of strings"),
        ('{"question_id": 1, "choices": [{"turns": ["A", "B"]}]}', "question 1 has two references"),
        ("[]", "'question_id' must be a whole number"),
    ],
)
def test_malformed_references(tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "question.jsonl").write_text(json.dumps(GOOD), "utf-8")
    path = tmp_path / "reference_answer_gpt-4.jsonl"
    path.write_text(
        '{"question_id": 1, "choices": [{"turns": ["A", "B"]}]}\n' + line + "\n", "utf-8"
    )
    with pytest.raises(UserError) as caught:
        list(MtBench(path=tmp_path).items())
    assert caught.value.place == f"{path}:2"
    assert problem in caught.value.problem


def test_other_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "question.jsonl"
    path.touch()
    with pytest.raises(UserError, match=r"question\.jsonl: the file is empty"):
        list(MtBench(path=path).items())
    path.write_text(json.dumps(GOOD), "utf-8")
    short = tmp_path / "short.jsonl"
    short.write_text('{"question_id": 1, "choices": [{"turns": ["A"]}]}', "utf-8")
    with pytest.raises(UserError, match=r"jsonl:1: question 1 has 2 turns and 1 reference replies"):
        list(MtBench(path=path, reference_path=short).items())
    with pytest.raises(UserError, match=r"none\.jsonl: cannot be read"):
        list(MtBench(path=path, reference_path=tmp_path / "none.jsonl").items())
    with pytest.raises(UserError, match=r"holds the references; give question\.jsonl"):
        list(MtBench(path=REFERENCES).items())


def test_no_session_can_show_a_switch() -> None:
    assert all(
        len(s.turns) < MtBench.card.default_warm_turns + 2
        for s in MtBench(path=FIXTURES).sessions()
    )


def test_the_real_files(real_sample: Callable[[str], Path]) -> None:
    """Counted without the loader.

    Questions: `grep -c .` 80, two turns each; 39 with `"reference"` by `grep -c`; ten a category by
    `grep -o '"category": "[a-z]*"' | sort | uniq -c`. References: 30 lines, 101 to 130, two turns
    each, less the two of 104.
    """
    folder = real_sample("mt_bench")
    sessions, drops = split(MtBench(path=folder).items())
    assert len(sessions) == MtBench.card.sessions == 80
    assert sum(len(s.turns) for s in sessions) == MtBench.card.user_turns == 160
    assert [s.source["record"] for s in sessions] == list(range(81, 161))
    with_references = {s.source["record"] for s in sessions if s.references is not None}
    assert with_references == set(range(101, 131)) - {104}
    assert sum(r is not None for s in sessions for r in s.references or ()) == 58
    assert sum("inline_reference" in s.metadata for s in sessions) == 39
    assert set(Counter(s.metadata["category"] for s in sessions).values()) == {10}
    assert [d.reason for d in drops] == ["wrong_reference"] * 2
    for file in MtBench.remote:
        assert file.sha256 == sha256_of(folder / file.name)
        assert "/0e6d3e4beaab66f4d3f93db72541a4abab8af28d/" in file.url
