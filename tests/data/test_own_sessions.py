"""The project's own form: every key, and every way to get it wrong."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from harness.data.faults import Fault
from harness.data.json_values import Located
from harness.data.own_file import MAX_LINE_BYTES, read_sessions
from harness.data.own_sessions import from_own
from harness.errors import UserError

GOOD = {"id": "a", "turns": ["one", "two"]}


def line(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def without(key: str) -> bytes:
    return json.dumps({name: value for name, value in GOOD.items() if name != key}).encode()


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []


def write(folder: Path, *lines: bytes) -> Path:
    path = folder / "mine.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


MALFORMED = {
    "not json": (b"{not json", "not valid JSON at column 2"),
    "cut off": (b'{"id": "a", "turns": ["one"', "not valid JSON at column 28"),
    "two objects": (line() + line(), "Extra data"),
    "a list": (b"[1]", "must be a JSON object with 'id' and 'turns', not a list"),
    "a string": (b'"one"', "not a string"),
    "null": (b"null", "not null"),
    "blank": (b"  ", "blank"),
    "not utf-8": (b'{"id": "caf\xe9", "turns": ["one"]}', "not UTF-8 at byte 12"),
    "utf-16": ("{}".encode("utf-16"), "not UTF-8 at byte 1"),
    "byte order mark inside": (b"\xef\xbb\xbf" + line(), "byte order mark"),
    "half a surrogate": (line(turns=["\ud83d"]), "surrogate"),
    "nan": (line(metadata={"x": float("nan")}), "NaN is not JSON"),
    "infinity": (line(metadata={"x": float("-inf")}), "-Infinity is not JSON"),
    "overflowing number": (b'{"id": "a", "turns": ["x"], "metadata": {"n": 1e999}}', "too large"),
    "endless integer": (b'{"id": "a", "turns": ["x"], "metadata": {"n": 1' + b"0" * 5000 + b"}}",
                        "digits"),
    "deep nesting": (b"[" * 200_000, "nested too deeply"),
    "doubled key": (b'{"id": "a", "id": "b", "turns": ["x"]}', "key 'id' is given twice"),
    "unknown key": (line(turn=["x"]), "'turn' is an unknown key; did you mean 'turns'?"),
    "unknown key, long": (line(**{"z" * 5000: 1}), "valid: gold, id"),
    "no id": (without("id"), "key 'id' is missing"),
    "no turns": (without("turns"), "key 'turns' is missing"),
    "number id": (line(id=7), "'id' must be a string, not a number"),
    "empty id": (line(id=" "), "'id' is an empty string"),
    "text turns": (line(turns="one"), "'turns' must be a list of strings, not a string"),
    "no turn": (line(turns=[]), "'turns' is empty"),
    "chat messages": (line(turns=[{"role": "user", "content": "x"}]),
                      "'turns' entry 1 must be a string, not an object"),
    "empty turn": (line(turns=["one", "\n "]), "'turns' entry 2 is empty"),
    "null turn": (line(turns=["one", None]), "'turns' entry 2 must be a string, not null"),
    "short gold": (line(gold=["1"]), "'gold' has 1 entries for 2 turns"),
    "number gold": (line(gold=["1", 2]), "'gold' entry 2 must be a string or null, not a number"),
    "empty gold": (line(gold=["1", ""]), "'gold' entry 2 is empty; use null"),
    "text gold": (line(gold="1"), "'gold' must be a list"),
    "long references": (line(references=["a", "b", "c"], reference_kind="human"),
                        "'references' has 3 entries for 2 turns"),
    "references of no kind": (line(references=["a", "b"]), "'references' need 'reference_kind'"),
    "kind alone": (line(reference_kind="human"), "without 'references'"),
    "wrong kind": (line(references=["a", None], reference_kind="robot"), "not 'robot'"),
    "listed kind": (line(references=["a", None], reference_kind=["human"]), "not ['human']"),
    "list system": (line(system=["x"]), "'system' must be a string, not a list"),
    "empty system": (line(system=""), "'system' is an empty string"),
    "null language": (line(language=None), "'language' must be a string, not null"),
    "true license": (line(license=True), "'license' must be a string, not true or false"),
    "text source": (line(source="web"), "'source' must be an object, not a string"),
    "list metadata": (line(metadata=[]), "'metadata' must be an object, not a list"),
    "deep metadata": (line(metadata={"x": nested(40)}), "'metadata' is nested more than 32 deep"),
    "half a surrogate in metadata": (line(metadata={"x": ["\ud83d"]}), "surrogate"),
    "half a surrogate in the id": (line(id="a\ud83d"), "surrogate"),
    "half a surrogate in gold": (line(gold=[None, "\udc00"]), "'gold' entry 2 holds \\udc00"),
    "neither id nor turns": (b'{"ask": "x"}', "neither 'id' nor 'turns'; its keys: 'ask'"),
}  # fmt: skip


@pytest.mark.parametrize("bad, says", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_line_is_one_error_naming_file_and_line(
    tmp_path: Path, bad: bytes, says: str
) -> None:
    path = write(tmp_path, line(id="first"), bad, line(id="third"))
    sessions = read_sessions(path, "t")
    assert next(sessions).id == "first"
    with pytest.raises(UserError) as caught:
        next(sessions)
    message = str(caught.value)
    assert caught.value.place == f"{path}:2"
    assert says in message
    assert "\n" not in message and len(message) < 500 + len(str(path))


def test_a_duplicate_id_names_both_lines(tmp_path: Path) -> None:
    path = write(tmp_path, line(id="x"), line(id="y"), line(id="x"))
    with pytest.raises(UserError, match="'x' is already on line 1") as caught:
        list(read_sessions(path, "t"))
    assert caught.value.place == f"{path}:3"


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(UserError, match="cannot be read") as caught:
            list(read_sessions(path, "t"))
        assert caught.value.place == str(path)


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.touch()
    with pytest.raises(UserError, match="the file is empty") as caught:
        list(read_sessions(path, "t"))
    assert caught.value.place == str(path)


def test_a_huge_line_is_refused_without_being_loaded(tmp_path: Path) -> None:
    path = tmp_path / "huge.jsonl"
    size = 50 * 2**20
    with path.open("wb") as file:
        file.write(line() + b"\n")
        file.truncate(size)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="longer than 8 MiB") as caught:
            list(read_sessions(path, "t"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.place == f"{path}:2"
    assert peak < 4 * MAX_LINE_BYTES < size


def test_every_key_reaches_the_session(tmp_path: Path) -> None:
    full = {
        "id": "s",
        "turns": ["Grüß dich", "und 雨?"],
        "system": "Be brief.",
        "references": ["Hallo", None],
        "reference_kind": "model",
        "gold": [None, "4"],
        "language": "de",
        "license": "CC0-1.0",
        "source": {"url": "u"},
        "metadata": {"shift_turn": 2, "rate": 0.5},
    }
    path = write(tmp_path, json.dumps(full, ensure_ascii=False).encode())
    (session,) = read_sessions(path, "t")
    assert session.task == "t"
    for key, value in full.items():
        expected = tuple(value) if isinstance(value, list) else value
        assert getattr(session, key) == expected


def test_defaults_line_ends_and_order(tmp_path: Path) -> None:
    path = tmp_path / "dos.jsonl"
    path.write_bytes(line(id="b", system=None) + b"\r\n" + line(id="a"))
    first, second = read_sessions(path, "t")
    assert (first.id, second.id) == ("b", "a")
    assert first.system is None and first.gold is None and first.references is None
    assert (first.language, first.license) == ("en", "unknown")


def test_a_byte_order_mark_at_the_beginning_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "marked.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + line(id="b") + b"\r\n" + line(id="a") + b"\r\n")
    assert [s.id for s in read_sessions(path, "t")] == ["b", "a"]


def test_metadata_as_deep_as_allowed_is_loaded(tmp_path: Path) -> None:
    path = write(tmp_path, line(metadata={"x": nested(30)}))
    (session,) = read_sessions(path, "t")
    assert session.metadata == {"x": nested(30)}


def test_all_problems_of_one_record_are_told() -> None:
    value = {"turns": ["", 1], "gold": ["1"], "language": 7, "colour": "red"}
    faults = list(from_own(Located(Path("f"), 3, value), 1, "t"))
    assert [(f.place, f.field) for f in faults if isinstance(f, Fault)] == [
        ("f:3", "'colour'"),
        ("f:3", "key 'id'"),
        ("f:3", "'turns' entry 1"),
        ("f:3", "'turns' entry 2"),
        ("f:3", "'gold'"),
        ("f:3", "'language'"),
    ]
