"""Multi-character dialogue: who is played, what the model is told, what is left out."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.session import Session
from harness.task import Drop
from tasks._cast import Spoken, as_lines, cast
from tasks.multi_char import MultiChar

FIXTURE = Path(__file__).parents[1] / "fixtures" / "multi_char" / "train.jsonl"


def read(path: Path = FIXTURE, **arguments: Any) -> tuple[dict[str, Session], Counter[str]]:
    items = list(MultiChar(path=path, **arguments).items())
    sessions = [item for item in items if isinstance(item, Session)]
    return (
        {session.id: session for session in sessions},
        Counter(item.reason for item in items if isinstance(item, Drop)),
    )


def records() -> list[dict[str, Any]]:
    return [json.loads(line) for line in FIXTURE.read_text("utf-8").splitlines()]


def test_the_others_lines_since_the_last_reply_are_one_turn() -> None:
    ferry = read()[0]["multi_char-train-00001"]
    assert ferry.metadata["plays"] == "Bram"  # three lines; Ilse has two and begins
    assert ferry.turns == (
        "Ilse: Tickets, please. All of you.",
        "Noor: I, uh, lost mine.",
        "Ilse: At nine years old?\nNoor: Ten, nearly.",
    )
    assert ferry.references == ("I work here, Ilse.", "She is with me.\nA kitchen hand.", None)
    assert ferry.reference_kind == "model"
    assert ferry.license == "CC-BY-4.0"
    assert ferry.source == {"file": "train.jsonl", "record": 1}


def test_the_scene_is_told_and_its_outcome_is_not() -> None:
    ferry = read()[0]["multi_char-train-00001"]
    assert ferry.system is not None
    for words in (
        "You play Bram",
        "A night ferry in fog.",
        "- Ilse: The purser, tired and exact.",
        "- Bram: A cook who fears water.",
        "- Noor: A stowaway of nine years.",
    ):
        assert words in ferry.system
    outcome = "Ilse punches an empty ticket and lets them pass."
    assert ferry.metadata["outcome"] == outcome
    opening = ferry.opening()
    assert outcome not in str(opening) and "empty ticket" not in " ".join(ferry.turns)


def test_a_chosen_character_may_begin() -> None:
    sessions, drops = read(character="Ilse")
    (ferry,) = sessions.values()
    assert ferry.system is not None
    assert ferry.system.endswith(
        "You opened the conversation with these words:\nTickets, please. All of you."
    )
    assert ferry.turns == (
        "Bram: I work here, Ilse.\nNoor: I, uh, lost mine.\nBram: She is with me.\n"
        "Bram: A kitchen hand.",
        "Noor: Ten, nearly.",
    )
    assert ferry.references == ("At nine years old?", None)
    assert drops["character_absent"] == 4


def test_a_voice_that_is_not_described_is_not_played() -> None:
    """The narrator has most lines; of the two characters with one line each, Ravi speaks first."""
    greenhouse = read()[0]["multi_char-train-00002"]
    assert greenhouse.metadata["plays"] == "Ravi"
    assert greenhouse.turns == (
        "Narrator: The glass ticks in the sun.\nNarrator: A fan starts.",
        "Narrator: Ada puts the can down.\nAda: Then sell the car.",
    )


def test_other_layouts_of_a_record() -> None:
    """Characters as a list, lines as speaker and text, descriptions in parts, nulls."""
    lighthouse = read()[0]["multi_char-train-00003"]
    assert lighthouse.turns == ("Mara: Is the lamp lit?",)
    assert lighthouse.references == ("Since four.",)
    assert lighthouse.system is not None
    assert "Setting: A lighthouse, winter" in lighthouse.system
    assert "- Finn: age: sixty; trade: keeper\n- Mara\n" in lighthouse.system
    assert "Otto" not in lighthouse.system  # no description, no line: a typed table's filler
    assert lighthouse.metadata["characters"] == ["Finn", "Mara"]
    assert lighthouse.metadata["outcome"] is None


def test_what_is_left_out_is_counted() -> None:
    sessions, drops = read()
    assert [name[-1] for name in sessions] == ["1", "2", "3"]
    assert drops == {
        "empty_message": 2,  # Ada's first, Mara's second
        "unknown_speaker": 1,
        "no_user_turn": 2,  # one voice only, and no line at all
    }


def test_gzip_as_published_and_a_table_of_typed_columns(tmp_path: Path) -> None:
    packed = tmp_path / "train.jsonl.gz"
    packed.write_bytes(gzip.compress(FIXTURE.read_bytes()))
    expected, drops = read()
    found, found_drops = read(packed)
    assert found_drops == drops
    assert [s.turns for s in found.values()] == [s.turns for s in expected.values()]
    assert list(found) == list(expected)

    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_pylist(records()[:2]), table)
    rows, _ = read(table)
    assert [(s.system, s.turns) for s in rows.values()] == [
        (s.system, s.turns) for s in list(expected.values())[:2]
    ]


def test_names_of_records_are_taken_once(tmp_path: Path) -> None:
    for name in ("train.jsonl", "train.jsonl.gz", "more.jsonl"):
        (tmp_path / name).write_bytes(FIXTURE.read_bytes())
    sessions, drops = read(tmp_path)
    assert len(sessions) == 6 and drops["duplicate_id"] == 5


def test_lines_said_together_stay_with_the_others() -> None:
    lines = [Spoken(("A",), "One."), Spoken(("B", "A"), "Two."), Spoken(("B",), " Three. ")]
    assert [(line.speaker, line.text) for line in as_lines(lines, "B")] == [
        ("user", "A: One."),
        ("user", "B and A: Two."),
        ("model", " Three. "),
    ]


@pytest.mark.parametrize(
    ("speakers", "described", "plays"),
    [
        ("ABBC", "ABC", "B"),
        ("ABCC", "ABC", "C"),
        ("ABCBC", "ABC", "B"),
        ("AAABC", "ABC", "B"),
        ("ABCC", "AB", "B"),  # C is not described
        ("ABCC", "A", "C"),  # nobody else is
        ("AA", "AB", None),
        ("", "AB", None),
    ],
)
def test_cast(speakers: str, described: str, plays: str | None) -> None:
    assert cast([Spoken((name,), "Hm.") for name in speakers], described) == plays


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"setting": None}, "has no 'setting'"),
        ({"characters": None}, "has no 'characters'"),
        ({"conversation": None}, "has no 'conversation'"),
        ({"characters": "Ilse"}, "'characters' must map names to descriptions, not be str"),
        ({"characters": ["Ilse"]}, "'name' must be a string"),
        ({"conversation": "Hi"}, "'conversation' must be a list, not str"),
        ({"conversation": ["Hi"]}, r"\(line 1 of the conversation\): 'from' must be a string"),
        (
            {"conversation": [{"from": "A", "message": "Hi"}, {"message": "Hi"}]},
            r"\(line 2 of the conversation\): 'from' must be a string",
        ),
        ({"conversation": [{"from": "A"}]}, "'message' must be a string"),
        ({"conversation": [{"from": "A", "message": 3}]}, "'message' must be a string, not int"),
        ({"conversation": [{"speaker": "A", "message": "Hi"}]}, "'text' must be a string"),
    ],
)
def test_what_is_not_of_the_schema(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    good, bad = records()[0], records()[0] | change
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n", encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert caught.value.place.startswith(f"{path}:2")


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(gzip.compress(FIXTURE.read_bytes())[:-40])
    with pytest.raises(UserError, match="damaged"):
        read(path)
    path = tmp_path / "cut.jsonl"
    path.write_text(FIXTURE.read_text("utf-8")[:900], encoding="utf-8")
    with pytest.raises(UserError, match=r"cut\.jsonl:2: not valid JSON"):
        read(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="empty"):
        read(path)
    path.write_text('"hello"\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"cut\.jsonl:1: a record must be an object, not str"):
        read(path)
