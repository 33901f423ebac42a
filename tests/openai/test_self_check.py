"""The client self-check: a real stub in a process of its own, and the verdict on known numbers."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

import pytest

from harness.engines.openai import self_check
from harness.engines.openai.self_check import (
    ClientTooSlow,
    Stream,
    check_client,
    judge,
    measure_client,
)
from harness.engines.openai.stub_server import StubPlan

SMALL = StubPlan(streams=8, tokens=6, first_s=0.1, gap_s=0.02, lifetime_s=20.0)


def test_an_idle_client_tells_the_truth():
    """Up to ten tries: other tests may be using every core of this machine."""
    check = check_client(tries=10)
    assert check.passed
    assert check.streams == 64
    assert check.ttft_error_p95_s <= 0.02 * check.ttft_s or check.ttft_error_p95_s <= 0.002
    assert check.tpot_error_p95_s <= 0.002
    lags = [check.lag_p50_s or 0.0, check.lag_p95_s or 0.0, check.lag_max_s or 0.0]
    assert lags[0] > 0 and lags == sorted(lags)
    assert json.loads(json.dumps(check.record()))["passed"] is True


async def blocking() -> None:
    """What hogs the event loop: half of the time it does nothing else."""
    while True:
        time.sleep(0.05)
        await asyncio.sleep(0.05)


def test_a_client_whose_loop_is_blocked_is_refused():
    with pytest.raises(ClientTooSlow, match=r"cannot measure .* over 64 streams .* tried 1 time"):
        check_client(tries=1, beside=blocking)


def test_the_stub_does_what_is_planned():
    check = measure_client(SMALL, spread_s=0.05)
    # It is never early, and how late it was is the truth that the client is held to.
    assert check.ttft_s >= SMALL.first_s
    assert (check.streams, check.tokens) == (8, 6)


def test_a_stub_ends_by_itself_when_nobody_asks(capfd):
    with self_check._stub(replace(SMALL, lifetime_s=0.2)) as output:
        assert self_check._line(output)["port"] > 0
        assert self_check._line(output) == {}
        assert output.readline() == ""
    assert "the stub ends: 0.2 s have passed" in capfd.readouterr().err


# The verdict.


def stream(ttft_error=0.0, tpot_error=0.0, *, ttft=0.5, tpot=0.05, tokens=21):
    sent = (10.0 + ttft, 10.0 + ttft + tpot * (tokens - 1))
    seen = (sent[0] + ttft_error, sent[1] + ttft_error + tpot_error * (tokens - 1))
    return Stream(tokens, 10.0, *sent, 10.0, *seen)


def verdict(bad, late=64):
    """Of 64 streams, so many of which are `bad`."""
    return judge([bad] * late + [stream()] * (64 - late), shared_clock=True)


@pytest.mark.parametrize(
    ("bad", "passed"),
    [
        (stream(ttft_error=0.0099), True),  # within 2 % of 0.5 s
        (stream(ttft_error=0.0101), False),
        (stream(ttft_error=-0.0101), False),
        (stream(ttft_error=0.0019, ttft=0.05), True),  # within 2 ms
        (stream(ttft_error=0.0021, ttft=0.05), False),
        (stream(tpot_error=0.0019), True),
        (stream(tpot_error=0.0021), False),
        (stream(tpot_error=-0.0021), False),
        (stream(tpot_error=0.0039, tpot=0.2), True),
        (stream(tpot_error=0.0041, tpot=0.2), False),
    ],
)
def test_an_error_counts_from_two_milliseconds_or_two_percent_on(bad, passed):
    assert verdict(bad).passed is passed


@pytest.mark.parametrize(("late", "passed"), [(0, True), (3, True), (4, False), (64, False)])
def test_one_stream_in_twenty_may_be_late(late, passed):
    check = verdict(stream(ttft_error=0.05), late=late)
    assert check.passed is passed
    assert check.ttft_error_max_s == pytest.approx(0.05 if late else 0.0)


def test_the_numbers_are_those_of_the_streams():
    check = verdict(stream(ttft_error=0.004, tpot_error=0.001))
    assert check.ttft_s == pytest.approx(0.5) and check.tpot_s == pytest.approx(0.05)
    assert check.ttft_error_p95_s == pytest.approx(0.004)
    assert check.tpot_error_p95_s == pytest.approx(0.001)
    assert check.lag_max_s == pytest.approx(0.004 + 0.001 * 20)
    assert "95 % of its times to the first token were within 4.0 ms" in check.sentence()


def test_without_a_common_clock_there_is_no_lag():
    check = judge([stream()], shared_clock=False)
    assert (check.lag_p50_s, check.lag_p95_s, check.lag_max_s) == (None, None, None)
    assert check.passed
