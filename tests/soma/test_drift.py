"""The drift monitor, turn by turn, by hand-computed cases."""

from __future__ import annotations

from typing import Any

import pytest

from soma.drift import DriftMonitor, DriftSettings


def settings(**changes: Any) -> DriftSettings:
    base: dict[str, Any] = {
        "signal": "gap",
        "min_locality": 0.3,
        "threshold": 0.3,
        "window": 2,
        "m_cons": 2,
        "probe_every": 3,
        "margin": 0.1,
    }
    return DriftSettings(**{**base, **changes})


def test_the_moving_gap_must_be_above_its_threshold_m_cons_times_in_a_row() -> None:
    monitor = DriftMonitor(settings())
    seen = [monitor.check(0.9, gap) for gap in (0.1, 0.6, 0.2, 0.9, 0.9)]
    # Means of the last two: 0.1, 0.35, 0.4, 0.55, 0.9
    assert [c.moving_gap for c in seen] == pytest.approx([0.1, 0.35, 0.4, 0.55, 0.9])
    assert [c.failed for c in seen] == [False, True, True, True, True]
    assert [c.consecutive for c in seen] == [0, 1, 2, 3, 4]
    assert [c.alarm for c in seen] == [False, False, True, True, True]


def test_a_good_check_starts_the_count_anew_and_no_news_leaves_it() -> None:
    monitor = DriftMonitor(settings(window=1))
    seen = [monitor.check(0.0, gap) for gap in (0.9, None, 0.1, 0.9, None, 0.9)]
    assert [c.consecutive for c in seen] == [1, 1, 0, 1, 1, 2]
    assert [c.failed for c in seen] == [True, False, False, True, False, True]
    assert [c.alarm for c in seen] == [False, False, False, False, False, True]


def test_locality_alone_as_in_the_released_code() -> None:
    monitor = DriftMonitor(settings(signal="locality", probe_every=0))
    assert not monitor.raises_alarm(0.1)
    assert monitor.check(0.1, None).consecutive == 1
    assert monitor.raises_alarm(0.29)
    assert not monitor.raises_alarm(0.3)
    assert monitor.check(0.5, None).consecutive == 0
    assert monitor.check(0.9, 2.0).failed is False  # the Gap has no say
    assert monitor.wants_probe(-1.0) is None


def test_the_paper_s_signal_ignores_locality_alone() -> None:
    monitor = DriftMonitor(settings())
    assert not monitor.raises_alarm(-1.0)
    assert not any(monitor.check(-1.0, None).failed for _ in range(5))


def test_either_signal_counts_under_both() -> None:
    monitor = DriftMonitor(settings(signal="both", window=1))
    assert monitor.check(0.1, 0.0).consecutive == 1
    last = monitor.check(0.9, 0.8)
    assert (last.failed, last.consecutive, last.alarm) == (True, 2, True)


def test_when_f_is_asked_as_well() -> None:
    monitor = DriftMonitor(settings(window=1))
    reasons = []
    for locality, gap in ((0.9, 0.0), (0.9, 0.0), (0.9, 0.0), (0.39, 0.0), (0.9, 0.0), (0.9, 0.9)):
        reason = monitor.wants_probe(locality)
        reasons.append(reason)
        monitor.check(locality, None if reason is None else gap)
    # Every third turn; at once where locality is within 0.1 of its limit, counted anew from there.
    assert reasons == [None, None, "scheduled", "borderline", None, None]
    assert monitor.wants_probe(0.9) == "scheduled"
    assert monitor.check(0.9, 0.9).failed
    assert monitor.wants_probe(0.9) == "confirming"
