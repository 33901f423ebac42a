"""`tasks validate`: every problem with its place, then a summary; the exit code says if any."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from harness.commands.tasks_validate import MAX_SHOWN, validate_file
from harness.errors import UserError

GOOD = {"id": "a", "turns": ["one", "two", "three", "four", "five"]}


class Checked:
    """What `validate_file` returned and printed: problem lines, note lines, the summary."""

    def __init__(self, code: int, out: str) -> None:
        head, _, tail = f"\n{out}".partition("\n\n")
        head = head.removeprefix("\n")
        self.code = code
        self.lines = [line for line in head.splitlines() if not line.startswith("note: ")]
        self.notes = [line for line in head.splitlines() if line.startswith("note: ")]
        self.summary = {line[:17].strip(): line[17:].strip() for line in tail.splitlines()}


@pytest.fixture
def validate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    monkeypatch.chdir(tmp_path)

    def call(data: bytes, form: str = "auto") -> Checked:
        Path("mine").write_bytes(data)
        code = validate_file(Path("mine"), form)
        return Checked(code, capsys.readouterr().out)

    return call


def lines(*values: Any) -> bytes:
    return b"".join(v if isinstance(v, bytes) else json.dumps(v).encode() + b"\n" for v in values)


def test_a_clean_file(validate: Any) -> None:
    more = {"id": "b", "turns": ["x", "y"], "references": ["r", None], "reference_kind": "human"}
    more |= {"gold": ["1", "2"], "language": "de", "system": "s"}
    checked = validate(lines(GOOD, more, {"id": "c", "turns": ["z"], "language": "de"}))
    assert (checked.code, checked.lines, checked.notes) == (0, [], [])
    assert checked.summary == {
        "form": "sessions, one per line",
        "sessions": "3",
        "user turns": "8",
        "turns per session": "1 least, 2 median, 5 most",
        "system prompts": "1 of 3 sessions",
        "references": "1 of 8 turns",
        "gold answers": "2 of 8 turns",
        "languages": "de 2, en 1",
        "doubled ids": "0",
        "left out": "nothing",
        "never switch": "2 of 3 sessions have fewer than 5 user turns (3 warm ones and 2)",
        "problems": "0",
        "notes": "0",
    }


def test_every_problem_has_its_line_and_field(validate: Any) -> None:
    checked = validate(
        lines(
            GOOD,
            {"turns": ["", 3], "gold": ["1"], "sytem": "x"},
            b'{"id": "b", "turns": ["x"}\n',
            b"\n",
            b'{"id": "caf\xe9", "turns": ["x"]}\n',
            GOOD,
            {"id": "c", "turns": ["x"], "metadata": 5},
            b'{"id": "d", "turns": ["x"], "metadata": {"p": NaN}}\n',
            {"id": "e", "turns": ["x"]},
        )
    )
    assert checked.code == 1
    assert checked.lines == [
        "mine:2: 'sytem': is an unknown key; did you mean 'system'?",
        "mine:2: key 'id': is missing; every session needs it",
        "mine:2: 'turns' entry 1: is empty; every user turn needs text",
        "mine:2: 'turns' entry 2: must be a string, not a number",
        "mine:2: 'gold': has 1 entries for 2 turns; give one per turn, or null",
        "mine:3: not valid JSON at column 26: Expecting ',' delimiter",
        "mine:4: the line is blank; remove it",
        "mine:5: not UTF-8 at byte 12 of the line; save the file as UTF-8",
        "mine:6: id 'a': is already on line 1; give every session its own id",
        "mine:7: 'metadata': must be an object, not a number",
        "mine:8: NaN is not JSON; use null or a finite number",
    ]
    assert checked.summary["sessions"] == "2"
    assert checked.summary["doubled ids"] == "1"
    assert checked.summary["problems"] == "11"


def test_in_one_array_it_goes_on_behind_a_wrong_record_and_stops_where_json_ends(
    validate: Any,
) -> None:
    turn = {"from": "human", "value": "x"}
    records = [{"id": "a", "conversations": [turn]}, {"id": "b", "conversations": [turn, "?"]}]
    text = json.dumps([*records, {"id": "a", "conversations": [turn]}], indent=1)
    checked = validate(text.encode())
    assert checked.lines == [
        "mine:11: 'conversations' entry 2: must be an object with 'from' and 'value', not a string",
        "mine:21: id 'a': is already on line 2; give every session its own id",
    ]
    checked = validate(text[:-40].encode())
    assert checked.lines[0].startswith("mine:11: ")
    assert checked.lines[1].startswith("mine:21: the file ends in the middle of a value")
    assert checked.lines[2] == "Reading stopped there: what follows was not checked."
    assert checked.summary["form"] == "conversations, in one JSON array"
    assert (checked.code, checked.summary["sessions"]) == (1, "1")


def test_what_is_left_out_and_what_is_odd_are_notes(validate: Any) -> None:
    messages = [{"role": "user", "content": text} for text in ("x", " ", "x", "y" * 100_001)]
    checked = validate(
        lines(
            {"id": "m", "messages": [*messages, {"role": "tool", "content": "7"}]},
            {"id": "only", "messages": [{"role": "assistant", "content": "Hello?"}]},
        )
    )
    assert (checked.code, checked.lines) == (0, [])
    assert checked.notes == [
        "note: mine:1: empty_message: m: 'messages' entry 2",
        "note: mine:1: unsupported_content: m: 'messages' entry 5: message of a tool",
        "note: mine:1: m: turn 3: has 100,001 characters",
        "note: mine:1: m: turn 2: is the same as turn 1",
        "note: mine:2: no_user_turn: only",
    ]
    assert checked.summary["left out"] == "empty_message 1, no_user_turn 1, unsupported_content 1"
    assert checked.summary["notes"] == "5"


def test_the_first_hundred_are_printed_and_the_others_counted(validate: Any) -> None:
    checked = validate(lines(*[{"id": "", "turns": ["x"]}] * (MAX_SHOWN + 7)))
    assert len(checked.lines) == MAX_SHOWN + 1
    assert checked.lines[-1] == "... and 7 more problems"
    assert checked.summary["problems"] == "107"


def test_a_file_without_a_session_is_a_problem(validate: Any) -> None:
    checked = validate(lines({"messages": []}, {"messages": []}))
    assert checked.code == 1
    assert checked.lines == ["mine: holds no session (left out: 2 no_user_turn)"]
    checked = validate(b"")
    assert checked.code == 1
    assert checked.lines[0].startswith("mine: the file is empty")


def test_a_form_that_is_said_is_the_form_checked(validate: Any) -> None:
    checked = validate(lines(GOOD), "messages")
    assert checked.lines == ["mine:1: key 'messages': is missing; every dialogue needs it"]
    assert checked.summary["form"] == "messages, one per line"


def test_a_truncated_archive_is_checked_as_far_as_it_goes(validate: Any) -> None:
    bad = {"id": "b", "turns": [""]}
    whole = lines(GOOD, bad, *[{"id": f"s{i}", "turns": [f"turn {i * i}"]} for i in range(9999)])
    packed = gzip.compress(whole)
    checked = validate(packed[: len(packed) // 2])
    assert checked.lines[0].startswith("mine:2: 'turns' entry 1")
    assert checked.lines[1].startswith("mine: is a damaged archive")
    assert checked.lines[2].startswith("Reading stopped there")
    assert checked.code == 1 and int(checked.summary["sessions"].replace(",", "")) > 1000


def test_what_would_steer_the_terminal_is_written_out(validate: Any) -> None:
    steering = "\x1b[2J\u202e\n"
    turns = [{"role": "user", "content": " "}, {"role": "user", "content": "x"}]
    checked = validate(lines({"id": f"m{steering}", "messages": turns, steering: 1}))
    assert checked.notes == ["note: mine:1: empty_message: m\\x1b[2J\\u202e : 'messages' entry 1"]


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        validate_file(tmp_path / "none")
    with pytest.raises(UserError, match="is a folder; name a file"):
        validate_file(tmp_path)
    with pytest.raises(UserError, match="no form is called 'x'"):
        validate_file(tmp_path, "x")
