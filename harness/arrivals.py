"""When sessions arrive: all when there is room for them, or by themselves at a rate."""

from __future__ import annotations

import random

from harness.spec import RunSpec


def arrival_times(spec: RunSpec, task: str, seed: int, count: int) -> list[float] | None:
    """Seconds from a window's start to the arrival of each of `count` sessions; None: no rate.

    Poisson arrivals: gaps are drawn from an exponential distribution of mean 60 / rate seconds.
    They depend on the seed and the task, not on the method, so that all methods see the same load.
    """
    if spec.arrival_rate is None:
        return None
    draw = random.Random(f"arrivals/{seed}/{task}")
    times, now = [], 0.0
    for _ in range(count):
        now += draw.expovariate(spec.arrival_rate / 60)
        times.append(now)
    return times
