"""Whether this machine's client measures what is true: the engine against a server of known timing.

A client that shares its processor with too much reads tokens late and calls the lateness latency.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from harness.engines.base import Sampling
from harness.engines.openai.chat_engine import ChatEngine
from harness.engines.openai.options import Options
from harness.engines.openai.remote import Server
from harness.engines.openai.secret import ApiKey
from harness.engines.openai.stub_server import WARM_UP, StubPlan
from harness.engines.openai.transport import Transport
from harness.errors import BenchError
from harness.method import Completion, user

PLAN = StubPlan(streams=64, tokens=24, first_s=0.25, gap_s=0.05, lifetime_s=60.0)
SPREAD_S = 0.6
"""The streams begin one after another within this time, and so run side by side for a second."""
TRIES = 3

TOLERANCE_S = 0.002
TOLERANCE = 0.02


class ClientTooSlow(BenchError):
    """This machine's client cannot measure a server now."""


@dataclass(frozen=True)
class Stream:
    """One stream as the stub did it and as the client saw it, in seconds.

    `received`, `first_sent`, `last_sent`: on the stub's clock, when it had the request and sent the
    first and the last token. `asked`, `first_seen`, `last_seen`: on the client's.
    """

    tokens: int
    received: float
    first_sent: float
    last_sent: float
    asked: float
    first_seen: float
    last_seen: float

    @property
    def ttft(self) -> tuple[float, float]:
        """The truth, and what was measured."""
        return self.first_sent - self.received, self.first_seen - self.asked

    @property
    def tpot(self) -> tuple[float, float]:
        gaps = self.tokens - 1
        return (self.last_sent - self.first_sent) / gaps, (self.last_seen - self.first_seen) / gaps


@dataclass(frozen=True)
class ClientCheck:
    """How far the client was from the truth, in seconds, over `streams` concurrent streams.

    `ttft_s`, `tpot_s`: the truth (median). Errors are of single streams; `passed`: in 95 % of the
    streams both are within 2 ms or 2 % of the truth, whichever is more. The worst stream alone
    decides nothing: it tells of the one longest pause that the system made in two seconds. `lag_*`:
    from a token's sending to its arrival in the client, over the first and the last tokens; None
    where the two processes share no clock. `tries`: how often it was measured until it passed.
    """

    streams: int
    tokens: int
    ttft_s: float
    ttft_error_p95_s: float
    ttft_error_max_s: float
    tpot_s: float
    tpot_error_p95_s: float
    tpot_error_max_s: float
    lag_p50_s: float | None
    lag_p95_s: float | None
    lag_max_s: float | None
    passed: bool
    tries: int = 1

    def record(self) -> dict[str, Any]:
        """As JSON values, for a manifest."""
        return asdict(self)

    def sentence(self) -> str:
        """What was measured, for people."""
        return (
            f"over {self.streams} streams at once 95 % of its times to the first token were within "
            f"{self.ttft_error_p95_s * 1e3:.1f} ms of the true {self.ttft_s * 1e3:.0f} ms (the "
            f"worst {self.ttft_error_max_s * 1e3:.1f}), and 95 % of its times per token within "
            f"{self.tpot_error_p95_s * 1e3:.2f} ms of the true {self.tpot_s * 1e3:.0f} ms"
        )


Beside = Callable[[], Awaitable[None]]
"""What else runs in the client's event loop, until it is cancelled."""


def check_client(tries: int = TRIES, beside: Beside | None = None) -> ClientCheck:
    """Measure the client, again where it fails: up to `tries` times, two seconds each.

    Raises ClientTooSlow when no try passes. Starts an event loop, so none may be running here.
    `beside`: see `measure_client`.
    """
    for attempt in range(1, tries + 1):
        check = replace(measure_client(beside=beside), tries=attempt)
        if check.passed:
            return check
    raise ClientTooSlow(
        f"this machine's client cannot measure a server's latency now: {check.sentence()}; it was "
        f"tried {tries} times; stop what else runs here, or run on a machine with a free core"
    )


