"""Server-sent events: from pieces of a byte stream to the data of whole events."""

from __future__ import annotations

from collections.abc import Iterator

from harness.engines.openai.faults import TryFailed

_LONGEST_LINE = 64 * 2**20
"""Bytes. The ids of a prompt come in one line; a million of them take 8 MiB."""

_OTHER_FIELDS = (b":", b"event:", b"id:", b"retry:")


class EventParser:
    """Feed it what arrives; it gives the data of every event that is complete.

    Raises TryFailed for a line that is no field of an event: the standard would have it ignored,
    but what follows such a line cannot be trusted to be whole.
    """

    def __init__(self) -> None:
        self._tail = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[bytes]:
        lines = (self._tail + piece).split(b"\n")
        self._tail = lines.pop()
        if len(self._tail) > _LONGEST_LINE:
            raise TryFailed("malformed", "a line without an end")
        for line in lines:
            yield from self._line(line)

    def end(self) -> Iterator[bytes]:
        """The event that the end of the stream leaves without its empty line, if any."""
        if self._tail:
            yield from self._line(self._tail)
        yield from self._line(b"")

    def _line(self, line: bytes) -> Iterator[bytes]:
        if line.endswith(b"\r"):
            line = line[:-1]
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif not line:
            if self._data:
                yield self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                self._data.clear()
        elif not line.startswith(_OTHER_FIELDS):
            text = line[:80].decode("utf-8", "replace")
            raise TryFailed("malformed", f"a line that belongs to no event: {text}")
