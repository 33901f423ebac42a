"""One server over HTTP: a kept-alive client, one try of a request, and what became of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp

from harness.engines.openai.faults import (
    NoAnswer,
    Refused,
    ServerRefused,
    TryFailed,
    error_in,
    from_error_object,
    from_status,
    one_line,
)
from harness.engines.openai.options import Options
from harness.engines.openai.retry import GaveUp, RetryPolicy, Tried
from harness.engines.openai.secret import ApiKey
from harness.engines.openai.sse import EventParser
from harness.engines.openai.stream import ReplyBuilder, Streamed, Wanted
from harness.errors import BenchError, ContextOverflow

T = TypeVar("T")

_BODY = 16 * 2**20
"""The most bytes that are read of an answer that is no stream of events."""
_LAST_BYTES_S = 1.0
"""How long the end of a connection's answer may take after the stream's last event."""


@dataclass(frozen=True)
class Sent:
    """A try that succeeded; `sent_at`: when it was sent, in `time.perf_counter()` seconds."""

    sent_at: float
    reply: Streamed


class Transport:
    """Requests to one server, each tried again as `options` say. Bound to one event loop.

    Whatever a server says passes `describe` before it is put into an error or a record: there the
    key is taken out.
    """

    def __init__(self, options: Options, key: ApiKey, policy: RetryPolicy | None = None) -> None:
        self._options = options
        self._key = key
        self._policy = policy or RetryPolicy.of(options)
        self._client: aiohttp.ClientSession | None = None

    async def stream(
        self, path: str, body: Callable[[], Mapping[str, Any]], wanted: Wanted
    ) -> Tried[Sent]:
        """POST each try's body, and read the stream that answers it. Raises what `ask` raises."""
        return await self.ask(lambda: self._stream_once(path, json.dumps(body()).encode(), wanted))

    async def get(self, path: str) -> Any:
        """The JSON value at `path`. Raises what `ask` raises."""
        return (await self.ask(lambda: self._plain("GET", path, None))).value

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON value, or the text, that answers `body`. Raises what `ask` raises."""
        return (await self.ask(lambda: self.post_once(path, body))).value

    async def post_once(self, path: str, body: Mapping[str, Any]) -> Any:
        """As `post`, for use in `ask`. Raises TryFailed and Refused."""
        return await self._plain("POST", path, json.dumps(body).encode())

    async def ask(self, attempt: Callable[[], Awaitable[T]]) -> Tried[T]:
        """`attempt`, again where that may help.

        Raises ContextOverflow, ServerRefused, and NoAnswer when every try failed.
        """
        problem: BenchError
        try:
            return await self._policy.run(attempt)
        except Refused as refusal:
            message = self.describe(refusal.detail)
            refused = ServerRefused(refusal.status, message)
            problem = ContextOverflow(str(refused)) if refusal.overflow else refused
        except GaveUp as gave_up:
            problem = NoAnswer(self.lines(gave_up.failures))
        # Out here it has no context: what the libraries raised may hold headers.
        raise problem

    def lines(self, failures: tuple[TryFailed, ...]) -> tuple[str, ...]:
        """One line for each failed try, for the record."""
        return tuple(failure.line(self._key.scrub) for failure in failures)

    def describe(self, text: str) -> str:
        """A server's text on one line, cut, without the key."""
        return one_line(self._key.scrub(text))

    def clean_reply(self, text: str) -> str:
        return self._key.scrub_reply(text)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _session(self) -> aiohttp.ClientSession:
        options = self._options
        if self._client is None:
            # No proxy, netrc or cookie from outside: they could send other secrets, or elsewhere.
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=options.keep_alive_s),
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    connect=options.connect_s,
                    sock_connect=options.connect_s,
                    sock_read=options.stall_s,
                ),
                headers={"Accept-Encoding": "identity", **self._key.headers()},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._client

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, data: bytes | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer's head. What the client library raises within becomes a TryFailed."""
        url = f"{self._options.base_url}{path}"
        headers = {"Content-Type": "application/json"}
        failure: TryFailed | Refused
        try:
            async with self._session().request(
                method, url, data=data, headers=headers, allow_redirects=False
            ) as response:
                yield response
            return
        except aiohttp.ClientConnectorCertificateError as error:
            failure = Refused(0, f"its certificate is not valid: {error}")
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            failure = TryFailed("connect", _reason(error))
        except aiohttp.SocketTimeoutError:
            failure = TryFailed("stall", f"nothing came for {self._options.stall_s:g} s")
        except aiohttp.ClientResponseError as error:
            failure = TryFailed("malformed", f"no HTTP: {error.message}")
        except (aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError) as error:
            failure = TryFailed("disconnect", _reason(error))
        raise failure

    async def _stream_once(self, path: str, data: bytes, wanted: Wanted) -> Sent:
        builder = ReplyBuilder(wanted)
        sent_at = time.perf_counter()
        try:
            async with self._answer("POST", path, data) as response:
                if response.status != 200 or _is_json(response):
                    raise _no_stream(response, await _body(response))
                await self._read(response, builder)
                reply = builder.finish()
                await _end_of(response)
        except TryFailed as failure:
            failure.chunks = builder.chunks
            failure.seconds = time.perf_counter() - sent_at
            raise
        return Sent(sent_at, reply)

    async def _read(self, response: aiohttp.ClientResponse, builder: ReplyBuilder) -> None:
        """Feed the stream to `builder` until its last event or its end."""
        parser = EventParser()
        clock = time.perf_counter
        stall_s = self._options.stall_s
        event_at = clock()
        while not builder.done:
            piece = await response.content.readany()
            now = clock()
            if not piece:
                for data in parser.end():
                    builder.take(data, now)
                return
            before = builder.chunks
            for data in parser.feed(piece):
                builder.take(data, now)
            if builder.chunks > before:
                event_at = now
            elif now - event_at > stall_s:  # comments keep a connection awake, and are no events
                raise TryFailed("stall", f"no event for {stall_s:g} s")

    async def _plain(self, method: str, path: str, data: bytes | None) -> Any:
        started = time.perf_counter()
        try:
            async with self._answer(method, path, data) as response:
                body = await _body(response)
                if not 200 <= response.status < 300:
                    raise from_status(response.status, body, response.headers)
        except TryFailed as failure:
            failure.seconds = time.perf_counter() - started
            raise
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            return body.decode("utf-8", "replace")


