"""Bytes to text: the encoding a file announces, and the place of what does not fit it."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from harness.data.files import open_bytes
from harness.errors import UserError

CHUNK = 4 << 20

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_chunks(path: Path) -> Iterator[str]:
    """The text of `path` in pieces of some MB, byte order marks removed.

    UTF-8, unless the file begins with the byte order mark of UTF-16 or UTF-32. Raises UserError
    naming the line of bytes that do not fit, and for an empty file.
    """
    with open_bytes(path) as file:
        raw = file.read(CHUNK)
        if not raw:
            raise UserError(path, "the file is empty")
        encoding = next((name for bom, name in _BOMS if raw.startswith(bom)), "utf-8")
        yield from _decoded(raw, file, encoding, path)


def _decoded(raw: bytes, file: IO[bytes], encoding: str, path: Path) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)()
    lines = 1
    while True:
        pending = decoder.getstate()[0]
        try:
            text = decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            line = lines + (pending + raw)[: error.start].count(b"\n")
            shown = encoding.removesuffix("-sig").upper()
            raise UserError(
                f"{path}:{line}",
                f"byte {error.object[error.start]:#04x} is not {shown}; save the file as UTF-8",
            ) from None
        if text:
            yield text
        if not raw:
            return
        lines += raw.count(b"\n")
        raw = file.read(CHUNK)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of `path` with their numbers from 1, without their ends (LF or CRLF).

    Only these end a line: separators like U+2028 are part of the text.
    """
    number, rest = 0, ""
    for chunk in read_chunks(path):
        *whole, rest = (rest + chunk).split("\n")
        for line in whole:
            number += 1
            yield number, line.removesuffix("\r")
    if rest:
        yield number + 1, rest.removesuffix("\r")
