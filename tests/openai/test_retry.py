"""How often and after how long a request is tried again."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engines.openai.faults import Refused, TryFailed, retry_after
from harness.engines.openai.options import Options
from harness.engines.openai.retry import GaveUp, RetryPolicy


def policy(**changes):
    settings = {"attempts": 5, "backoff_s": 0.5, "backoff_cap_s": 3.0, "retry_after_cap_s": 60.0}
    return RetryPolicy(**{**settings, **changes})


def failed(**details):
    return TryFailed("http", "busy", status=429, **details)


@pytest.mark.parametrize(("number", "longest"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 3.0), (60, 3.0)])
def test_the_wait_doubles_up_to_its_cap_with_half_of_it_random(number, longest):
    waits = {policy().wait_s(failed(), number) for _ in range(1)}
    several = policy()
    waits |= {several.wait_s(failed(), number) for _ in range(200)}
    assert longest / 2 <= min(waits) < longest * 0.6
    assert longest * 0.9 < max(waits) <= longest


@pytest.mark.parametrize(("asked", "least"), [(0.0, 0.0), (7.0, 7.0), (3600.0, 60.0)])
def test_a_servers_wish_takes_the_place_of_the_backoff_up_to_a_cap(asked, least):
    waits = policy()
    for number in (1, 4):
        assert least <= waits.wait_s(failed(retry_after_s=asked), number) <= least + 0.5


def test_waits_repeat_and_touch_no_randomness_of_the_process():
    random.seed(7)
    expected = random.random()
    random.seed(7)
    first, second = policy(), policy()
    assert [first.wait_s(failed(), n) for n in (1, 2, 3)] == [
        second.wait_s(failed(), n) for n in (1, 2, 3)
    ]
    assert random.random() == expected


NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("2", 2.0),
        (" 1.5 ", 1.5),
        (format_datetime(NOW + timedelta(seconds=30), usegmt=True), 30.0),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0.0),
        ("Wed, 25 Nov 2026 12:01:00 -0000", 60.0),
        ("-3", None),
        ("soon", None),
        ("inf", None),
        ("1e9", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date(value, seconds):
    assert retry_after({"Retry-After": value}, NOW) == seconds


@given(st.text(max_size=40))
def test_no_retry_after_header_breaks_anything(value):
    found = retry_after({"Retry-After": value}, NOW)
    assert found is None or found >= 0


def tried(outcomes, **changes):
    """What a policy makes of an attempt with these outcomes in turn."""
    left = list(outcomes)

    async def attempt():
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return asyncio.run(policy(backoff_s=0.0, **changes).run(attempt)), left


@pytest.mark.parametrize("failures", range(5))
def test_the_first_success_is_returned_with_the_failures_before_it(failures):
    faults = [failed() for _ in range(failures)]
    done, left = tried([*faults, "reply", "never asked"])
    assert (done.value, list(done.failures), left) == ("reply", faults, ["never asked"])


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_after_the_last_try_it_gives_up_with_all_failures(attempts):
    faults = [failed() for _ in range(attempts)]
    with pytest.raises(GaveUp) as caught:
        tried([*faults, "too late"], attempts=attempts)
    assert list(caught.value.failures) == faults


@pytest.mark.parametrize("error", [Refused(400, "no"), ValueError("a bug")])
def test_what_is_no_failed_try_passes_at_once(error):
    with pytest.raises(type(error)):
        tried([failed(), error, "never asked"])


def test_the_options_decide():
    made = RetryPolicy.of(Options(base_url="http://a/v1", attempts=3, backoff_s=2.0))
    assert (made.attempts, made.backoff_s) == (3, 2.0)
