"""JSON read value by value: layouts, windows that cut a value anywhere, what is refused where."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.data import json_values, text
from harness.data.json_values import read_values
from harness.errors import UserError

VALUES: list[Any] = [
    {"id": "a_0", "said": 'a "quote", a \\ and a\nline', "none": None, "yes": True, "no": False},
    -1.5e-7,
    120,
    {"deep": [[[{"x": [1, 2.25, -3e5]}]]], "empty": {}, "list": []},
    "three-cornered 三 🚀 \ud83d alone",
    12.5e3,
    False,
    None,
    [],
    {},
    "",
    -7,
]

CUTS = (1, 2, 3, 4, 5, 7, 11, 16, 33)
"""Bytes read at once; with each, other places of the file are the ends of windows."""


def written(folder: Path, content: str | bytes, name: str = "a.json") -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return file


def loaded(file: Path) -> list[Any]:
    return [found.value for found in read_values(file)]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("ascii", [True, False])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_value_may_be_cut_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int, ascii: bool, indent: int | None
) -> None:
    monkeypatch.setattr(text, "CHUNK", cut)
    values = VALUES if ascii else [v for v in VALUES if "alone" not in str(v)]
    file = written(tmp_path, json.dumps(values, ensure_ascii=ascii, indent=indent))
    assert loaded(file) == values
    members = {f"key {n}": value for n, value in enumerate(values)}
    file = written(tmp_path, json.dumps(members, ensure_ascii=ascii, indent=indent))
    assert {found.key: found.value for found in read_values(file)} == members
    lines = "\n".join(json.dumps(v, ensure_ascii=ascii) for v in ({"n": 1}, *values))
    assert loaded(written(tmp_path, lines)) == [{"n": 1}, *values]


@pytest.mark.parametrize("number", ["1.25", "1e5", "1E+5", "-1e-5", "10", "-0", "0.5", "1.5e+10"])
def test_a_number_may_be_cut_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    """Its first digits are a number too."""
    for before in range(20):
        monkeypatch.setattr(text, "CHUNK", 4 + before)
        blanks = " " * before
        assert loaded(written(tmp_path, f"[{blanks}{number},1]")) == [float(number), 1]
        assert loaded(written(tmp_path, f'{{{blanks}"a":{number}}}')) == [float(number)]


def test_every_value_has_its_line_and_a_member_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cut in (4, 1 << 16):
        monkeypatch.setattr(text, "CHUNK", cut)
        file = written(tmp_path, '[\n {"a":\n  1},\n\n {"b": "x\\ny"}, 3,\n4]\n')
        assert [(f.line, f.value) for f in read_values(file)] == [
            (2, {"a": 1}),
            (5, {"b": "x\ny"}),
            (5, 3),
            (6, 4),
        ]
        file = written(tmp_path, '{"a": 1,\r\n"b":\r\n [2]}')
        assert [(f.line, f.key, f.value) for f in read_values(file)] == [(1, "a", 1), (3, "b", [2])]
        file = written(tmp_path, '{"a": 1}\n\n  \n{"b": 2}\r\n')
        assert [f.place for f in read_values(file)] == [f"{file}:1", f"{file}:4"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_and_crlf(tmp_path: Path, encoding: str) -> None:
    content = json.dumps(VALUES, indent=2).replace("\n", "\r\n")
    assert loaded(written(tmp_path, content.encode(encoding))) == VALUES
    lines = '{"a": "ä"}\r\n{"b": "三"}\r\n'
    assert loaded(written(tmp_path, lines.encode(encoding))) == [{"a": "ä"}, {"b": "三"}]


def test_long_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = {"text": 'x"é\n' * 25_000}
    for cut in (1000, 1 << 16):
        monkeypatch.setattr(text, "CHUNK", cut)
        assert loaded(written(tmp_path, json.dumps([long, 1, long]))) == [long, 1, long]
        lines = f"{json.dumps(long)}\n{json.dumps(long)}\n"
        assert loaded(written(tmp_path, lines)) == [long, long]
    monkeypatch.setattr(json_values, "MAX_VALUE", 50_000)
    with pytest.raises(
        UserError, match="more than 50,000 characters; is a quote missing"
    ) as failed:
        loaded(written(tmp_path, "[1,\n" + json.dumps(long) + "]"))
    assert failed.value.place.endswith("a.json:2")


def test_lines_are_told_from_one_object(tmp_path: Path) -> None:
    """By another object behind the first, or by the file's name."""
    one = '{"id": "a", "turns": []}'
    assert [f.key for f in read_values(written(tmp_path, one))] == ["id", "turns"]
    assert loaded(written(tmp_path, one, "a.jsonl")) == [{"id": "a", "turns": []}]
    assert loaded(written(tmp_path, f"{one}\n{one}")) == [{"id": "a", "turns": []}] * 2
    assert loaded(written(tmp_path, "[]")) == []
    assert loaded(written(tmp_path, " {}\n")) == []


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        ('[{"a": 1},\n{"a": 2},\n{"a": ', 3, "cut off"),
        ('[{"a": 1},\n{"a": "no end', 2, "cut off"),
        ('[{"a": 1},\n{"a": 2}\n', 3, "the file ends where ',' or ']' was expected"),
        ('{"a": 1,\n"b"', 2, "the file ends where ':' was expected"),
        ('{"a": [1,\n2,\n', 1, "cut off"),
        ('[1,\n{"a": NaN}]', 2, "NaN is not JSON"),
        ('[1,\n{"a": [-Infinity]}]', 2, "-Infinity is not JSON"),
        ('[1,\n{"a": 1e999}]', 2, "1e999 is too large"),
        ("[1,\n-1e999]", 2, "-1e999 is too large"),
        ("[1,\n" + "9" * 5000 + "]", 2, "more than 4,000 digits"),
        ('[1,\n{"a": 1, "b": {"c": 1, "c": 2}}]', 2, "'c' is given twice"),
        ('{"a": 1,\n"b": 2,\n"a": 3}', 3, "'a' is already on line 1"),
        ('[1,\n{"a": ' + "[" * 200_000, 2, "nested too deeply"),
        ("[1,\n2,\n]", 3, "a comma before the closing bracket"),
        ('{"a": 1,\n}', 2, "a comma before the closing bracket"),
        ("[1]\n\n[2]", 3, "'[' after the end"),
        ('{"a": 1}\n# note', 2, "'#' after the end"),
        ("[1]]", 1, "']' after the end"),
        ("[1 2]", 1, "'2' where ',' or ']' was expected"),
        ("[,1]", 1, "not valid JSON"),
        ("{'a': 1}", 1, '"\'" where a key in double quotes was expected'),
        ('{"a" 1}', 1, "'1' where ':' was expected"),
        ('[\n"a tab\tin it"]', 2, "Invalid control character"),
        ('[1,\n\n{"a": 1,\n "b": tru}, 1, 2, 3, 4, 5, 6, 7, 8, 9]', 4, "Expecting value"),
        ('["\\x"]', 1, "Invalid \\escape"),
        ('[\n"\\u12"]', 2, "Invalid \\uXXXX escape"),
        ('{"a": 1}\n{"a": \n', 2, "not valid JSON at column 7"),
        ('{"a": 1}\n{"a": NaN}', 2, "NaN is not JSON"),
        ('{"a": 1}\n{"a": 1} {"a": 2}', 2, "Extra data"),
        ('{"a": 1}\n{"a": ' + "[" * 200_000, 2, "nested too deeply"),
        ("plain text\n", 1, "not valid JSON at column 1"),
        ("\n\n", None, "nothing but blanks"),
        ("\ufeff", None, "nothing but blanks"),
        ("", None, "the file is empty"),
    ],
)
@pytest.mark.parametrize("cut", [*CUTS, 64 << 10])
def test_what_is_no_json_is_refused_at_its_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str,
    line: int | None,
    problem: str,
    cut: int,
) -> None:
    monkeypatch.setattr(text, "CHUNK", cut)
    file = written(tmp_path, content)
    with pytest.raises(UserError, match=re.escape(problem)) as failed:
        loaded(file)
    assert failed.value.place == (f"{file}:{line}" if line else str(file))
    assert "\n" not in str(failed.value)


def test_what_stands_before_the_fault_is_read(tmp_path: Path) -> None:
    values = read_values(written(tmp_path, '[{"a": 1}, {"a": 2}, oops]'))
    assert [next(values).value, next(values).value] == [{"a": 1}, {"a": 2}]
    with pytest.raises(UserError, match="not valid JSON"):
        next(values)
