"""Arrivals are a Poisson process: exponential gaps, independent, the same for all methods."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt
from statistics import fmean, pvariance

import pytest
from scipy.stats import kstest

from harness.arrivals import arrival_times
from harness.profile import Overrides, load_spec
from harness.spec import RunSpec

COUNT = 20_000


def spec(rate: float | None, *methods: str) -> RunSpec:
    found, _ = load_spec("smoke", Overrides(arrival_rate=rate, methods=methods or ("original",)))
    return found


def arrivals(rate: float, seed: int = 0, task: str = "planning", count: int = COUNT) -> list[float]:
    times = arrival_times(spec(rate), task, seed, count)
    assert times is not None
    return times


def gaps(times: list[float]) -> list[float]:
    return [after - before for before, after in pairwise([0.0, *times])]


@pytest.mark.parametrize("rate", [0.5, 30.0, 6000.0])
def test_gaps_are_exponential_with_the_rate_s_mean(rate: float) -> None:
    """Bounds are four standard errors: of a mean σ/√n, of an exponential's variance σ²√(8/n)."""
    found = gaps(arrivals(rate))
    mean = 60 / rate
    assert fmean(found) == pytest.approx(mean, rel=4 / sqrt(COUNT))
    assert pvariance(found) == pytest.approx(mean**2, rel=4 * sqrt(8 / COUNT))
    assert kstest(found, "expon", args=(0, mean)).pvalue > 0.01


def test_gaps_do_not_depend_on_the_ones_before() -> None:
    found = gaps(arrivals(30.0))
    mean = fmean(found)
    lagged = fmean((a - mean) * (b - mean) for a, b in pairwise(found))
    assert abs(lagged / pvariance(found)) < 4 / sqrt(COUNT)


def test_counts_of_a_minute_vary_as_much_as_their_mean() -> None:
    times = arrivals(30.0)
    minutes = int(times[-1] // 60)
    counts = [0] * minutes
    for time in times:
        if time < 60 * minutes:
            counts[int(time // 60)] += 1
    assert fmean(counts) == pytest.approx(30, rel=4 / sqrt(30 * minutes))
    assert pvariance(counts) / fmean(counts) == pytest.approx(1, abs=4 * sqrt(2 / minutes))


def test_they_are_drawn_by_seed_and_task() -> None:
    first = arrivals(30.0, count=50)
    assert arrivals(30.0, count=50) == first
    assert arrivals(30.0, seed=1, count=50) != first
    assert arrivals(30.0, task="maths", count=50) != first
    assert first == sorted(first)
    assert first[0] > 0


def test_the_first_so_many_do_not_depend_on_how_many_come() -> None:
    assert arrivals(30.0, count=50)[:10] == arrivals(30.0, count=10)
    assert arrival_times(spec(30.0), "planning", 0, 0) == []


def test_twice_the_rate_is_the_same_draw_in_half_the_time() -> None:
    slow, fast = arrivals(30.0, count=50), arrivals(60.0, count=50)
    assert fast == pytest.approx([time / 2 for time in slow])


def test_all_methods_see_the_same_load() -> None:
    runs = [spec(30.0, "original"), spec(30.0, "surrogate"), spec(30.0, "surrogate", "original")]
    times = [arrival_times(one, "planning", 0, 20) for one in runs]
    assert times[0] == times[1] == times[2]


def test_without_a_rate_there_are_none() -> None:
    assert arrival_times(spec(None), "planning", 0, 3) is None