def _no_stream(response: aiohttp.ClientResponse, body: bytes) -> TryFailed | Refused:
    """What an answer without a stream comes to: an error status, or JSON in the place of events."""
    if response.status != 200:
        return from_status(response.status, body, response.headers)
    try:
        error = error_in(json.loads(body))
    except (ValueError, RecursionError):
        error = None
    if error is not None:
        return from_error_object(error)
    return TryFailed("malformed", "one JSON value where a stream of events was asked for")


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """A body that is no stream. An error's may break off: its status says enough."""
    pieces: list[bytes] = []
    size = 0
    try:
        while size <= _BODY and (piece := await response.content.readany()):
            pieces.append(piece)
            size += len(piece)
    except aiohttp.ClientError:
        if response.status == 200:
            raise
    return b"".join(pieces)


async def _end_of(response: aiohttp.ClientResponse) -> None:
    """Read to the end, so that the connection can be used again; give it up where that takes long.

    The reply is whole already: nothing that goes wrong here makes it less so.
    """
    try:
        async with asyncio.timeout(_LAST_BYTES_S):
            while await response.content.readany():
                pass
    except (TimeoutError, aiohttp.ClientError, OSError):
        response.close()


def _is_json(response: aiohttp.ClientResponse) -> bool:
    return response.content_type == "application/json"


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