def measure_client(
    plan: StubPlan = PLAN, spread_s: float = SPREAD_S, beside: Beside | None = None
) -> ClientCheck:
    """Have a stub in a process of its own answer `plan.streams` requests, and compare the times.

    The engine and its HTTP client are the ones that runs use. Every connection is opened before, as
    in all turns of a session but its first.
    """
    started = time.perf_counter()
    with _stub(plan) as output:
        hello = _line(output)
        shared = started <= hello["now"] <= time.perf_counter()
        seen = asyncio.run(_ask_all(hello["port"], plan, spread_s, beside))
        notes = _line(output)
    streams = [
        Stream(
            plan.tokens,
            received,
            sent[0],
            sent[-1],
            done.sent_at,
            done.first_token_at,
            done.last_token_at,
        )
        for done, (received, *sent) in zip(
            seen, (notes[str(i)] for i in range(plan.streams)), strict=True
        )
    ]
    return judge(streams, shared_clock=shared)


def judge(streams: Sequence[Stream], *, shared_clock: bool) -> ClientCheck:
    """What `streams` say of the client."""
    import numpy as np

    true_ttft, ttft = np.array([s.ttft for s in streams]).T
    true_tpot, tpot = np.array([s.tpot for s in streams]).T
    ttft_error, tpot_error = np.abs(ttft - true_ttft), np.abs(tpot - true_tpot)
    passed = all(
        np.percentile(error / np.maximum(TOLERANCE_S, TOLERANCE * truth), 95) <= 1
        for error, truth in ((ttft_error, true_ttft), (tpot_error, true_tpot))
    )
    lags = [
        lag for s in streams for lag in (s.first_seen - s.first_sent, s.last_seen - s.last_sent)
    ]
    p50, p95, most = (
        (float(np.percentile(lags, q)) for q in (50, 95, 100)) if shared_clock else [None] * 3
    )
    return ClientCheck(
        streams=len(streams),
        tokens=streams[0].tokens,
        ttft_s=float(np.median(true_ttft)),
        ttft_error_p95_s=float(np.percentile(ttft_error, 95)),
        ttft_error_max_s=float(ttft_error.max()),
        tpot_s=float(np.median(true_tpot)),
        tpot_error_p95_s=float(np.percentile(tpot_error, 95)),
        tpot_error_max_s=float(tpot_error.max()),
        lag_p50_s=p50,
        lag_p95_s=p95,
        lag_max_s=most,
        passed=passed,
    )


@contextmanager
def _stub(plan: StubPlan) -> Iterator[IO[str]]:
    """A stub's standard output while it runs; it is ended with the block."""
    script = Path(__file__).with_name("stub_server.py")
    command = [sys.executable, "-I", str(script), json.dumps(asdict(plan))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.kill()


def _line(output: IO[str]) -> dict[str, Any]:
    text = output.readline()
    if not text:
        raise BenchError("the client could not be checked: the stub server ended early")
    value: dict[str, Any] = json.loads(text)
    return value


async def _ask_all(
    port: int, plan: StubPlan, spread_s: float, beside: Beside | None
) -> list[Completion]:
    options = Options(base_url=f"http://127.0.0.1:{port}", attempts=1, stall_s=plan.lifetime_s)
    server = Server("stub", options, Transport(options, ApiKey(None)), None)
    engine = ChatEngine(server, "F", None, {})
    sampling = Sampling(max_new_tokens=plan.tokens)

    async def one(place: int, origin: float) -> Completion:
        await asyncio.sleep(origin + spread_s * place / plan.streams - time.perf_counter())
        return await engine.chat([user(str(place))], sampling)

    try:
        warm_up = (engine.chat([user(WARM_UP)], sampling) for _ in range(plan.streams))
        await asyncio.gather(*warm_up)
        other = None if beside is None else asyncio.ensure_future(beside())
        try:
            origin = time.perf_counter()
            return await asyncio.gather(*(one(i, origin) for i in range(plan.streams)))
        finally:
            if other is not None:
                other.cancel()
    finally:
        await engine.close()
