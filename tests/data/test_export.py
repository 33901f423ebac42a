"""`tasks export`: what is written loads back the same, and nothing is overwritten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from harness.commands.tasks_export import EXPORT_FORMS, export_task
from harness.errors import UserError
from harness.session import Session
from harness.task import Task, TaskCard
from tasks.drift import Drift
from tasks.jsonl import Jsonl
from tasks.maths import Maths
from tasks.negotiation import Negotiation
from tasks.planning import Planning
from tasks.roleplay import Roleplay

CARD = TaskCard("t", "l", "en", "o", "c", None, None, 3)


class Given(Task):
    """The sessions that a test gives."""

    given: tuple[Session, ...]
    then_fail: bool = False

    card: ClassVar[TaskCard] = CARD
    scorers: ClassVar[tuple[str, ...]] = ()

    def sessions(self) -> Iterator[Session]:
        yield from self.given
        if self.then_fail:
            raise UserError("data:9", "is damaged")


FULL = Session(
    id="full \u2028 \u202eid",
    task="given",
    turns=("Grüß dich\r\n", " und 雨? \U0001f327\u200b"),
    references=("Hallo", None),
    reference_kind="human",
    gold=(None, "4"),
    system="Be brief.",
    language="de",
    license="CC0-1.0",
    source={"file": "x", "record": 3},
    metadata={"shift_turn": 2, "rates": [0.5, None], "deep": {"a": True}},
)
BARE = Session(id="bare", task="given", turns=("one", "two", "three"))


def back(path: Path, task: str) -> list[Session]:
    return [replace(session, task=task) for session in Jsonl(path=path).sessions()]


@pytest.mark.parametrize("task", [Maths(), Negotiation(), Planning(), Roleplay()])
def test_a_bundled_task_loads_back_identical(tmp_path: Path, task: Task) -> None:
    sessions = list(task.sessions())
    export_task(task, "sessions", tmp_path / "out")
    assert back(tmp_path / "out", sessions[0].task) == sessions


def test_spliced_sessions_load_back_with_lists_for_tuples(tmp_path: Path) -> None:
    export_task(Drift(), "sessions", tmp_path / "out")
    written = back(tmp_path / "out", "drift")
    for session, found in zip(Drift().sessions(), written, strict=True):
        assert found.turns == session.turns
        assert found.metadata == json.loads(json.dumps(dict(session.metadata)))


def test_every_field_loads_back(tmp_path: Path) -> None:
    export_task(Given(given=(FULL, BARE)), "sessions", tmp_path / "out")
    assert back(tmp_path / "out", "given") == [FULL, BARE]
    assert len((tmp_path / "out").read_bytes().split(b"\n")) == 3


def test_a_blank_reference_is_written_as_none(tmp_path: Path) -> None:
    session = replace(FULL, references=("", "x"), gold=(" ", None), system="")
    export_task(Given(given=(session,)), "sessions", tmp_path / "out")
    (found,) = back(tmp_path / "out", "given")
    assert (found.references, found.gold, found.system) == ((None, "x"), (None, None), None)


def test_turns_by_id(tmp_path: Path) -> None:
    export_task(Given(given=(FULL, BARE)), "turns_by_id", tmp_path / "out")
    raw = json.loads((tmp_path / "out").read_text("utf-8"))
    assert raw == {FULL.id: list(FULL.turns), "bare": ["one", "two", "three"]}
    assert [(s.id, s.turns) for s in back(tmp_path / "out", "t")] == [
        (FULL.id, FULL.turns),
        ("bare", BARE.turns),
    ]


def test_messages(tmp_path: Path) -> None:
    full = replace(FULL, references=("Hallo", "Ja"), reference_kind="model")
    export_task(Given(given=(full, BARE)), "messages", tmp_path / "out")
    first, second = (tmp_path / "out").read_text("utf-8").rstrip("\n").split("\n")
    assert [(m["role"], m["content"]) for m in json.loads(first)["messages"]] == [
        ("system", "Be brief."),
        ("user", full.turns[0]),
        ("assistant", "Hallo"),
        ("user", full.turns[1]),
        ("assistant", "Ja"),
    ]
    assert json.loads(second) == {
        "id": "bare",
        "messages": [{"role": "user", "content": turn} for turn in BARE.turns],
    }
    one, two = back(tmp_path / "out", "t")
    assert one.turns == tuple(turn.strip() for turn in full.turns)
    assert (one.references, one.system) == (full.references, full.system)
    assert two.turns == BARE.turns


@pytest.mark.parametrize("form", EXPORT_FORMS)
def test_to_stdout(form: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    export_task(Given(given=(FULL, BARE)), form, None)
    printed = capfdbinary.readouterr().out
    export_task(Given(given=(FULL, BARE)), form, tmp_path / "out")
    assert printed == (tmp_path / "out").read_bytes() != b""


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(UserError, match="out: is there already"):
        export_task(Given(given=(BARE,)), "sessions", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "precious"


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (Given(given=(BARE,), then_fail=True), "data:9: is damaged"),
        (Given(given=()), "task: has no sessions to export"),
        (Given(given=(BARE, BARE)), "task: has two sessions 'bare'"),
        (Given(given=(replace(BARE, metadata={"x": float("nan")}),)), "session 'bare': cannot be"),
        (Given(given=(replace(BARE, metadata={"x": {1}}),)), "not JSON serializable"),
        (Given(given=(replace(BARE, system="\ud83d"),)), "session 'bare': cannot be written"),
    ],
)
def test_a_failed_export_leaves_nothing_behind(tmp_path: Path, task: Task, says: str) -> None:
    with pytest.raises(UserError, match=says):
        export_task(task, "sessions", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_to_or_is_no_form(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="out: cannot be written: No such file"):
        export_task(Given(given=(BARE,)), "sessions", tmp_path / "none" / "out")
    with pytest.raises(UserError, match="form: cannot export 'mesages'; did you mean 'messages'"):
        export_task(Given(given=(BARE,)), "mesages", None)
    with pytest.raises(UserError, match="form: cannot export 'conversations'"):
        export_task(Given(given=(BARE,)), "conversations", None)
