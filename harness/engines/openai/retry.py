"""Trying again: how often, and after how long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Generic, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from harness.engines.openai.faults import TryFailed
from harness.engines.openai.options import Options

T = TypeVar("T")


class GaveUp(Exception):
    """No try succeeded; `failures` are all of them, in order."""

    def __init__(self, failures: tuple[TryFailed, ...]) -> None:
        super().__init__(len(failures))
        self.failures = failures


@dataclass(frozen=True)
class Tried(Generic[T]):
    """What a try came to, and those that failed before it."""

    value: T
    failures: tuple[TryFailed, ...]


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with a cap, of which a random part of up to a half is taken away.

    A server's Retry-After takes its place, up to a cap of its own; then up to `backoff_s` are
    added, so that requests refused together do not come back together. The randomness decides only
    when something is asked, never what; it is not the process's own, which methods may seed.
    """

    attempts: int
    backoff_s: float
    backoff_cap_s: float
    retry_after_cap_s: float
    random: Random = field(default_factory=lambda: Random(0), repr=False)

    @classmethod
    def of(cls, options: Options) -> RetryPolicy:
        return cls(
            options.attempts,
            options.backoff_s,
            options.backoff_cap_s,
            options.retry_after_cap_s,
        )

    def wait_s(self, failure: TryFailed, failed: int) -> float:
        """Seconds to wait after `failure`, the `failed`-th try in a row that failed."""
        if failure.retry_after_s is not None:
            asked = min(failure.retry_after_s, self.retry_after_cap_s)
            return asked + self.random.uniform(0, self.backoff_s)
        longest = min(self.backoff_cap_s, self.backoff_s * 2.0 ** (failed - 1))
        return longest * self.random.uniform(0.5, 1)

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> Tried[T]:
        """The first success of `attempt`, which raises TryFailed for what is worth another try.

        Raises GaveUp after the last, and at once whatever else `attempt` raises.
        """
        failures: list[TryFailed] = []

        async def once() -> T:
            try:
                return await attempt()
            except TryFailed as failure:
                failures.append(failure)
                raise

        def wait(state: RetryCallState) -> float:
            return self.wait_s(failures[-1], state.attempt_number)

        retrying = AsyncRetrying(
            stop=stop_after_attempt(self.attempts),
            wait=wait,
            retry=retry_if_exception_type(TryFailed),
            reraise=True,
        )
        try:
            value: T = await retrying(once)
        except TryFailed:
            raise GaveUp(tuple(failures)) from None
        return Tried(value, tuple(failures))
