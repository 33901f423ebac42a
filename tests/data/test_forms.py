"""The forms of a user's file: which one it is, and what becomes of each message."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.data.forms import Form
from harness.data.layout import Layout, shape_of
from harness.data.own_file import read_own_file
from harness.errors import UserError
from harness.session import Session
from harness.task import Drop
from tasks.jsonl import Jsonl

OWN = {"id": "a", "turns": ["one", "two"]}
TURNS = {"walk": ["one", "two"], "swim": ["three"]}
USER, MODEL = {"role": "user", "content": "one"}, {"role": "assistant", "content": "uno"}
CHAT = {"messages": [USER, MODEL]}
TALK = {"id": "t", "conversations": [{"from": "human", "value": "one"}]}


def lines(*values: Any) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2)


def read(folder: Path, text: str, form: str = "auto") -> list[Session | Drop]:
    path = folder / "data"
    path.write_text(text, encoding="utf-8")
    return list(read_own_file(path, "t", form))


def one(folder: Path, value: Any, form: str = "auto") -> tuple[Session, list[tuple[str, str]]]:
    """The only session of a one-line file, and reason and detail of what was left out."""
    items = read(folder, lines(value), form)
    (session,) = (item for item in items if isinstance(item, Session))
    return session, [(item.reason, item.detail) for item in items if isinstance(item, Drop)]


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"id": "c", "messages": list(messages), **more}


def user(content: Any = "one", **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def model(content: Any = "uno", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


DETECTED = {
    "own lines": (lines(OWN, {"id": "b", "turns": ["x"]}), Layout.LINES, Form.SESSIONS),
    "one own line": (lines(OWN), Layout.LINES, Form.SESSIONS),
    "one own line of nothing but lists": (lines({"turns": ["x"]}), Layout.LINES, Form.SESSIONS),
    "own line of turns, cut off": ('{"turns": ["x", "y', Layout.LINES, Form.SESSIONS),
    "own array": (pretty([OWN]), Layout.ARRAY, Form.SESSIONS),
    "one own session over several lines": (pretty(OWN), Layout.WHOLE, Form.SESSIONS),
    "turns by id": (pretty(TURNS), Layout.MEMBERS, Form.TURNS_BY_ID),
    "turns by id on one line": (lines(TURNS), Layout.MEMBERS, Form.TURNS_BY_ID),
    "turns by id, cut off": (pretty(TURNS)[:30], Layout.MEMBERS, Form.TURNS_BY_ID),
    "turns by id, the ids being words of other forms": (
        lines({"messages": ["x"], "conversations": ["y"], "system": ["z"]}),
        Layout.MEMBERS,
        Form.TURNS_BY_ID,
    ),
    "message lines": (lines(CHAT, CHAT), Layout.LINES, Form.MESSAGES),
    "one message line": (lines(CHAT), Layout.LINES, Form.MESSAGES),
    "message array": (pretty([CHAT]), Layout.ARRAY, Form.MESSAGES),
    "one chat over several lines": (pretty(CHAT), Layout.WHOLE, Form.MESSAGES),
    "bare lists": (lines([USER, MODEL], [USER]), Layout.LINES, Form.MESSAGES),
    "one bare list over several lines": (pretty([USER, MODEL]), Layout.WHOLE, Form.MESSAGES),
    "an array of bare lists": (pretty([[USER, MODEL], [USER]]), Layout.ARRAY, Form.MESSAGES),
    "messages with ids": (lines([{**USER, "id": "m1"}]), Layout.LINES, Form.MESSAGES),
    "messages behind a damaged line": ("{oops\n" + lines(CHAT), Layout.LINES, Form.MESSAGES),
    "conversation array": (pretty([TALK]), Layout.ARRAY, Form.CONVERSATIONS),
    "conversation lines": (lines(TALK, TALK), Layout.LINES, Form.CONVERSATIONS),
    "blank lines first": ("\n\n " + pretty([TALK]), Layout.ARRAY, Form.CONVERSATIONS),
    "not JSON": ("hello\n", Layout.LINES, Form.SESSIONS),
}


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.txt", "x"])
@pytest.mark.parametrize(("text", "layout", "form"), DETECTED.values(), ids=DETECTED)
def test_the_content_decides_and_never_the_name(
    tmp_path: Path, text: str, layout: Layout, form: Form, name: str
) -> None:
    (tmp_path / name).write_text(text)
    shape = shape_of(tmp_path / name)
    assert (shape.layout, shape.form) == (layout, form)


def test_turns_by_id_larger_than_what_is_looked_at(tmp_path: Path) -> None:
    long = "word " * 900_000  # of more than 4 MiB
    items = read(tmp_path, pretty({"long": [long, "two"], "short": ["three"]}))
    assert [item.turns for item in items if isinstance(item, Session)] == [
        (long, "two"),
        ("three",),
    ]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
def test_turns_by_id_keep_their_texts_as_they_are(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(pretty({"walk": [" one\n", "two"], "swim": ["three"]}))
    first, second = read_own_file(path, "t")
    assert first == Session("walk", "t", (" one\n", "two"), source={"file": name, "record": "walk"})
    assert isinstance(second, Session) and second.turns == ("three",)


def test_messages_become_turns_references_and_system_prompt(tmp_path: Path) -> None:
    value = chat(
        {"role": "developer", "content": "Be brief."},
        {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
        user(" one "),
        user([{"type": "text", "text": "and"}, {"type": "text", "text": "more"}]),
        model("uno"),
        user("two"),
        tools=[{"type": "function"}],
    )
    session, left_out = one(tmp_path, value)
    assert session.turns == ("one\nand\nmore", "two")
    assert session.references == ("uno", None)
    assert session.reference_kind == "model"
    assert session.system == "Be brief.\nBe kind."
    assert session.source == {"file": "data", "record": "c"}
    assert left_out == []


def test_a_model_that_begins_has_said_it_in_the_system_prompt(tmp_path: Path) -> None:
    session, _ = one(tmp_path, chat(model("Welcome!"), user()))
    assert session.turns == ("one",) and session.references is None
    assert session.system is not None and session.system.endswith("\nWelcome!")


def test_without_any_reply_each_message_is_a_turn(tmp_path: Path) -> None:
    session, _ = one(tmp_path, chat(user("one"), user("two"), user("two")))
    assert session.turns == ("one", "two", "two")
    assert session.references is None and session.reference_kind is None


IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}
CALL = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]

LEFT_OUT = {
    "an image beside text": (
        [user([IMAGE, {"type": "text", "text": "What is it?"}]), model()],
        [("What is it?", "uno")],
        ["c: 'messages' entry 1: part of type 'image_url'"],
    ),
    "an image alone, and the reply to it": (
        [user("one"), model("uno"), user([IMAGE]), model("a cat"), user("two"), model("dos")],
        [("one", "uno"), ("two", "dos")],
        [
            "c: 'messages' entry 3: part of type 'image_url'",
            "c: 'messages' entry 4: reply to a message without text",
        ],
    ),
    "a call of a tool and its answer": (
        [
            user(),
            model(None, tool_calls=CALL),
            {"role": "tool", "content": "7", "tool_call_id": "1"},
            {"role": "function", "name": "f", "content": None},
            model("seven"),
        ],
        [("one", "seven")],
        [
            "c: 'messages' entry 2: tool_calls",
            "c: 'messages' entry 3: message of a tool",
            "c: 'messages' entry 4: message of a tool",
        ],
    ),
    "a call with words": (
        [user(), model("One moment.", function_call={"name": "f"})],
        [("one", "One moment.")],
        ["c: 'messages' entry 2: function_call"],
    ),
    "a system message in the middle": (
        [user(), model(), {"role": "system", "content": "Stop."}, user("two")],
        [("one", "uno"), ("two", None)],
        ["c: 'messages' entry 3: system message inside the dialogue"],
    ),
}


@pytest.mark.parametrize(("messages", "turns", "details"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_is_not_text_is_left_out_and_told(
    tmp_path: Path,
    messages: list[Any],
    turns: list[tuple[str, str | None]],
    details: list[str],
) -> None:
    session, left_out = one(tmp_path, chat(*messages))
    assert session.references is not None
    assert list(zip(session.turns, session.references, strict=True)) == turns
    assert left_out == [("unsupported_content", detail) for detail in details]


def test_empty_messages_and_empty_dialogues_are_left_out(tmp_path: Path) -> None:
    silent = chat(model(), id="silent")
    items = read(tmp_path, lines(chat(user(), user(" \n"), model("")), silent))
    assert [(i.reason, i.place[-6:], i.detail) for i in items if isinstance(i, Drop)] == [
        ("empty_message", "data:1", "c: 'messages' entry 2"),
        ("empty_message", "data:1", "c: 'messages' entry 3"),
        ("no_user_turn", "data:2", "silent"),
    ]


def test_conversations(tmp_path: Path) -> None:
    said = [("system", "Be kind."), ("gpt", "Hi."), ("human", "one"), ("bard", "uno")]
    said += [("observation", "{}"), ("user", "two"), ("chatgpt", "")]
    value = {"id": 7, "system": "Be brief.", "model": "x"}
    value |= {"conversations": [{"from": speaker, "value": text} for speaker, text in said]}
    session, left_out = one(tmp_path, value)
    assert (session.id, session.turns) == ("7", ("one", "two"))
    assert session.references == ("uno", None) and session.reference_kind == "model"
    assert session.system is not None and session.system.startswith("Be brief.\nBe kind.\n\n")
    assert session.system.endswith("\nHi.")
    assert Counter(reason for reason, _ in left_out) == {
        "unsupported_content": 1,
        "empty_message": 1,
    }


def test_records_without_an_id_are_numbered(tmp_path: Path) -> None:
    text = lines(CHAT) + "\n" + lines({**CHAT, "id": "named"}, CHAT)
    as_lines = [i.id for i in read(tmp_path, text) if isinstance(i, Session)]
    records = json.dumps([CHAT, {**CHAT, "id": "named"}, CHAT])
    in_array = [i.id for i in read(tmp_path, records) if isinstance(i, Session)]
    assert as_lines == in_array == ["record-1", "named", "record-3"]


WRONG = {
    "no role": (chat({"content": "x"}), "'messages' entry 1 'role' must be one of system, dev"),
    "unknown role": (chat(user(), {"role": "bot", "content": "x"}), "entry 2 'role' must be one"),
    "null content": (chat(user(None)), "entry 1 'content' must be a string or a list of parts"),
    "number content": (chat(user(3)), "not a number"),
    "part of no type": (chat(user([{"text": "x"}])), "'content' part 1 must be an object with"),
    "part that is a string": (chat(user(["x"])), "'content' part 1 must be an object"),
    "text that is a list": (chat(user([{"type": "text", "text": []}])), "part 1 'text' must be a"),
    "message that is a string": (chat(user(), "x"), "'messages' entry 2 must be an object with"),
    "messages that are an object": ({"messages": {}}, "'messages' must be a list of messages"),
    "half a surrogate": (chat(user("\ud83d")), "'messages' entry 1 holds \\ud83d"),
    "half a surrogate in the id": (chat(user(), id="\ud83d"), "'id' holds \\ud83d"),
    "list id": (chat(user(), id=["x"]), "'id' must be a string or a whole number, not a list"),
    "true id": (chat(user(), id=True), "'id' must be a string or a whole number"),
    "empty id": (chat(user(), id=""), "'id' is an empty string"),
    "value that is null": (
        {"conversations": [{"from": "gpt", "value": None}]},
        "'conversations' entry 1 'value' must be a string, not null",
    ),
    "unknown speaker": (
        {"conversations": [{"from": "dog", "value": "x"}]},
        "'conversations' entry 1 'from' must be one of system, human",
    ),
    "list system": ({"conversations": [], "system": []}, "'system' 'value' must be a string"),
}


@pytest.mark.parametrize(("value", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_message_is_one_error_with_its_line(tmp_path: Path, value: Any, says: str) -> None:
    good = {"conversations": [{"from": "human", "value": "x"}]} if "conv" in str(value) else CHAT
    with pytest.raises(UserError) as caught:
        read(tmp_path, lines(good, value, good))
    assert caught.value.place == f"{tmp_path / 'data'}:2"
    assert says in caught.value.problem and "\n" not in caught.value.problem


def test_the_form_can_be_said(tmp_path: Path) -> None:
    (session,) = read(tmp_path, lines({"turns": ["a", "b"]}), "turns_by_id")
    assert isinstance(session, Session)
    assert (session.id, session.turns) == ("turns", ("a", "b"))
    with pytest.raises(UserError, match="key 'messages' is missing"):
        read(tmp_path, lines(OWN), "messages")
    with pytest.raises(UserError, match="data:1: form turns_by_id is one JSON object"):
        read(tmp_path, lines([USER]), "turns_by_id")
    with pytest.raises(UserError, match="did you mean 'messages'"):
        read(tmp_path, lines(OWN), "message")


def test_the_released_demo_file(real_sample: Callable[[str], Path]) -> None:
    """Counted with `python -c "import json; d = json.load(open(F)); len(d), sum(map(len,
    d.values()))"`, and the first and last key read off the file.
    """
    path = real_sample("extra_soma_demo/demo_dialogues.json")
    sessions = list(Jsonl(path=path).sessions())
    assert len(sessions) == 4 and sum(len(s.turns) for s in sessions) == 20
    raw = json.loads(path.read_text("utf-8"))
    assert {s.id: list(s.turns) for s in sessions} == raw
    assert [s.id for s in sessions] == list(raw)


def test_real_conversations(real_sample: Callable[[str], Path]) -> None:
    """`grep -c '"id": "identity_'` counts 500 records and `grep -c '"from": "human"'` 1,000
    messages; they strictly alternate, and none is empty.
    """
    items = list(Jsonl(path=real_sample("sharegpt/fastchat_dummy_conversation.json")).items())
    sessions = [item for item in items if isinstance(item, Session)]
    assert len(items) == len(sessions) == 500
    assert sum(len(s.turns) for s in sessions) == 1000
    assert sum(r is not None for s in sessions for r in s.references or ()) == 1000
