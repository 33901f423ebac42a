"""CaSiNo: which camper the model is, what it may know, and how deals are told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from harness.errors import UserError
from harness.session import Session
from harness.task import Drop
from tasks.casino import Casino

FIXTURES = Path(__file__).parents[1] / "fixtures" / "casino"
FILE = FIXTURES / "casino_valid.json"
REAL = "extra_casino/casino_valid.json"
Side = Literal["second", "mturk_agent_1", "mturk_agent_2"]


def load(path: Path, model_side: Side = "second") -> tuple[list[Session], list[Drop]]:
    items = list(Casino(path=path, model_side=model_side).items())
    return (
        [item for item in items if isinstance(item, Session)],
        [item for item in items if isinstance(item, Drop)],
    )


def test_the_user_begins_and_deals_are_written_out() -> None:
    session = load(FILE)[0][0]
    assert session.id == "casino-7"
    assert session.turns == (
        "Hello there!",
        "I could use food.",
        "I propose this deal: I take 3 food, 3 water and 1 firewood; "
        "you take 0 food, 0 water and 2 firewood.",
        "Fair.",
        "I accept the deal.",
    )
    assert session.references == (
        "Hi. Cold nights, eh?",
        "And I firewood.",
        "I reject the deal.\nThat leaves me hungry.",
        "I propose this deal: I take 1 food, 0 water and 3 firewood; "
        "you take 2 food, 3 water and 0 firewood.",
        None,
    )
    assert (session.reference_kind, session.license) == ("human", "CC-BY-4.0")
    assert session.source == {"file": "casino_valid.json", "record": 7}


def test_the_prompt_holds_what_the_models_side_wants_and_nothing_of_the_other() -> None:
    session = load(FILE)[0][0]
    assert session.system is not None
    for line in (
        "- Firewood matters most to you, 5 points a package. Your reason: Bob high reason {}\n",
        "- Food comes next, 4 points a package. Your reason: Bob medium reason\n",
        "- Water matters least, 3 points a package. Your reason: Bob low reason\n",
    ):
        assert line in session.system
    assert "Ann" not in session.system
    assert not any("reason" in turn for turn in session.turns)


def test_metadata_tells_the_outcome_by_side() -> None:
    made, walked = load(FILE)[0]
    assert made.metadata == {
        "model_agent": "mturk_agent_2",
        "deal_reached": True,
        "priorities": {
            "model": {"High": "Firewood", "Medium": "Food", "Low": "Water"},
            "user": {"High": "Food", "Medium": "Water", "Low": "Firewood"},
        },
        "points": {"model": 19, "user": 22},
        "deal": {
            "model": {"Food": 1, "Water": 0, "Firewood": 3},
            "user": {"Food": 2, "Water": 3, "Firewood": 0},
        },
    }
    assert walked.metadata["model_agent"] == "mturk_agent_1", "the second to speak"
    assert (walked.metadata["deal_reached"], walked.metadata["deal"]) == (False, None)
    assert walked.references == ("Evening! Water?", "I walk away from the negotiation.")


@pytest.mark.parametrize("side", ["second", "mturk_agent_1", "mturk_agent_2"])
def test_who_the_people_are_is_not_kept(side: Side) -> None:
    kept = repr(load(FILE, side)[0])
    for word in ("93", "martian", "venusian", "kindergarten", "proself", "extraversion", "6.25"):
        assert word not in kept


def test_a_chosen_agent_may_have_opened_the_conversation() -> None:
    first, second = load(FILE, "mturk_agent_1")[0]
    assert first.system is not None and second.system is not None
    assert first.system.endswith("with these words:\nHello there!")
    assert first.turns[0] == "Hi. Cold nights, eh?"
    assert "Ann high reason" in first.system and "Bob" not in first.system
    assert "with these words" not in second.system and second.turns[0] == "Good evening."
    assert load(FILE, "mturk_agent_2")[0][0].turns == load(FILE)[0][0].turns


def test_all_that_is_left_out_is_told_with_its_line() -> None:
    sessions, drops = load(FILE)
    assert [s.source["record"] for s in sessions] == [7, 3]
    assert [(drop.reason, int(drop.place.rpartition(":")[2]), drop.detail) for drop in drops] == [
        ("empty_message", 2, "casino-7: message 8"),
        ("unclear_deal", 4, "casino-8"),
        ("unknown_role", 5, "casino-9: 'mturk_agent_3'"),
        ("duplicate_id", 6, "casino-7"),
        ("no_user_turn", 7, "casino-10"),
    ]


def test_the_whole_and_its_split_in_one_folder_come_once(tmp_path: Path) -> None:
    for name in ("casino.json", "casino_valid.json"):
        (tmp_path / name).write_bytes(FILE.read_bytes())
    sessions, drops = load(tmp_path)
    assert [s.source["file"] for s in sessions] == ["casino.json"] * 2
    assert Counter(d.reason for d in drops)["duplicate_id"] == 1 + 6


def broken(change: Callable[[dict[str, Any]], object]) -> str:
    """The second dialogue of the fixture, changed, on line 3 of a file."""
    record = json.loads(FILE.read_text("utf-8"))[1]
    change(record)
    return "[\n\n" + json.dumps(record) + "]"


def propose(share: object) -> Callable[[dict[str, Any]], object]:
    data = {"issue2youget": share, "issue2theyget": {}}
    return lambda d: d["chat_logs"][1].update(text="Submit-Deal", task_data=data)


@pytest.mark.parametrize(
    ("content", "place", "problem"),
    [
        ("", "", "the file is empty"),
        (FILE.read_text("utf-8")[:900], ":2", "cut off"),
        ("[3]", ":1", "must be an object, not int"),
        ('{"dialogue_id": 3}', ":1", "must be an object, not int"),
        (broken(lambda d: d.pop("dialogue_id")), ":3", "'dialogue_id' must be a whole number"),
        (broken(lambda d: d.update(dialogue_id=True)), ":3", "whole number, not bool"),
        (broken(lambda d: d.pop("chat_logs")), ":3", "'chat_logs' must be a list"),
        (
            broken(lambda d: d["chat_logs"][2].pop("text")),
            ":3: message 3",
            "'text' must be a string",
        ),
        (broken(lambda d: d["chat_logs"].append(4)), ":3: message 5", "'id' must be a string"),
        (broken(lambda d: d.pop("participant_info")), ":3", "'participant_info' must be an object"),
        (
            broken(lambda d: d["participant_info"].pop("mturk_agent_2")),
            ":3",
            "'mturk_agent_2' must be an object",
        ),
        (
            broken(lambda d: d["participant_info"]["mturk_agent_2"]["value2issue"].pop("Low")),
            ":3: mturk_agent_2",
            "'Low' must be a string",
        ),
        (
            broken(
                lambda d: d["participant_info"]["mturk_agent_1"]["value2issue"].update(Low="Food")
            ),
            ":3: mturk_agent_1",
            "must rank Food, Water, Firewood, each once",
        ),
        (
            broken(lambda d: d["participant_info"]["mturk_agent_1"]["outcomes"].clear()),
            ":3: mturk_agent_1",
            "'points_scored' must be a whole number",
        ),
        (broken(propose(None)), ":3: message 2", "'issue2youget' must be an object"),
        (broken(propose({"Food": 2})), ":3: message 2", "'Food' must be a string, not int"),
    ],
)
def test_one_error_names_the_place(tmp_path: Path, content: str, place: str, problem: str) -> None:
    path = tmp_path / "casino.json"
    path.write_text(content, "utf-8")
    with pytest.raises(UserError) as error:
        load(path)
    assert error.value.place == f"{path}{place}"
    assert problem in error.value.problem


@pytest.mark.parametrize(
    ("side", "turns", "openings"),
    [("second", 206, 0), ("mturk_agent_1", 199, 14), ("mturk_agent_2", 201, 16)],
)
def test_the_real_validation_split(real_sample, side: Side, turns: int, openings: int) -> None:
    """Counted with awk over the ids in the raw file: 402 messages in 30 dialogues, of which agent
    1 opens 14 and 2 opens 16; runs of the first speaker 206, of agent 1 201, of agent 2 199.
    """
    sessions, drops = load(real_sample(REAL), side)
    assert (len(sessions), sum(len(s.turns) for s in sessions)) == (30, turns)
    assert sum("with these words" in (s.system or "") for s in sessions) == openings
    assert drops == []


def test_the_real_messages_and_deals_are_all_there(real_sample) -> None:
    """Counted with grep: 32 times Submit-Deal, 30 Accept-Deal, 2 Reject-Deal; 402 messages."""
    sessions = load(real_sample(REAL))[0]
    said = "\n".join(
        text for s in sessions for text in [*s.turns, *filter(None, s.references or ())]
    )
    messages = [line for line in said.split("\n") if line]
    starts = ("I propose this deal: I take", "I accept the deal.", "I reject the deal.")
    assert [sum(m.startswith(start) for m in messages) for start in starts] == [32, 30, 2]
    assert len(messages) == 402
    assert "-Deal" not in said
    assert all(s.metadata["deal_reached"] for s in sessions)


def test_the_real_points_are_those_of_the_deal(real_sample) -> None:
    """What each side gets, told from its own side, makes the points that the file says."""
    worth = {"High": 5, "Medium": 4, "Low": 3}
    for session in load(real_sample(REAL))[0]:
        facts = session.metadata
        for side in ("model", "user"):
            of = {issue: worth[level] for level, issue in facts["priorities"][side].items()}
            got = sum(of[issue] * count for issue, count in facts["deal"][side].items())
            assert got == facts["points"][side], session.id
