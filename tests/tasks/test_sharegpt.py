"""ShareGPT: what becomes of records, what is left out and why, filters, and malformed files."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.errors import UserError
from tasks.sharegpt import Sharegpt
from tests.tasks.sharegpt_records import read, record, written

CHATS = Path(__file__).parents[1] / "fixtures" / "sharegpt" / "chats.json"


def test_the_fixture_yields_what_was_planted_in_it() -> None:
    """One record on each line from line 2 on; sessions stand where their last part stands."""
    sessions, drops = read(CHATS)
    assert [(s.id, len(s.turns), s.metadata["parts"]) for s in sessions] == [
        ("plain_0", 1, ["plain_0"]),
        ("oVr7lap_0", 4, ["oVr7lap_0", "oVr7lap_3"]),
        ("tRn4kQw_0", 3, ["tRn4kQw_0", "tRn4kQw_4"]),
        ("gApped1_0", 1, ["gApped1_0"]),
        ("identity_0", 2, ["identity_0"]),
        ("identity_1", 1, ["identity_1"]),
        ("identity_2", 1, ["identity_2"]),
        ("identity_7", 1, ["identity_7"]),
        ("engines_0", 3, ["engines_0"]),
        ("blanks2_0", 2, ["blanks2_0"]),
        ("greeted_0", 1, ["greeted_0"]),
        ("wholeone", 1, ["wholeone"]),
    ]
    assert [(d.reason, d.place, d.detail) for d in drops] == [
        (reason, f"{CHATS}:{line}", detail)
        for reason, line, detail in [
            ("missing_part", 8, "gApped1_4"),
            ("missing_part", 9, "gApped1_6"),
            ("missing_part", 10, "lOst5gp_5"),
            ("missing_part", 11, "lOst8hu_8"),
            ("duplicate_part", 12, "tRn4kQw_4"),
            ("duplicate_part", 13, "tRn4kQw_0"),
            ("conflicting_part", 14, "tRn4kQw_4"),
            ("duplicate_session", 19, "copied9_0"),
            ("unknown_role", 21, "tooled3_0: 'tool'"),
            ("missing_part", 22, "tooled3_3"),
            ("empty_message", 23, "blanks2_0"),
            ("empty_message", 23, "blanks2_0"),
            ("empty_message", 23, "blanks2_0"),
            ("no_user_turn", 24, "nothing_0"),
            ("no_user_turn", 25, "only1gp_0"),
        ]
    ]


def test_what_is_said_becomes_turns_references_and_system_prompt() -> None:
    sessions = {s.id: s for s in read(CHATS)[0]}
    overlapped = sessions["oVr7lap_0"]
    assert overlapped.turns == (
        "I want to bake buns.",
        "A dozen.",
        "Fine. How many eggs is that?",
        "And for half of it?",
    )
    assert overlapped.references == ("How many?", "Twelve, then.", "Three.", None)
    assert overlapped.source == {"file": "chats.json", "record": "oVr7lap_0"}
    assert (overlapped.reference_kind, overlapped.language) == ("model", "und")
    plain = sessions["plain_0"]
    assert plain.system == "Answer in one line."
    assert plain.references == (
        '<div class="markdown"><p>Use <code>&lt;b&gt;</code> tags.</p></div>',
    )
    assert sessions["engines_0"].references == ("A bird.", "A wren.", "Zaunkönig.")
    assert sessions["engines_0"].turns[2] == "Und auf Deutsch? Übersetze 🙂"
    assert sessions["blanks2_0"].turns == ("One thing.\nAnother thing.", "Go on.")
    assert sessions["blanks2_0"].references == ("First reply.\nSecond reply.", None)
    assert sessions["greeted_0"].system is not None
    assert "Welcome to the shop." in sessions["greeted_0"].system


def test_real_conversations(real_sample: Callable[[str], Path]) -> None:
    """Counted with a script that only looks at the JSON: 5 records, the last of which begins at
    the end of the one before it (hRPPgZT_0 has 8 messages, then hRPPgZT_8); 14 messages of
    humans; no two alike, none empty."""
    sessions, drops = read(real_sample("sharegpt/dialogstudio_original_example.json"))
    turns = {s.id: len(s.turns) for s in sessions}
    assert turns == {"QWJhYvA_0": 5, "i6IyJda_0": 1, "A5AbcES_0": 1, "hRPPgZT_0": 7}
    assert drops == []
    assert all(s.references is not None and None not in s.references for s in sessions)


def test_real_records_whose_numbers_are_no_indices(real_sample: Callable[[str], Path]) -> None:
    """identity_0 to identity_499; a set of their messages as JSON has 500 members, and 1,000 of
    their messages are from humans."""
    sessions, drops = read(real_sample("sharegpt/fastchat_dummy_conversation.json"))
    assert [s.id for s in sessions] == [f"identity_{n}" for n in range(500)]
    assert sum(len(s.turns) for s in sessions) == 1000
    assert drops == []


def test_system_messages_wherever_they_stand(tmp_path: Path) -> None:
    parts = [record("a_0", "s S", "h 0", "g 1"), record("a_3", "h 2", "s T", "g 3")]
    ((session,), _) = read(written(tmp_path, parts))
    assert (session.system, session.references) == ("S\n\nT", ("1", "3"))


def test_other_layouts(tmp_path: Path) -> None:
    """Compressed, one record per line, parquet, and the older word for the messages."""
    import pyarrow
    import pyarrow.parquet

    expected, _ = read(CHATS)
    expected = [s for s in expected if s.id in ("plain_0", "oVr7lap_0")]
    raw = json.loads(CHATS.read_text("utf-8"))
    kept = [r for r in raw if r["id"].startswith(("plain", "oVr7lap"))]
    packed = tmp_path / "a.json.gz"
    packed.write_bytes(gzip.compress(json.dumps(kept).encode()))
    lines = tmp_path / "b.jsonl"
    lines.write_text("\n".join(map(json.dumps, kept)), encoding="utf-8")
    table = tmp_path / "c.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(kept), table)
    older = written(tmp_path, [{"id": r["id"], "items": r["conversations"]} for r in kept])
    for file in (packed, lines, table, older):
        sessions, drops = read(file)
        assert [(s.id, s.turns, s.references, s.system) for s in sessions] == [
            (s.id, s.turns, s.references, s.system) for s in expected
        ]
        assert drops == []


def test_a_folder_is_searched_for_the_published_file(tmp_path: Path) -> None:
    written(tmp_path, [record("a_0", "h 0")], "other.json")
    with pytest.raises(UserError, match="holds no ShareGPT_V3_unfiltered"):
        read(tmp_path)
    written(tmp_path, [record("b_0", "h 0")], "ShareGPT_V3_unfiltered_cleaned_split.json")
    assert [s.id for s in read(tmp_path)[0]] == ["b_0"]


def test_filters_say_what_they_measured(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        [
            record("a_0", "h 1", "g 2"),
            record("b_0", "h 1", "g 2", "h 3", "g 4", "h 5"),
            record("c_0", "s 12345", "h 1", "g 2", "h 3"),
        ],
    )
    (session,), drops = read(file, min_turns=2, max_characters=5)
    assert session.id == "b_0"
    assert [(d.reason, d.detail, d.score) for d in drops] == [
        ("too_short", "a_0", 1),
        ("too_long", "c_0", 8),
    ]
    for options in ({"min_turns": 0}, {"max_characters": 0}, {"turns": 3}):
        with pytest.raises(ValidationError):
            Sharegpt(path=file, **options)  # type: ignore[arg-type]


def test_a_language_is_told_by_what_the_user_says(tmp_path: Path) -> None:
    asked = {
        "en_0": "h Could you explain to me how the tides depend on the position of the moon?",
        "de_0": "h Kannst du mir bitte erklären, wie die Gezeiten vom Stand des Mondes abhängen?",
        "zh_0": "h 请你解释一下潮汐是怎样受到月球位置影响的，谢谢。",
    }
    reply = "g Certainly, the pull of the moon on the water is what makes the tides."
    file = written(tmp_path, [record(id, said, reply) for id, said in asked.items()])
    sessions, drops = read(file, language="en")
    assert [(s.id, s.language) for s in sessions] == [("en_0", "en")]
    assert [(d.reason, d.detail) for d in drops] == [
        ("other_language", "de_0: de"),
        ("other_language", "zh_0: zh"),
    ]
    assert {s.language for s in read(file)[0]} == {"und"}
    with pytest.raises(UserError, match="sharegpt: language: no code 'english'"):
        read(file, language="english")


GOOD = '{"id": "a_0", "conversations": [{"from": "human", "value": "x"}]}'


@pytest.mark.parametrize(
    ("content", "place", "problem"),
    [
        (f"[{GOOD},\n{{}}]", ":2", "'id' must be a string, not NoneType"),
        (f'[{GOOD},\n{{"id": 7}}]', ":2", "'id' must be a string, not int"),
        (f'[{GOOD},\n{{"id": "", "conversations": []}}]', ":2", "'id' is empty"),
        (f"[{GOOD},\n[]]", ":2", "'id' must be a string"),
        (f'[{GOOD},\n{{"id": "b_0"}}]', ":2", "'conversations' must be a list of messages, not"),
        (f'[{GOOD},\n{{"id": "b_0", "conversations": "x"}}]', ":2", "not str"),
        (
            '[{"id": "b_0", "conversations": [{"from": "gpt", "value": "x"}, "y"]}]',
            ":1: message 2",
            "'from' must be a string",
        ),
        (
            '[{"id": "b_0", "conversations": [{"value": "x"}]}]',
            ":1: message 1",
            "'from' must be a string, not NoneType",
        ),
        (
            '[{"id": "b_0", "conversations": [{"from": ["human"], "value": "x"}]}]',
            ":1: message 1",
            "'from' must be a string, not list",
        ),
        (
            '[{"id": "b_0", "conversations": [{"from": "human", "value": null}]}]',
            ":1: message 1",
            "'value' must be a string, not NoneType",
        ),
        (f'[{GOOD},\n{{"id": "b_0", "conver', ":2", "cut off"),
        ("", "", "the file is empty"),
        (GOOD, ":1", "'id' must be a string"),
    ],
)
def test_malformed_files_raise_one_error(
    tmp_path: Path, content: str, place: str, problem: str
) -> None:
    """Before any session: the first of the two passes finds it."""
    file = tmp_path / "bad.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=problem) as failed:
        next(Sharegpt(path=file).items())
    assert failed.value.place == f"{file}{place}"


def test_the_card_and_the_source() -> None:
    (remote,) = Sharegpt.remote
    assert "/resolve/192ab2185289094fc556ec8ce5ce1e8e587154ca/" in remote.url
    assert remote.url.endswith(remote.name)
    assert Sharegpt.patterns == (remote.name,)
