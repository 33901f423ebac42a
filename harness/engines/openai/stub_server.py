"""A server of known timing, in a process of its own: what the client's own times are held to.

Run as a module by `self_check.py`. It streams the same small reply to everyone, at planned times,
notes when it received each request and sent each token, serves so many streams at most and lives
so long at most. Notes are seconds of `time.perf_counter()`. Uses nothing but the standard library,
so that it starts fast and its own work takes no time worth speaking of.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field

WARM_UP = "warm-up"
"""The request of this text is answered at once, and not noted."""


@dataclass(frozen=True)
class StubPlan:
    """What a stub does. `first_s`: from a request to its first token; `gap_s`: between tokens.

    `lifetime_s`: after that it ends, whatever is left to do.
    """

    streams: int
    tokens: int
    first_s: float
    gap_s: float
    lifetime_s: float


@dataclass(frozen=True)
class StubNote:
    """When a stream's request had come, and when each of its tokens was sent."""

    received_at: float
    sent_at: list[float] = field(default_factory=list)


class Stub:
    """What is planned and what was noted, for all connections."""

    def __init__(self, plan: StubPlan) -> None:
        self.plan = plan
        self.notes: dict[str, StubNote] = {}
        self.done = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def begin(self, connection: Connection, name: str, received_at: float) -> None:
        """Answer the request of that name, or refuse one too many."""
        if name == WARM_UP:
            tokens = [self._event(place) for place in range(self.plan.tokens)]
            connection.write(_HEAD + b"".join(tokens) + self._end())
            return
        if name in self.notes or len(self.notes) >= self.plan.streams:
            connection.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
            return
        note = self.notes[name] = StubNote(received_at)
        connection.write(_HEAD + _framed(_choice({"role": "assistant", "content": ""}, None)))
        self._plan_next(connection, note)

    def _plan_next(self, connection: Connection, note: StubNote) -> None:
        due = note.received_at + self.plan.first_s + len(note.sent_at) * self.plan.gap_s
        self._loop.call_later(max(0.0, due - time.perf_counter()), self._next, connection, note)

    def _next(self, connection: Connection, note: StubNote) -> None:
        """Send one token; after the last, the counts and the end."""
        event = self._event(len(note.sent_at))
        note.sent_at.append(time.perf_counter())
        connection.write(event)
        if len(note.sent_at) < self.plan.tokens:
            self._plan_next(connection, note)
            return
        connection.write(self._end())
        finished = sum(len(n.sent_at) == self.plan.tokens for n in self.notes.values())
        if finished == self.plan.streams:
            self.done.set()

    def _event(self, place: int) -> bytes:
        last = place == self.plan.tokens - 1
        return _framed(_choice({"content": " x"}, "length" if last else None))

    def _end(self) -> bytes:
        usage = {"prompt_tokens": 8, "completion_tokens": self.plan.tokens}
        counts = json.dumps({"choices": [], "usage": usage}).encode()
        return _framed(counts) + _framed(b"[DONE]") + b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    """Just enough of HTTP/1.1 for one kind of request, one at a time."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._data += data
        head, ended, body = self._data.partition(b"\r\n\r\n")
        if not ended or len(body) < _length(head):
            return
        self._data = b""
        self._stub.begin(self, json.loads(body)["messages"][0]["content"], now)

    def write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _length(head: bytes) -> int:
    fields = [line.partition(b":") for line in head.lower().split(b"\r\n")]
    return next(int(value) for name, _, value in fields if name == b"content-length")


def _framed(data: bytes) -> bytes:
    """An event as one chunk of a body."""
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _choice(delta: dict[str, str], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return json.dumps({"id": "stub", "model": "stub", "choices": [choice]}).encode()


async def serve(plan: StubPlan) -> None:
    """Say the port and the time on standard output, serve, and say the notes there at the end."""
    stub = Stub(plan)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(stub), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"port": port, "now": time.perf_counter()}), flush=True)
    try:
        async with asyncio.timeout(plan.lifetime_s):
            await stub.done.wait()
    except TimeoutError:
        print(f"the stub ends: {plan.lifetime_s:g} s have passed", file=sys.stderr)
    notes = {name: [note.received_at, *note.sent_at] for name, note in stub.notes.items()}
    print(json.dumps(notes), flush=True)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(StubPlan(**json.loads(sys.argv[1]))))
