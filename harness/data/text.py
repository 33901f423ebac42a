"""Bytes to text: the encoding a file announces, and the place of what does not fit it."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from harness.data.files import open_bytes
from harness.errors import UserError

CHUNK = 64 << 10
"""Bytes read at once. Larger pieces are slower: what is decoded leaves the processor's cache."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_chunks(path: Path) -> Iterator[str]:
    """The text of `path` in pieces, byte order marks removed.

    UTF-8, unless the file begins with the byte order mark of UTF-16 or UTF-32. Raises UserError
    naming the line of bytes that do not fit, and for an empty file.
    """
    with open_bytes(path) as file:
        raw = file.read(max(CHUNK, 4))  # no less than a byte order mark
        if not raw:
            raise UserError(path, "the file is empty")
        encoding = next((name for bom, name in _BOMS if raw.startswith(bom)), "utf-8")
        yield from _decoded(raw, file, encoding, path)


def _decoded(raw: bytes, file: IO[bytes], encoding: str, path: Path) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    while True:
        try:
            text = decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(error.encoding, "replace")
            shown = encoding.removesuffix("-sig").upper()
            raise UserError(
                f"{path}:{line + before.count(chr(10))}",
                f"byte {error.object[error.start]:#04x} is not {shown}; save the file as UTF-8",
            ) from None
        if text:
            yield text
        if not raw:
            return
        line += text.count("\n")
        raw = file.read(CHUNK)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of `path` with their numbers from 1, without their ends (LF or CRLF).

    Only these end a line: separators like U+2028 are part of the text.
    """
    number, pieces = 0, [""]
    for chunk in read_chunks(path):
        end, *begun = chunk.split("\n")
        pieces.append(end)
        for line in begun:
            number += 1
            yield number, "".join(pieces).removesuffix("\r")
            pieces = [line]
    rest = "".join(pieces)
    if rest:
        yield number + 1, rest.removesuffix("\r")
