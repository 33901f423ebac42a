"""Every estimator against an answer worked out by hand, and the interval against its promise."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from harness.stats import (
    Key,
    UnpairedSessions,
    cluster_mean,
    paired_difference,
    paired_relative,
    percentile,
)


def values(sessions: dict[str, list[float]], seed: int = 0) -> dict[Key, float]:
    return {
        Key("t", name, seed, index): value
        for name, turns in sessions.items()
        for index, value in enumerate(turns, start=1)
    }


def test_mean_weighs_turns_alike() -> None:
    estimate = cluster_mean(values({"a": [1.0, 2.0, 3.0], "b": [10.0]}))
    assert estimate["mean"] == 4.0
    assert estimate["n"] == 4
    assert (estimate["low"], estimate["high"]) == (2.0, 10.0)


def test_no_value_and_one_session() -> None:
    assert cluster_mean({}) == {"mean": None, "n": 0, "low": None, "high": None}
    one = cluster_mean(values({"a": [1.0, 3.0]}))
    assert one == {"mean": 2.0, "n": 2, "low": None, "high": None}


def test_equal_values_have_no_width() -> None:
    estimate = cluster_mean(values({name: [0.1, 0.1, 0.1] for name in "abcdefg"}))
    assert estimate["low"] == estimate["high"] == pytest.approx(0.1)


def test_seeds_of_a_session_are_one_cluster() -> None:
    both = values({"a": [1.0]}, seed=0) | values({"a": [3.0]}, seed=1)
    assert cluster_mean(both) == {"mean": 2.0, "n": 2, "low": None, "high": None}


def test_interval_is_that_of_scipy() -> None:
    from scipy.stats import bootstrap

    rng = np.random.default_rng(5)
    sums = rng.exponential(size=40)
    ours = cluster_mean(values({f"s{i:02}": [float(x)] for i, x in enumerate(sums)}))
    theirs = bootstrap((sums,), np.mean, n_resamples=20_000, method="BCa", rng=1)
    interval = theirs.confidence_interval
    width = interval.high - interval.low
    assert ours["low"] == pytest.approx(interval.low, abs=0.06 * width)
    assert ours["high"] == pytest.approx(interval.high, abs=0.06 * width)


def test_same_data_same_interval_in_any_order() -> None:
    data = values({name: [float(ord(name)), 1.0] for name in "abcdef"})
    backwards = dict(reversed(data.items()))
    assert cluster_mean(data) == cluster_mean(backwards)
    uneven = values({name: [ord(name) ** 2.5] for name in "abcdefghij"})
    assert cluster_mean(uneven, seed=1) != cluster_mean(uneven, seed=2)


def test_paired_difference() -> None:
    ours = values({"a": [3.0, 4.0], "b": [5.0, 7.0]})
    theirs = values({"a": [1.0, 1.0], "b": [4.0, 4.0]})
    estimate = paired_difference(ours, theirs)
    assert estimate["mean"] == pytest.approx((2 + 3 + 1 + 3) / 4)
    assert estimate["n"] == 4
    assert (estimate["low"], estimate["high"]) == (2.0, 2.5)


def test_pairing_removes_what_sessions_share() -> None:
    rng = np.random.default_rng(0)
    level = rng.normal(scale=100, size=30)
    theirs = values({f"s{i:02}": [float(x)] for i, x in enumerate(level)})
    ours = {key: value + 1 for key, value in theirs.items()}
    estimate = paired_difference(ours, theirs)
    assert estimate["low"] == pytest.approx(1.0)
    assert estimate["high"] == pytest.approx(1.0)


def test_turns_without_a_partner_are_left_out() -> None:
    ours = values({"a": [3.0, 100.0]})
    assert paired_difference(ours, values({"a": [1.0]}))["mean"] == 2.0


def test_unequal_sessions_are_refused_by_name() -> None:
    ours = values({"a": [1.0], "b": [1.0]})
    theirs = values({"a": [1.0], "c": [1.0]})
    with pytest.raises(UnpairedSessions, match=r"method has t/b \(seed 0\).*reference has t/c"):
        paired_difference(ours, theirs)


def test_relative_difference() -> None:
    ours = values({"a": [1.0, 2.0], "b": [3.0]})
    theirs = values({"a": [2.0, 2.0], "b": [8.0]})
    estimate = paired_relative(ours, theirs)
    assert estimate["mean"] == pytest.approx(6 / 12 - 1)
    assert estimate["low"] == pytest.approx(3 / 8 - 1)
    assert estimate["high"] == pytest.approx(3 / 4 - 1)
    zero = dict.fromkeys(theirs, 0.0)
    assert paired_relative(ours, zero)["mean"] is None


def test_percentiles_are_nearest_rank_and_need_their_n() -> None:
    ten = [float(x) for x in range(1, 11)]
    twenty = [float(x) for x in range(20, 0, -1)]
    hundred = [float(x) for x in range(1, 101)]
    assert percentile(ten, 50) is None
    assert percentile(twenty[1:], 50) is None
    assert percentile(twenty, 50) == 10.0
    assert percentile(twenty, 90) == 18.0
    assert percentile(twenty, 95) is None
    assert percentile(hundred[:40], 95) == 38.0
    assert percentile(hundred[:99], 99) is None
    assert percentile(hundred, 99) == 99.0


def test_failures_are_infinitely_slow() -> None:
    eighteen = [float(x) for x in range(1, 19)]
    assert percentile(eighteen, 50) is None
    assert percentile(eighteen, 50, failures=2) == 10.0
    assert percentile(eighteen, 90, failures=2) == 18.0
    assert percentile(eighteen, 90, failures=3) == inf


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Sessions with levels of their own, of unequal length; 95 % nominal, 300 repetitions."""
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(300):
        levels = rng.normal(size=40)
        lengths = rng.integers(1, 6, size=40)
        data = values(
            {
                f"s{i:02}": list(level + rng.normal(scale=0.5, size=length))
                for i, (level, length) in enumerate(zip(levels, lengths, strict=True))
            }
        )
        estimate = cluster_mean(data)
        assert estimate["low"] is not None
        assert estimate["high"] is not None
        hits += estimate["low"] <= 0 <= estimate["high"]
    assert 0.90 <= hits / 300 <= 0.98
