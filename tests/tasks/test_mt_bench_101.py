"""MT-Bench-101: dialogues by type, with the replies that GPT-4 wrote."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.plan import build_task
from harness.session import Session
from harness.spec import TaskSpec
from harness.task import Drop
from tasks.mt_bench_101 import TYPES, MtBench101

FIXTURES = Path(__file__).parents[1] / "fixtures" / "mt_bench_101"
FILE = FIXTURES / "mtbench101.jsonl"


def split(items) -> tuple[list[Session], list[Drop]]:
    items = list(items)
    return (
        [item for item in items if isinstance(item, Session)],
        [item for item in items if isinstance(item, Drop)],
    )


def test_a_dialogue_is_a_session() -> None:
    general, spider, bus = split(MtBench101(path=FIXTURES).items())[0]
    assert general.id == "mt_bench_101-GR-1"
    assert general.turns == (
        "Who is older, Per or Siv, if Siv was born first?",
        "And if Ulf was born before Siv?",
        "So who is the youngest?",
    )
    assert general.references == ("Siv is older.", "Then Ulf is the oldest.", "Per is.")
    assert general.reference_kind == "model"
    assert general.gold is None
    assert general.metadata == {"type": "GR", "ability": "general reasoning"}
    assert general.source == {"file": "mtbench101.jsonl", "record": 1}
    assert spider.id == "mt_bench_101-SC-2"
    # A reply without text: what the user says before and after it is one turn.
    assert bus.turns == ("My bus is the 14.", "It goes at nine.\nWhen do I leave?")
    assert bus.references == ("Noted.", "At nine, with the 14.")


def test_what_is_left_out() -> None:
    drops = split(MtBench101(path=FILE).items())[1]
    assert [(d.reason, d.place, d.detail) for d in drops] == [
        ("empty_message", f"{FILE}:3", "mt_bench_101-CM-3"),
        ("duplicate_id", f"{FILE}:4", "mt_bench_101-GR-1"),
        ("no_user_turn", f"{FILE}:5", "mt_bench_101-TS-4"),
        ("broken_characters", f"{FILE}:6", "mt_bench_101-PI-5"),
    ]


@pytest.mark.parametrize("types", [["GR", "SC"], ("GR", "SC"), "GR+SC"])
def test_some_types_only(types) -> None:
    task = build_task(TaskSpec(name="mt_bench_101", args={"path": FILE, "types": types}), "here")
    sessions, drops = split(task.items())
    assert [s.id for s in sessions] == ["mt_bench_101-GR-1", "mt_bench_101-SC-2"]
    assert Counter(d.reason for d in drops) == {"other_type": 3, "duplicate_id": 1}


@pytest.mark.parametrize(
    ("types", "problem"),
    [
        (["GR", "SK"], r"types = .*no type 'SK'; valid: AR, CC, CM"),
        ("gr", r"no type 'gr'"),
        ([], r"names no type; leave it out for all of them"),
        (7, r"types = 7"),
    ],
)
def test_a_wrong_type_is_named(types, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        build_task(TaskSpec(name="mt_bench_101", args={"types": types}), "here")


GOOD = {"task": "GR", "id": 1, "history": [{"user": "Q?", "bot": "A."}]}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"id": 2, "history": []}', "'task' must be a string, not NoneType"),
        (json.dumps({**GOOD, "task": "XX"}), "'task' 'XX' is no type; valid: AR, CC"),
        (json.dumps({**GOOD, "id": "2"}), "'id' must be a whole number, not str"),
        (json.dumps({**GOOD, "id": True}), "'id' must be a whole number, not bool"),
        (json.dumps({**GOOD, "history": {}}), "'history' must be a list, not dict"),
        (json.dumps({**GOOD, "history": [{"user": "Q?"}]}), "'bot' must be a string, not NoneType"),
        (json.dumps({**GOOD, "history": ["Q?"]}), "'user' must be a string"),
        ("null", "'task' must be a string"),
        ('{"task": "GR", "id": 2, "hist', "not valid JSON at column"),
    ],
)
def test_malformed_lines(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "mtbench101.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{line}", "utf-8")
    with pytest.raises(UserError) as caught:
        list(MtBench101(path=tmp_path).items())
    assert caught.value.place == f"{path}:2"
    assert problem in caught.value.problem


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "mtbench101.jsonl").touch()
    with pytest.raises(UserError, match=r"mtbench101\.jsonl: the file is empty"):
        list(MtBench101(path=tmp_path).items())


def test_the_file_is_fetched_at_one_revision() -> None:
    (file,) = MtBench101.remote
    assert "/bc18b3e2c18c99164e11528f1a79c92083db5953/" in file.url


def test_the_real_sample(real_sample: Callable[[str], Path]) -> None:
    """Counted without the loader, in the raw text.

    `"task": ` and line ends 234 times each, `"user": ` and `"bot": ` 700 times each; the file has
    18 dialogues of each of the 13 types. Lengths by a script over `history`.
    """
    sessions, drops = split(
        MtBench101(path=real_sample("extra_mtbench101/mtbench101.head.jsonl")).items()
    )
    assert drops == []
    assert len(sessions) == 234
    assert sum(len(s.turns) for s in sessions) == 700
    assert sum(r is not None for s in sessions for r in s.references or ()) == 700
    assert Counter(s.metadata["type"] for s in sessions) == dict.fromkeys(TYPES, 18)
    lengths = Counter(len(s.turns) for s in sessions)
    assert lengths == {2: 87, 3: 83, 4: 44, 5: 19, 6: 1}
