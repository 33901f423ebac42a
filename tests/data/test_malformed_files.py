"""Every form of a user's file, in every state a file can be in: the right text, or one error."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result

from harness.data import layout, own_file
from harness.errors import UserError
from harness.session import Session
from tasks.jsonl import Jsonl

FORMS = ("sessions", "turns_by_id", "messages", "messages array", "conversations")
each_form = pytest.mark.parametrize("form", FORMS)

HEBREW, ARABIC = "שלום, מה שלומך?", "مرحبا \u202eabc\u202c"
TURNS = {
    "plain": "one",
    "right to left": f"{HEBREW} {ARABIC}",
    "emoji": "\U0001f469\u200d\U0001f52c\U0001f3fd ok \U0001f1e9\U0001f1ea",
    "zero width": "a\u200bb\u200d\ufeffc\u00ad",
    "line separators": "a\u2028b\u2029c\x85d\x0be\x0cf",
    "line breaks": "a\nb\r\nc\rd\te",
    "quotes": "\\\"'`{}[]\\u0041",
    "not normalized": "e\u0301 \u00e9 \ufb01",
    "nul": "a\x00b\x1b[2J",
    "long": "x" * 100_000,
    "astral and long": "\U0001f327 " * 50_000 + "end",
}


def record(form: str, id: str, turns: list[Any]) -> Any:
    if form == "sessions":
        return {"id": id, "turns": turns}
    if form == "conversations":
        said = [{"from": who, "value": t} for turn in turns for who, t in _spoken(turn)]
        return {"id": id, "conversations": said}
    roles = {"human": "user", "gpt": "assistant"}
    said = [{"role": roles[who], "content": t} for turn in turns for who, t in _spoken(turn)]
    return {"id": id, "messages": said}


def _spoken(turn: Any) -> list[tuple[str, Any]]:
    return [("human", turn), ("gpt", "so")]


def text_of(form: str, dialogues: list[tuple[str, list[Any]]], ascii_only: bool = False) -> str:
    """The file: one record on each line, the first at `first_line(form)`."""

    def dump(value: Any) -> str:
        return json.dumps(value, ensure_ascii=ascii_only)

    if form == "turns_by_id":
        members = [f"{dump(id)}: {dump(turns)}" for id, turns in dialogues]
        return "{\n" + ",\n".join(members) + "\n}\n"
    records = [dump(record(form, id, turns)) for id, turns in dialogues]
    if form in ("messages array", "conversations"):
        return "[\n" + ",\n".join(records) + "\n]\n"
    return "\n".join(records) + "\n"


def first_line(form: str) -> int:
    return 1 if form in ("sessions", "messages") else 2


def load(path: Path) -> dict[str, tuple[str, ...]]:
    return {s.id: s.turns for s in Jsonl(path=path).sessions()}


def refused(path: Path, says: str, line: int | None = None) -> str:
    """Asserts that reading `path` ends in one error of one line, at the place given."""
    with pytest.raises(UserError) as caught:
        list(Jsonl(path=path).items())
    assert caught.value.place == (str(path) if line is None else f"{path}:{line}")
    assert says in caught.value.problem
    assert "\n" not in str(caught.value) and len(caught.value.problem) < 300
    return caught.value.problem


GOOD = [("a", ["one", "zwei é", "三"]), ("b", ["four", "five"])]
RIGHT = {id: tuple(turns) for id, turns in GOOD}


def zipped(**members: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return target.getvalue()


# What loads.


@each_form
@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_text_comes_back_as_it_was(tmp_path: Path, form: str, turn: str, ascii_only: bool) -> None:
    path = tmp_path / "f"
    text = text_of(form, [("a", [turn, "then"]), (turn[:20], ["x"])], ascii_only)
    path.write_bytes(text.encode("utf-8"))
    assert load(path) == {"a": (turn, "then"), turn[:20]: ("x",)}


ENCODED: dict[str, Callable[[str], bytes]] = {
    "utf-8 with a mark": lambda text: text.encode("utf-8-sig"),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16, big end first": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "utf-32": lambda text: text.encode("utf-32"),
    "utf-32, big end first": lambda text: b"\x00\x00\xfe\xff" + text.encode("utf-32-be"),
    "line ends of Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "no line end at the end": lambda text: text.rstrip("\n").encode(),
    "gzip": lambda text: gzip.compress(text.encode()),
    "gzip in two parts": lambda t: gzip.compress(t[:30].encode()) + gzip.compress(t[30:].encode()),
    "gzip of utf-16": lambda text: gzip.compress(text.encode("utf-16")),
    "zip": lambda text: zipped(**{"x.txt": text.encode()}),
    "zip in a folder": lambda t: zipped(**{"d/": b"", "d/x": t.encode(), "__MACOSX/x": b"\xff"}),
    "zip of a name that climbs": lambda text: zipped(**{"../../climbed": text.encode()}),
    "zip of an absolute name": lambda text: zipped(**{"/tmp/climbed.jsonl": text.encode()}),
}


@each_form
@pytest.mark.parametrize("encode", ENCODED.values(), ids=ENCODED)
def test_what_wraps_the_text_does_not_change_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, encode: Callable[[str], bytes]
) -> None:
    folder = tmp_path / "deep" / "deeper"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    Path("f").write_bytes(encode(text_of(form, GOOD)))
    assert load(Path("f")) == RIGHT
    # An archive is read where it lies: nothing of it is written anywhere.
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["f"]
    assert not Path("/tmp/climbed.jsonl").exists()


@pytest.mark.parametrize("form", ["sessions", "messages", "conversations"])
def test_parquet(tmp_path: Path, form: str) -> None:
    records = [record(form, id, turns) for id, turns in GOOD]
    if form == "sessions":
        # A table has every column in every row: null is "left out".
        records[0] |= {"system": "Hi.", "gold": [None, "1", None], "metadata": {"x": 1}}
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "f")
    assert load(tmp_path / "f") == RIGHT
    if form == "sessions":
        first, second = Jsonl(path=tmp_path / "f").sessions()
        assert (first.system, first.gold) == ("Hi.", (None, "1", None))
        assert (second.system, second.language) == (None, "en")


# What does not.


def write(folder: Path, data: bytes | str) -> Path:
    path = folder / "f"
    path.write_bytes(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)
    return path


@each_form
def test_bytes_of_another_encoding(tmp_path: Path, form: str) -> None:
    data = text_of(form, [*GOOD, ("c", ["caf@"])]).encode().replace(b"caf@", b"caf\xe9")
    refused(write(tmp_path, data), "save the file as UTF-8", first_line(form) + 2)


@each_form
def test_a_truncated_file(tmp_path: Path, form: str) -> None:
    whole = text_of(form, GOOD)
    cut = whole[: whole.index("five") + 2]
    line = first_line(form) + 1
    if form in ("sessions", "messages"):
        refused(write(tmp_path, cut), "not valid JSON at column", line)
    else:
        refused(write(tmp_path, cut), "the file ends in the middle of a value", line)


@each_form
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_in_json(tmp_path: Path, form: str, number: str) -> None:
    text = text_of(form, [*GOOD, ("c", ["x", "@@"])]).replace('"@@"', number)
    problem = refused(write(tmp_path, text), "use null or a finite number", first_line(form) + 2)
    assert number in problem


@each_form
@pytest.mark.parametrize("turn", [["x"], {"x": "y"}, 7, None, True], ids=str)
def test_what_is_no_text_where_a_turn_is_expected(tmp_path: Path, form: str, turn: Any) -> None:
    path = write(tmp_path, text_of(form, [*GOOD, ("c", ["x", turn])]))
    refused(path, "must be", first_line(form) + 2)


@each_form
@pytest.mark.parametrize("half", ["\ud83d", "x\udc00y"], ids=ascii)
def test_half_a_surrogate_pair(tmp_path: Path, form: str, half: str) -> None:
    path = write(tmp_path, text_of(form, [*GOOD, ("c", ["x", half])], ascii_only=True))
    refused(path, "half of a surrogate pair", first_line(form) + 2)
    # Written as bytes it is not UTF-8 at all.
    path = write(tmp_path, text_of(form, [*GOOD, ("c", ["x", half])]))
    refused(path, "save the file as UTF-8", first_line(form) + 2)


@each_form
def test_an_id_that_comes_twice(tmp_path: Path, form: str) -> None:
    path = write(tmp_path, text_of(form, [*GOOD, ("a", ["x"])]))
    line = first_line(form)
    if form == "turns_by_id":
        refused(path, f"'a' is already on line {line}; keep one", line + 2)
    else:
        refused(path, f"id 'a' is already on line {line}; give every", line + 2)


@each_form
def test_a_record_that_is_nested_too_deeply(tmp_path: Path, form: str) -> None:
    text = text_of(form, [*GOOD, ("c", ["@@"])]).replace('"@@"', "[" * 10**5)
    refused(write(tmp_path, text), "nested too deeply", first_line(form) + 2)


@each_form
def test_damaged_and_locked_archives(tmp_path: Path, form: str) -> None:
    data = text_of(form, [(f"s{n}", [f"turn {n * n}"]) for n in range(200)]).encode()
    packed = gzip.compress(data)
    refused(write(tmp_path, packed[: len(packed) // 2]), "is a damaged archive")
    refused(write(tmp_path, packed[:-8] + b"\0" * 8), "is a damaged archive")
    refused(write(tmp_path, zipped(x=data)[:-30]), "is a damaged archive")
    refused(write(tmp_path, zipped(x=data, y=data)), "holds 2 files ('x', 'y')")
    refused(write(tmp_path, zipped()), "holds 0 files (none)")
    locked = bytearray(zipped(x=data))
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(header) + flags] |= 1
    refused(write(tmp_path, bytes(locked)), "is an encrypted archive; unpack it first")


@pytest.mark.parametrize("form", ["sessions", "messages", "conversations"])
def test_a_damaged_table(tmp_path: Path, form: str) -> None:
    table = pa.Table.from_pylist([record(form, id, turns) for id, turns in GOOD])
    pq.write_table(table, tmp_path / "f")
    whole = (tmp_path / "f").read_bytes()
    refused(write(tmp_path, whole[: len(whole) // 2]), "is a damaged parquet file")
    pq.write_table(table.slice(0, 0), tmp_path / "f")
    refused(tmp_path / "f", "is a parquet table without rows")
    pq.write_table(pa.table({"id": ["a"], "when": [b"\xff"]}), tmp_path / "f")
    refused(tmp_path / "f", "'when' is an unknown key", 1)


NO_DATA = {
    "empty": (b"", "the file is empty", None),
    "a mark and nothing else": (b"\xef\xbb\xbf", "blank", 1),
    "blanks": (b"\n \n", "blank", 1),
    "empty gzip": (gzip.compress(b""), "the file is empty", None),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "not UTF-8", 1),
    "a program": (b"\x7fELF\x02\x01\x01" + bytes(9), "", 1),
    "utf-16 without a mark": ('{"id"'.encode("utf-16-le"), "holds NUL bytes, as UTF-16", 1),
    "utf-16, half a character": (b"\xff\xfe{\x00\x22", "is not UTF-16", 1),
    "prose": (b"Hello there.\nHow are you?\n", "not valid JSON at column 1", 1),
    "a page": (b"<!DOCTYPE html><html></html>", "not valid JSON at column 1", 1),
    "a table": (b"id,turns\na,b\n", "not valid JSON at column 1", 1),
    "an empty array": (b"[]", "holds no session", None),
    "an empty object": (b"{}", "has neither 'id' nor 'turns'; its keys: none", 1),
    "an array of numbers": (b"[1, 2]", "must be a JSON object", 1),
    "a string": (b'"x"', "must be a JSON object", 1),
    "half an object": (b'{"a": ["x', "ends in the middle", 1),
    "a comma too many": (b'{"a": ["x"],}', "a comma before the closing bracket", 1),
    "something behind": (b'[{"id": "a", "turns": ["x"]}] x', "after the end of the JSON", 1),
}


@pytest.mark.parametrize(("data", "says", "line"), NO_DATA.values(), ids=NO_DATA)
def test_what_holds_no_dialogues(tmp_path: Path, data: bytes, says: str, line: int | None) -> None:
    refused(write(tmp_path, data), says, line)


def test_a_folder_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    refused(tmp_path, "cannot be read: Is a directory")
    refused(tmp_path / "none", "cannot be read: No such file")


@pytest.mark.parametrize("form", [*FORMS, "parquet"])
def test_a_file_that_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    path = write(tmp_path, text_of(form, GOOD))
    if form == "parquet":
        pq.write_table(pa.table({"id": ["a"], "turns": [["x"]]}), path)

    def vanish(path: Path, *rest: Any) -> Any:
        shape = layout.shape_of(path, *rest)
        path.unlink()
        return shape

    monkeypatch.setattr(own_file, "shape_of", vanish)
    refused(path, "cannot be read: No such file")


def test_the_good_file_of_each_form_loads(tmp_path: Path) -> None:
    """The malformed ones are refused for what is wrong with them, not for their form."""
    for form in FORMS:
        items = list(Jsonl(path=write(tmp_path, text_of(form, GOOD))).items())
        assert {s.id: s.turns for s in items if isinstance(s, Session)} == RIGHT


# The same through the command line.

PROFILE = """
pair = "embedded"
[generation]
max_new_tokens = 8
[[methods]]
name = "original"
[[tasks]]
name = "jsonl"
args = { path = "mine.json" }
"""

RUNS = {
    "cut off": (text_of("turns_by_id", GOOD)[:11].encode(), "mine.json:2: the file ends in the"),
    "damaged archive": (gzip.compress(b"x" * 999)[:15], "mine.json: is a damaged archive"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "mine.json:1: not UTF-8"),
    "nested turns": (text_of("turns_by_id", [("a", [["x"]])]).encode(), "mine.json:2: 'a' entry"),
    "unknown role": (b'[{"messages": [{"role": "x", "content": ""}]}]', "mine.json:1: 'messages'"),
}


@pytest.mark.parametrize(("data", "says"), RUNS.values(), ids=RUNS)
def test_a_run_of_it_ends_before_it_begins(
    bench: Callable[..., Result], data: bytes, says: str
) -> None:
    Path("mine.json").write_bytes(data)
    Path("my.toml").write_text(PROFILE)
    result = bench("run", "my.toml", "--out", "run")
    assert result.exit_code == 2, result.output + repr(result.exception)
    assert result.stderr.strip().splitlines()[-1].startswith(f"error: {says}")
    assert "Traceback" not in result.output and not Path("run").exists()
