"""LIGHT multi-party chat: acts that build up to a scene, and the released scenes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import UserError
from harness.session import Session
from harness.task import Drop
from tasks.light import Light

FIXTURES = Path(__file__).parents[1] / "fixtures" / "light"
ACTS, SCENES = FIXTURES / "light_train.yml", FIXTURES / "valid.jsonl"


def read(path: Path, **arguments: Any) -> tuple[list[Session], Counter[str]]:
    items = list(Light(path=path, **arguments).items())
    return (
        [item for item in items if isinstance(item, Session)],
        Counter(item.reason for item in items if isinstance(item, Drop)),
    )


def acts() -> list[list[dict[str, Any]]]:
    return yaml.safe_load(ACTS.read_text("utf-8"))["acts"]


def write(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_acts_build_up_to_scenes() -> None:
    (mill, court), drops = read(ACTS)
    assert not drops
    assert mill.id == "light-light_train-00001" and court.id == "light-light_train-00002"
    assert mill.metadata["plays"] == "miller"  # as many lines as his wife, and speaks first
    assert mill.turns == (
        "crow: Is that barley?",
        "miller's wife, deaf: Whom do you shout at?",
        "crow: Caw.\nmiller's wife, deaf: Leave it a handful.",
    )
    assert mill.references == ("Away with you!", "At the crow, love.", None)
    assert (mill.reference_kind, mill.license) == ("human", "MIT")
    assert court.metadata["plays"] == "ghost"
    assert court.turns == ("thief: Who coughs there?", "moth: Is there a lamp?")


def test_location_and_personas_are_told() -> None:
    mill = read(ACTS)[0][0]
    assert mill.system is not None
    assert "Setting: Old mill. The wheel has not turned since spring." in mill.system
    assert "- miller: I grind what they bring me.\n- miller's wife, deaf: I watch lips." in (
        mill.system
    )
    assert mill.metadata["characters"] == ["miller", "miller's wife, deaf", "crow"]


def test_the_released_scenes_give_the_same_sessions() -> None:
    built, _ = read(ACTS)
    released, _ = read(SCENES)
    for one, other in zip(built, released, strict=True):
        assert (one.system, one.turns, one.references) == (
            other.system,
            other.turns,
            other.references,
        )
    assert [s.metadata["quality_tier"] for s in released] == [1, 2]
    assert [s.source["record"] for s in released] == [1, 2]


def test_a_chosen_character() -> None:
    sessions, drops = read(SCENES, character="crow")
    (mill,) = sessions
    assert mill.system is not None and mill.system.endswith("these words:\nIs that barley?")
    assert mill.references == ("Caw.", None)
    assert drops == {"character_absent": 1}


def test_a_longer_scene_may_follow_a_shorter_one(tmp_path: Path) -> None:
    """Acts of one scene are left out where a teacher filters by speaker: lengths may jump."""
    every = acts()
    sessions, _ = read(write(tmp_path / "a.yml", {"acts": [every[5], every[2], every[4]]}))
    assert [s.metadata["plays"] for s in sessions] == ["ghost", "miller"]
    assert [len(s.turns) for s in sessions] == [1, 3]


def test_a_shorter_scene_of_the_same_characters_may_follow(tmp_path: Path) -> None:
    first, second = acts()[2][0], acts()[0][0]
    second |= {"full_context": ["crow: Anyone at home?"]}
    sessions, _ = read(write(tmp_path / "a.yml", {"acts": [[first], [second]]}))
    assert [s.turns[0] for s in sessions] == ["crow: Is that barley?", "crow: Anyone at home?"]


def test_a_name_may_hold_a_colon(tmp_path: Path) -> None:
    act = acts()[0][0] | {
        "personas": [{"name": name, "persona": "I heal."} for name in ("doctor", "doctor: night")],
        "full_context": ["doctor: How is he?"],
        "labels": ["doctor: night: Asleep: at last."],
    }
    ((session,), _) = read(write(tmp_path / "a.yml", {"acts": [[act]]}))
    assert session.metadata["plays"] == "doctor: night"
    assert session.references == ("Asleep: at last.",)


def test_what_is_left_out_is_placed_where_its_scene_begins(tmp_path: Path) -> None:
    every = acts()
    every[6][0]["labels"] = every[7][0]["full_context"][2:] = ["moth: "]
    path = write(tmp_path / "a.yml", {"acts": every})
    drops = [item for item in Light(path=path).items() if isinstance(item, Drop)]
    lines = path.read_text("utf-8").splitlines()
    starts = [n for n, line in enumerate(lines, start=1) if line.startswith("- -")]
    assert [(d.reason, d.place) for d in drops] == [("empty_message", f"{path}:{starts[5]}")]


def test_a_context_that_disagrees(tmp_path: Path) -> None:
    spoilt = acts()
    spoilt[3][0]["full_context"][1] = "miller: Welcome!"
    path = write(tmp_path / "bad.yml", {"acts": spoilt})
    with pytest.raises(UserError, match="line 2 of 'full_context' is not what the act before") as e:
        read(path)
    lines = path.read_text("utf-8").splitlines()
    starts = [n for n, line in enumerate(lines, start=1) if line.startswith("- -")]
    assert e.value.place == f"{path}:{starts[3]}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"full_context": "crow: Caw."}, "'full_context' must be a list of strings"),
        ({"full_context": [3]}, "'full_context' must be a list of strings"),
        ({"labels": None}, r"'labels' \(or 'eval_labels'\) must be a list of strings"),
        ({"labels": []}, "has 0 labels where one was expected"),
        ({"labels": ["miller: A.", "miller: B."]}, "has 2 labels"),
        ({"labels": ["miller: __SILENCE__"]}, "give those of all speakers"),
        ({"labels": ["fox: Hello."]}, "no character says 'fox: Hello.'; characters: miller,"),
        ({"personas": None}, "'personas' must be a list"),
        ({"personas": [{"name": "crow"}]}, "no character says 'miller: Away"),
        ({"location": None}, "'name' must be a string, not NoneType"),
        ({"location": {"name": "Mill"}}, "'description' must be a string"),
    ],
)
def test_acts_that_are_not_of_the_schema(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "bad.yml", {"acts": [[acts()[0][0] | change]]})
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert caught.value.place == f"{path}:2"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", "", "empty"),
        ("acts: []\n", "", "'acts' is empty"),
        ("episodes: 3\n", "", "no file of acts"),
        ("just words\n", "", "no file of acts"),
        ("acts: {a: 1}\n", "", "no file of acts"),
        ("acts:\n- - hello\n", ":2", "an act must be a mapping, not str"),
        ("acts:\n- - a: 1\n   b: [\n", ":3", "not valid YAML"),
        ("acts: !!python/object:os.system x\n", ":1", "not valid YAML"),
        ("acts: !!bool perhaps\n", "", "not valid YAML"),
        ("acts: \x07\n", "", "not valid YAML"),
        ("acts: " + "[" * 1000 + "\n", "", "not valid YAML"),
    ],
)
def test_files_that_are_not_acts(tmp_path: Path, text: str, place: str, message: str) -> None:
    path = tmp_path / "bad.yml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert caught.value.place == f"{path}{place}"


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "cut.yml"
    path.write_text(ACTS.read_text("utf-8")[:700], encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read(path)
    assert caught.value.place.startswith(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"messages": None}, "is no scene"),
        ({"messages": [{"speaker": "crow"}]}, "'text' must be a string"),
        ({"messages": ["Caw."]}, "'speaker' must be a string"),
        ({"characters": None}, "'characters' must be a list"),
        ({"characters": ["crow"]}, "'name' must be a string"),
        ({"characters": [{"name": "crow"}]}, "'persona' must be a string"),
        ({"location": "here"}, "'name' must be a string"),
    ],
)
def test_scenes_that_are_not_of_the_schema(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    first = SCENES.read_text("utf-8").splitlines()[0]
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{first}\n{json.dumps(json.loads(first) | change)}\n", encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert caught.value.place == f"{path}:2"


def test_an_empty_line_and_a_repeated_file(tmp_path: Path) -> None:
    record = json.loads(SCENES.read_text("utf-8").splitlines()[0])
    record["messages"][1]["text"] = " "
    for name in ("valid.jsonl", "valid.jsonl.gz"):
        (tmp_path / name).write_text(json.dumps(record), encoding="utf-8")
    sessions, drops = read(tmp_path)
    assert len(sessions) == 1 and drops == {"empty_message": 1, "duplicate_id": 1}
    assert sessions[0].metadata["plays"] == "miller's wife, deaf"


# Read off the files by hand: the last act's `full_context` has five lines, with its label six.
@pytest.mark.parametrize(
    ("split", "plays", "turns", "last"),
    [
        ("train", "young boy", 3, "I saw a ghost"),
        ("valid", "princess", 3, "out upon the hills"),
        ("test", "undead warrior", 3, "What is a fish doing"),
    ],
)
def test_the_real_samples(real_sample, split: str, plays: str, turns: int, last: str) -> None:
    sessions, drops = read(real_sample(f"multi_char/light_multiparty_{split}.yml"))
    (session,) = sessions
    assert not drops
    assert len(session.turns) == turns
    assert session.metadata["plays"] == plays
    assert session.references is not None
    assert any(last in str(reference) for reference in session.references)
    lines = sum(turn.count("\n") + 1 for turn in session.turns)
    assert lines + sum(r is not None for r in session.references) == 6
