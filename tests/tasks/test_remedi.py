"""ReMeDi: both published forms of the dialogues, and what is left out of them."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.session import Session
from harness.task import Drop
from tasks.remedi import OPENING, SYSTEM, Remedi

FIXTURES = Path(__file__).parents[1] / "fixtures" / "remedi"
BASE = FIXTURES / "ReMeDi-base.json"
TEXT = FIXTURES / "dev_human_annotation.txt"


def load(path: Path) -> tuple[list[Session], list[Drop]]:
    items = list(Remedi(path=path).items())
    return (
        [item for item in items if isinstance(item, Session)],
        [item for item in items if isinstance(item, Drop)],
    )


def told(drops: list[Drop]) -> list[tuple[str, int]]:
    """Reason and line of each drop."""
    return [(drop.reason, int(drop.place.rpartition(":")[2])) for drop in drops]


def test_what_one_side_says_in_a_row_is_one_message() -> None:
    session = load(BASE)[0][0]
    assert session.id == "remedi-ReMeDi-base-11"
    assert session.turns == ("膝盖痛了两天（女，33岁）\n下楼更痛", "没有扭伤", "谢谢")
    assert session.references == ("有没有扭伤？\n有肿吗？", "先休息三天", None)
    assert (session.task, session.language, session.license) == ("remedi", "zh", "MIT")
    assert session.reference_kind == "human"
    assert session.source == {"file": "ReMeDi-base.json", "record": "11"}
    assert session.system == SYSTEM


def test_what_the_doctor_says_first_is_told_in_the_prompt() -> None:
    session = load(BASE)[0][1]
    assert session.turns == ("耳朵里嗡嗡响",)
    assert session.system == f"{SYSTEM}\n\n{OPENING}\n你好，请讲"
    assert not any(c.isascii() and c.isalpha() for c in session.system)


def test_disease_and_topic_are_kept_where_they_are_given() -> None:
    facts = [session.metadata for session in load(BASE)[0]]
    assert facts == [{}, {}, {"disease": "外科>骨科>腰痛", "topic": "腰痛"}]


def test_all_that_is_left_out_is_told_with_its_line() -> None:
    sessions, drops = load(BASE)
    assert [s.source["record"] for s in sessions] == ["11", "12", "16"]
    assert told(drops) == [
        ("empty_message", 2),
        ("no_user_turn", 17),
        ("unknown_role", 20),
        ("duplicate_id", 24),
        ("duplicate_session", 28),
        ("no_user_turn", 38),
    ]
    assert drops[0].detail == "remedi-ReMeDi-base-11: message 6"
    assert drops[2].detail == "14: 'nurse'"


def test_the_text_form() -> None:
    sessions, drops = load(TEXT)
    assert [s.id for s in sessions] == [f"remedi-dev_human_annotation-{n}" for n in (1, 2, 4)]
    # The authors of the text form put what one side says in a row together without a mark.
    assert sessions[0].turns == ("膝盖痛了两天（女，33岁）下楼更痛", "没有扭伤")
    assert sessions[0].references == ("有没有扭伤？有肿吗？", "先休息三天")
    assert sessions[1].turns == ("牙龈出血",)
    assert sessions[1].system == f"{SYSTEM}\n\n{OPENING}\n你好，请讲"
    assert sessions[2].turns == ("眼睛干",)
    # The third dialogue's second line has another context than the first line left.
    assert told(drops) == [("context_mismatch", 8), ("empty_message", 10)]
    assert drops[0].detail == "dialogue 3"


def test_a_text_that_begins_within_a_dialogue(tmp_path: Path) -> None:
    lines = TEXT.read_text("utf-8").splitlines()
    path = tmp_path / "cut.txt"
    path.write_text("\n".join(lines[1:5]), "utf-8")
    sessions, drops = load(path)
    assert [s.turns for s in sessions] == [("牙龈出血",)]
    assert told(drops) == [("context_mismatch", 1)]


def test_the_content_tells_the_form(tmp_path: Path) -> None:
    text, base = tmp_path / "a.json", tmp_path / "b.txt"
    shutil.copy(TEXT, text)
    base.write_bytes(b"\xef\xbb\xbf" + BASE.read_bytes())
    assert [s.turns for s in load(text)[0]] == [s.turns for s in load(TEXT)[0]]
    assert [s.turns for s in load(base)[0]] == [s.turns for s in load(BASE)[0]]


def test_a_dialogue_in_both_forms_comes_once() -> None:
    sessions, drops = load(FIXTURES)
    assert [s.source["file"] for s in sessions].count("ReMeDi-base.json") == 3
    # The first: "谢谢" at its end, which nobody answers, is not in the text form.
    first = f"{TEXT}:1"
    assert [(d.reason, d.detail) for d in drops if d.place == first] == [
        ("duplicate_session", "remedi-dev_human_annotation-1")
    ]


def dialogue(id: int | None, *said: str) -> dict[str, Any]:
    messages = [
        {"turn": n, "role": ("patient", "doctor")[n % 2], "sentence": text}
        for n, text in enumerate(said)
    ]
    return {"dialogues": messages} if id is None else {"dialogue": id, "information": messages}


def test_every_layout_of_json_is_read(tmp_path: Path) -> None:
    one, two = dialogue(None, "头晕", "多久了", "三天"), dialogue(None, "胃痛", "吃了什么")
    layouts = {
        "array.json": json.dumps([one, two], ensure_ascii=False, indent=1),
        "lines.jsonl": "\n".join(json.dumps(d) for d in (one, two)),
        "object.json": json.dumps({"1": one, "2": two}),
        "single.json": json.dumps({"topic": None, **one}, indent=2),
    }
    for name, text in layouts.items():
        path = tmp_path / name
        path.write_text(text, "utf-8")
        stem = name.split(".")[0]
        sessions = load(path)[0]
        assert sessions[0].turns == ("头晕", "三天") and sessions[0].references == ("多久了", None)
        ids = [f"remedi-{stem}"] if stem == "single" else [f"remedi-{stem}-{n}" for n in (1, 2)]
        assert [s.id for s in sessions] == ids


def test_half_a_character_is_dropped_and_not_written(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    records = [dialogue(1, "痛\ud83d", "哪里"), {**dialogue(2, "痒", "哪里"), "topic": "\ud83d"}]
    path.write_text(json.dumps([*records, dialogue(3, "肿", "哪里")]), "utf-8")
    sessions, drops = load(path)
    assert [d.reason for d in drops] == ["broken_characters"] * 2
    assert [s.turns for s in sessions] == [("肿",)]


@pytest.mark.parametrize(
    ("content", "place", "problem"),
    [
        ("", "", "the file is empty"),
        (" \n", "", "nothing but blanks"),
        ('[\n{"dialogue": 1, "information": [{"role": "pat', ":2", "cut off"),
        ('[\n{"dialogue": 1}\n]', ":2", "list of messages, 'information' or 'dialogues'"),
        ('[{"dialogue": 1, "information": {}}]', ":1", "'information' is dict"),
        ('[{"dialogue": 1, "information": ["x"]}]', ":1: message 1", "'role' must be a string"),
        (
            '[{"dialogue": 1, "information": [{"role": "doctor"}]}]',
            ":1: message 1",
            "'sentence' must be a string, not NoneType",
        ),
        ('[{"dialogue": 1.5, "information": []}]', ":1", "'dialogue' must be an id"),
        ('[{"dialogue": true, "information": []}]', ":1", "'dialogue' must be an id"),
        ('[{"dialogue": "\\ud83d", "information": []}]', ":1", "not '\\ud83d'"),
        ('[\n\n"text"]', ":3", "must be an object, not str"),
        ('[{"dialogue": 1, "information": [], "topic": 3}]', ":1", "'topic' must be a string"),
        ('{"topic": "x"}', ":1", "list of messages"),
        (
            "<|endoftext|> <|context|> <|endofcontext|> <|currentuser|> 痛",
            ":1",
            "no whole <|response|>",
        ),
        ("\n<|endoftext|> <|response|> 好 <|endofresponse|>", ":2", "no whole <|context|>"),
        (
            "<|context|> <|endofcontext|> <|currentuser|> 痛 <|response|> 好 <|endofresponse|>",
            ":1",
            "no whole <|currentuser|>",
        ),
        (
            "<|context|> 痛 <|system|> 好 <|endofcontext|> <|response|> 好 <|endofresponse|>",
            ":1",
            "the context begins with '痛'",
        ),
    ],
)
def test_one_error_names_the_place(tmp_path: Path, content: str, place: str, problem: str) -> None:
    path = tmp_path / "data.json"
    path.write_text(content, "utf-8")
    with pytest.raises(UserError) as error:
        load(path)
    assert error.value.place == f"{path}{place}"
    assert problem in error.value.problem


def test_a_text_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "cut.txt"
    path.write_text(TEXT.read_text("utf-8")[:-60], "utf-8")
    with pytest.raises(UserError, match=r"cut\.txt:11: has no whole <\|response\|>"):
        load(path)


def test_the_real_text_form(real_sample) -> None:
    """Counted with grep: 39 lines with `<|context|> <|endofcontext|>`, 334 `<|currentuser|>`."""
    sessions, drops = load(real_sample("remedi/dev_human_annotation.head.txt"))
    assert (len(sessions), sum(len(s.turns) for s in sessions)) == (39, 334)
    assert all(s.references and None not in s.references for s in sessions)
    assert drops == []
    assert sessions[0].references is not None
    assert (len(sessions[0].turns), sessions[0].turns[-1][:4]) == (8, "别的还有")


def test_the_real_crawl_form(real_sample) -> None:
    """Counted with `grep '"role":' | uniq -c`: 64 messages in 18 runs of each side."""
    (session,), drops = load(real_sample("remedi/000001.session.json"))
    assert len(session.turns) == 18
    said = [*session.turns, *(r for r in session.references or () if r)]
    assert sum(text.count("\n") + 1 for text in said) == 64
    assert session.metadata == {"disease": "内科>感染科>病毒感染", "topic": "病毒感染"}
    assert drops == []


def test_the_real_folder(real_sample) -> None:
    sessions, drops = load(real_sample("remedi"))
    assert Counter(s.source["file"] for s in sessions) == {
        "000001.session.json": 1,
        "dev_human_annotation.head.txt": 39,
    }
    assert drops == []
