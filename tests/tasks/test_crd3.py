"""CRD3: turns out of overlapping chunks, cut into sessions of one speaker's replies."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.session import Session
from harness.task import Drop
from tasks._crd3_episode import Turn
from tasks.crd3 import Crd3, cut

FOLDER = Path(__file__).parents[1] / "fixtures" / "crd3"
EPISODE = FOLDER / "C1E900_2_0.json"


def read(path: Path = EPISODE, **arguments: Any) -> tuple[list[Session], list[Drop]]:
    items = list(Crd3(path=path, **arguments).items())
    return (
        [item for item in items if isinstance(item, Session)],
        [item for item in items if isinstance(item, Drop)],
    )


def chunks() -> list[dict[str, Any]]:
    return json.loads(EPISODE.read_text("utf-8"))


def test_turns_that_chunks_share_are_taken_once() -> None:
    (whole, stairs), _ = read()
    assert whole.id == "crd3-C1E900-00000" and stairs.id == "crd3-C1E900-00016"
    assert whole.turns == (
        "LAURA: I knock.\nSAM: I hide behind Laura.",
        "LAURA and MATT: Oh!",  # said together: no reply of MATT's
        "SAM: I go in last.",
        "ALL: We light torches!",
    )
    assert whole.references == (
        "Nobody answers.\nThen the lock clicks.",
        "The door is open.",
        "It is dark.",
        "You see stairs.",
    )
    assert (whole.reference_kind, whole.license) == ("human", "CC-BY-SA-4.0")
    assert whole.metadata == {
        "plays": "MATT",
        "episode": "C1E900",
        "first_turn": 0,
        "last_turn": 12,
    }


def test_the_first_words_open_the_session() -> None:
    whole = read()[0][0]
    assert whole.system is not None
    assert whole.system.endswith("these words:\nWelcome back. You stand before the iron door.")
    assert "You speak as MATT" in whole.system and "game master" in whole.system
    assert "At the table with you: LAURA, SAM.\n" in whole.system
    assert "What happened before" not in whole.system


def test_no_session_reaches_over_missing_turns() -> None:
    """Turns 13 to 15 are in no chunk, and neither is 19."""
    (_, stairs), drops = read()
    assert stairs.turns == ("LAURA: Down we go.", "SAM: I stop.")
    assert stairs.references == ("They creak.", None)
    assert [(d.reason, d.detail) for d in drops] == [
        ("empty_message", "C1E900: turn 6"),
        ("unknown_speaker", "C1E900: turn 8"),
        ("no_reply", "crd3-C1E900-00020"),
    ]
    assert [d.place for d in drops] == [f"{EPISODE}:{line}" for line in (4, 4, 7)]


def test_sessions_of_some_replies() -> None:
    sessions, _ = read(session_turns=2)
    assert [s.id[-5:] for s in sessions] == ["00000", "00009", "00016"]
    assert [len(s.turns) for s in sessions] == [2, 2, 2]
    assert sessions[1].turns[0] == "SAM: I go in last."
    assert sessions[1].system is not None and "You opened" not in sessions[1].system


def test_what_went_before_is_told_and_nothing_of_what_comes() -> None:
    """A summary counts as before when the last turn it is about comes before the session."""
    third = read(session_turns=2)[0][2]
    assert third.system is not None
    told = "The door opens. They hesitate. Sam goes last. Stairs lead down."
    assert f"What happened before: {told}\n" in third.system
    assert "stairs creak" not in third.system
    second = read(session_turns=2)[0][1]
    assert second.system is not None
    # The chunk of turns 3 to 9 ends inside this session, which begins at 9.
    assert "before: They reach an iron door. Laura knocks. The door opens.\n" in second.system


@pytest.mark.parametrize(("recap", "told"), [(0, None), (1, "before: Stairs lead down.\n")])
def test_the_length_of_the_recap(recap: int, told: str | None) -> None:
    third = read(session_turns=2, recap=recap)[0][2]
    assert third.system is not None
    if told is None:
        assert "What happened before" not in third.system
    else:
        assert told in third.system


def test_another_speaker() -> None:
    sessions, drops = read(speaker="SAM")
    assert [s.id[-5:] for s in sessions] == ["00000", "00016", "00020"]
    assert sessions[0].references == ("I hide behind Laura.", "I go in last.", None)
    assert sessions[0].system is not None and "game master" not in sessions[0].system
    # Turn 20 is SAM's and nobody spoke before it: it opens the last session.
    assert sessions[2].turns == ("LAURA: We are.",)
    assert Counter(d.reason for d in drops) == {"empty_message": 1, "unknown_speaker": 1}
    absent = read(speaker="ASHLEY")[1]
    assert Counter(d.reason for d in absent)["character_absent"] == 3


def test_a_folder_is_read_by_one_file_an_episode(tmp_path: Path) -> None:
    sessions, drops = read(FOLDER)
    assert {s.source["file"] for s in sessions} == {EPISODE.name}
    assert "duplicate_episode" not in {drop.reason for drop in drops}
    for name in ("C1E900_2_0.json", "C1E900_2_0.json.gz", "C1E901_2_0.json"):
        (tmp_path / name).write_bytes(EPISODE.read_bytes())
    sessions, drops = read(tmp_path)
    assert [s.metadata["episode"] for s in sessions] == ["C1E900"] * 2 + ["C1E901"] * 2
    assert [d.detail for d in drops if d.reason == "duplicate_episode"] == ["C1E900"]


def _turns(speakers: str) -> list[Turn]:
    return [Turn((name,), name.lower(), n, "x:1") for n, name in enumerate(speakers)]


@pytest.mark.parametrize(
    ("speakers", "replies", "parts"),
    [
        ("AMAMAM", 2, ["AMAM", "AM"]),
        ("AMMAMMAM", 2, ["AMMAMM", "AM"]),
        ("MAMAM", 1, ["MAM", "AM"]),  # the first words are no reply
        ("ABMBAM", 1, ["ABM", "BAM"]),
        ("AMAMA", 2, ["AMAM", "A"]),
        ("AMA", 2, ["AMA"]),
        ("MM", 1, ["MM"]),
        ("", 1, []),
    ],
)
def test_cut(speakers: str, replies: int, parts: list[str]) -> None:
    found = cut(_turns(speakers), "M", replies)
    assert ["".join(turn.names[0] for turn in part) for part in found] == parts


def test_turns_come_by_number_whatever_the_order_of_chunks(tmp_path: Path) -> None:
    path = tmp_path / EPISODE.name
    path.write_text(json.dumps(chunks()[::-1]), encoding="utf-8")
    assert [(s.turns, s.references) for s in read(path)[0]] == [
        (s.turns, s.references) for s in read()[0]
    ]


def test_turns_that_disagree(tmp_path: Path) -> None:
    bad = chunks()
    bad[2]["TURNS"][0]["UTTERANCES"] = ["Somebody answers."]
    path = tmp_path / "C1E900_2_0.json"
    path.write_text("[\n" + ",\n".join(map(json.dumps, bad)) + "\n]\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"turn 3 is not what the chunk at {path}:2 says") as caught:
        read(path)
    assert caught.value.place == f"{path}:4"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"CHUNK": None}, "'CHUNK' must be a string"),
        ({"TURNS": None}, "'TURNS' must be a list"),
        ({"TURNS": ["hello"]}, "a turn must be an object, not str"),
        ({"TURNS": [{"NAMES": ["MATT"], "UTTERANCES": ["Hi"]}]}, "'NUMBER' of a turn must be"),
        ({"TURNS": [{"NAMES": ["M"], "UTTERANCES": ["Hi"], "NUMBER": "1"}]}, "not '1'"),
        (
            {"TURNS": [{"NAMES": "MATT", "UTTERANCES": ["Hi"], "NUMBER": 40}]},
            r"\(turn 40\): 'NAMES' must be a list of strings",
        ),
        (
            {"TURNS": [{"NAMES": ["MATT"], "UTTERANCES": "Hi", "NUMBER": 40}]},
            r"\(turn 40\): 'UTTERANCES' must be a list of strings",
        ),
    ],
)
def test_what_is_not_of_the_schema(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    first = chunks()[0]
    path = tmp_path / "C1E900_2_0.json"
    path.write_text(f"[\n{json.dumps(first)},\n{json.dumps(first | change)}\n]", encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert caught.value.place.startswith(f"{path}:3")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("[]", "holds no turns"),
        ('[{"CHUNK": "A.", "TURNS": []}]', "holds no turns"),
        (EPISODE.read_text("utf-8")[:1500], "it was cut off"),
    ],
)
def test_damaged_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "C1E900_2_0.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read(path)


def test_the_real_sample(real_sample) -> None:
    """Counted without the loader: all turns by NUMBER in one dict, which has 0 to 538 (566 turns
    in 28 chunks); the runs of `NAMES == ["MATT"]` in their order are 162, and so are the runs of
    all others; the first run is MATT's, the last one is not. So every run of others but the last
    has a reply, the 161 replies make 13 sessions of 12 and one of 5, and the last run of others
    is the last session's sixth turn.
    """
    sessions, drops = read(real_sample("multi_char/crd3_C1E001_2_0.head.json"))
    assert drops == []
    assert [len(s.turns) for s in sessions] == [12] * 13 + [6]
    assert sum(len(s.turns) for s in sessions) == 162
    replies = [reply for s in sessions for reply in s.references or ()]
    assert replies.count(None) == 1 and replies[-1] is None
    spans = [(s.metadata["first_turn"], s.metadata["last_turn"]) for s in sessions]
    assert spans[0][0] == 0 and spans[-1][1] == 538
    assert all(last + 1 == first for (_, last), (first, _) in pairwise(spans))
    assert all(s.metadata["episode"] == "C1E001" for s in sessions)
    assert any("ORION and MATT: Hi." in turn for turn in sessions[0].turns)
