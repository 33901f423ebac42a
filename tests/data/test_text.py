"""Bytes to text: encodings, byte order marks, line ends, and the line of what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.data import text
from harness.data.text import read_chunks, read_lines
from harness.errors import UserError

SAMPLE = "one, zwölf\nਊĊ: both have the byte of a line feed in UTF-16\n三\u2028四 🚀\nlast"


@pytest.fixture(params=[1, 2, 3, 5, 64 << 10])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many bytes are read at once: a character is cut at every possible place."""
    monkeypatch.setattr(text, "CHUNK", request.param)
    return int(request.param)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_a_byte_order_mark_tells_the_encoding(tmp_path: Path, encoding: str, chunk: int) -> None:
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    file = tmp_path / "a.txt"
    file.write_bytes((mark + SAMPLE).encode(encoding))
    assert "".join(read_chunks(file)) == SAMPLE
    assert list(read_lines(file)) == list(enumerate(SAMPLE.split("\n"), start=1))


def test_only_line_feeds_end_a_line(tmp_path: Path, chunk: int) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("a\r\n\r\nb\rc\u2028d\x0be\n\nf\r\n".encode())
    lines = [(1, "a"), (2, ""), (3, "b\rc\u2028d\x0be"), (4, ""), (5, "f")]
    assert list(read_lines(file)) == lines


def test_a_long_line_over_many_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "CHUNK", 7)
    file = tmp_path / "a.txt"
    file.write_text("short\n" + "long " * 20_000 + "\nend", encoding="utf-8")
    assert [len(line) for _, line in read_lines(file)] == [5, 100_000, 3]


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        (b"good\nstill\n" + "schön".encode("latin-1"), 3, "0xf6 is not UTF-8"),
        ("schön\n\n".encode() + b"cut: \xe4\xb8", 3, "0xe4 is not UTF-8"),
        (b"\xef\xbb\xbfgood\n\xff", 2, "0xff is not UTF-8"),
        (("\ufeffਊĊ\nnext\n".encode("utf-16-le") + b"\x41"), 3, "0x41 is not UTF-16"),
        (("\ufeffĊ\n".encode("utf-16-be") + b"\xdc\x00\x00\x41"), 2, "0xdc is not UTF-16"),
        ("a\nb".encode("utf-32") + b"\xff\xff\xff\xff", 2, "0xff is not UTF-32"),
    ],
)
def test_what_does_not_fit_has_its_line(
    tmp_path: Path, content: bytes, line: int, problem: str, chunk: int
) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"{problem}; save the file as UTF-8") as failed:
        list(read_chunks(file))
    assert failed.value.place == f"{file}:{line}"


def test_an_empty_file_is_refused_and_a_blank_one_is_blank(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"")
    with pytest.raises(UserError, match="the file is empty"):
        list(read_chunks(file))
    file.write_bytes(b"\xef\xbb\xbf \n")
    assert list(read_lines(file)) == [(1, " ")]
