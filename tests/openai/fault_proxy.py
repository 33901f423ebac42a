"""A server that passes requests on to another one, and spoils those that it is told to spoil."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp
from aiohttp import web


@dataclass(frozen=True)
class Fault:
    """What is done to one try. `after`: how many events pass before it; -1, not even the head.

    kind: "http" (answers `status` with `headers` and `body`, and asks nobody), "disconnect", "lost"
    (the upstream's answer, which is no stream, does not arrive), "garbage" (writes `body`, then
    goes on), "stall", "error" (an error object in the stream, whose JSON is `body`), "cut" (ends
    the stream cleanly there) or "change" (see `change`).
    `change`: makes another event of each; None drops it.
    """

    kind: str
    after: int = 0
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    change: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None


@dataclass
class Passed:
    """One try: what was done to it, and what of the reply went by unspoilt."""

    label: str
    fault: Fault | None
    text: str = ""
    usage: dict[str, Any] | None = None
    left: bool = False


Plan = Callable[[str, int], Fault | None]
"""What is done to the n-th try (from 1) of the request of a label."""


@dataclass
class FaultProxy:
    """`log`: every try for a reply, in the order of arrival. A label is the last message's text.

    `plan` is for requests for a reply, `plain` for all others, whose label is their path.
    """

    upstream: str
    plan: Plan
    plain: Plan = lambda label, attempt: None
    log: list[Passed] = field(default_factory=list)
    _tries: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/v1/{path:.*}", self._handle)
        app.cleanup_ctx.append(self._client)
        return app

    def tries(self, label: str) -> list[Passed]:
        return [passed for passed in self.log if passed.label == label]

    async def _client(self, app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as self._session:
            yield

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        body = json.loads(data) if data else {}
        label = label_of(request.path, body)
        if not body.get("stream"):
            self._tries[label] += 1
            fault = self.plain(label, self._tries[label])
            if fault is not None and fault.kind == "http":
                headers = dict(fault.headers)
                return web.Response(status=fault.status, text=fault.body, headers=headers)
            answer = await self._pass_on(request, data)
            if fault is not None:
                assert fault.kind == "lost" and request.transport is not None
                request.transport.abort()
            return answer
        self._tries[label] += 1
        passed = Passed(label, self.plan(label, self._tries[label]))
        self.log.append(passed)
        try:
            return await self._stream(request, data, passed)
        except ConnectionResetError:
            passed.left = True
            return web.Response()

    async def _pass_on(self, request: web.Request, data: bytes) -> web.Response:
        async with self._session.request(
            request.method, self._url(request), data=data, headers=_headers(request)
        ) as answer:
            return web.Response(
                body=await answer.read(), status=answer.status, content_type=answer.content_type
            )

    async def _stream(
        self, request: web.Request, data: bytes, passed: Passed
    ) -> web.StreamResponse:
        fault = passed.fault
        if fault is not None and fault.kind == "http":
            return web.Response(status=fault.status, text=fault.body, headers=dict(fault.headers))
        if fault is not None and fault.after < 0 and await _leave(request, fault):
            return web.Response()
        async with self._session.post(
            self._url(request), data=data, headers=_headers(request)
        ) as answer:
            if answer.status != 200:
                return web.Response(body=await answer.read(), status=answer.status)
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            place = 0
            async for line in answer.content:
                if not line.startswith(b"data: "):
                    continue
                spoils = fault is not None and place == fault.after and fault.kind != "change"
                if spoils and await _spoil(request, response, fault):
                    return response
                place += 1
                await self._event(response, line[6:].strip(), passed)
        await response.write_eof()
        return response

    async def _event(self, response: web.StreamResponse, data: bytes, passed: Passed) -> None:
        fault = passed.fault
        if data != b"[DONE]":
            event = json.loads(data)
            _note(passed, event)
            if fault is not None and fault.change is not None:
                changed = fault.change(event)
                if changed is None:
                    return
                data = json.dumps(changed).encode()
        await response.write(b"data: " + data + b"\n\n")

    def _url(self, request: web.Request) -> str:
        return self.upstream.removesuffix("/v1") + request.path


async def _leave(request: web.Request, fault: Fault) -> bool:
    """Break the connection off, or wait until the client does; False for another fault."""
    if fault.kind == "disconnect":
        assert request.transport is not None
        request.transport.abort()
    elif fault.kind == "stall":
        for _ in range(3000):  # at most half a minute
            await asyncio.sleep(0.01)
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError
    return fault.kind in ("disconnect", "stall")


async def _spoil(request: web.Request, response: web.StreamResponse, fault: Fault | None) -> bool:
    """Do what `fault` says; whether the stream ends with it."""
    assert fault is not None
    if await _leave(request, fault):
        return True
    if fault.kind == "garbage":
        await response.write(fault.body.encode())
        return False
    if fault.kind == "error":
        await response.write(f"data: {fault.body}\n\ndata: [DONE]\n\n".encode())
    await response.write_eof()
    return True


def _note(passed: Passed, event: dict[str, Any]) -> None:
    passed.usage = event.get("usage") or passed.usage
    for choice in event.get("choices") or []:
        passed.text += choice.get("text") or (choice.get("delta") or {}).get("content") or ""


def _headers(request: web.Request) -> dict[str, str]:
    kept = ("Authorization", "Content-Type")
    return {name: request.headers[name] for name in kept if name in request.headers}


def label_of(path: str, body: dict[str, Any]) -> str:
    if "messages" in body:
        return str(body["messages"][-1]["content"])
    return json.dumps(body["prompt"]) if "prompt" in body else path.removeprefix("/v1/")


def scheduled(seed: int, faults: tuple[Fault, ...], most: int) -> Plan:
    """Up to `most` faults in a row for a request, the same for the same seed and label."""

    def plan(label: str, attempt: int) -> Fault | None:
        random = Random(f"{seed} {label}")
        chosen = [random.choice(faults) for _ in range(random.choice(range(most + 1)))]
        return chosen[attempt - 1] if attempt <= len(chosen) else None

    return plan


def on_first(*faults: Fault | None) -> Plan:
    """These faults for the first tries of every request."""
    return lambda label, attempt: faults[attempt - 1] if attempt <= len(faults) else None


def never(label: str, attempt: int) -> Fault | None:
    return None
