"""The parser of server-sent events."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engines.openai import sse
from harness.engines.openai.faults import TryFailed
from harness.engines.openai.sse import EventParser


def parse(*pieces: bytes) -> list[bytes]:
    parser = EventParser()
    found = [event for piece in pieces for event in parser.feed(piece)]
    return found + list(parser.end())


STREAM = (
    b': hello\r\n\r\nevent: message\ndata: {"a": 1}\n\ndata:[2]\r\n\r\nid: 3\nretry: 10\n'
    b"data: one\ndata: two\n\n\n\ndata: \xf0\x9f\x98\x80\n\ndata: [DONE]\n\n"
)
EVENTS = [b'{"a": 1}', b"[2]", b"one\ntwo", "\N{GRINNING FACE}".encode(), b"[DONE]"]


def test_events_are_found():
    assert parse(STREAM) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_where_a_stream_is_cut_into_pieces_changes_nothing(cuts):
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in pairwise(places)]
    assert parse(*pieces) == EVENTS


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n", b"\n\n"])
def test_the_last_event_may_lack_its_empty_line(ending):
    assert parse(b"data: a\n\ndata: [DONE]" + ending) == [b"a", b"[DONE]"]


@pytest.mark.parametrize("line", [b"<html>", b"\x00\xff", b'{"error": 1}', b"dat: x", b"\xef"])
def test_a_line_of_no_event_is_refused(line):
    with pytest.raises(TryFailed) as caught:
        parse(b"data: a\n\n" + line + b"\n")
    assert caught.value.kind == "malformed"


def test_a_line_without_an_end_is_refused(monkeypatch):
    monkeypatch.setattr(sse, "_LONGEST_LINE", 1000)
    with pytest.raises(TryFailed, match="malformed"):
        parse(*[b"data: " + b"x" * 300] * 4)
