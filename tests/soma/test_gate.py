"""The gate's arithmetic and verdicts, by hand-computed cases."""

from __future__ import annotations

import pytest

from soma.gate import GateSettings, centroid, cosine, decide, gap

SETTINGS = GateSettings(epsilon=0.2, min_locality=0.3)


def test_gap_is_one_minus_the_cosine() -> None:
    assert gap([1.0, 0.0], [2.0, 0.0]) == pytest.approx(0.0)
    assert gap([1.0, 0.0], [0.0, 5.0]) == pytest.approx(1.0)
    assert gap([1.0, 0.0], [-1.0, 0.0]) == pytest.approx(2.0)
    assert gap([3.0, 4.0], [4.0, 3.0]) == pytest.approx(1 - 24 / 25)


def test_an_empty_reply_is_near_to_nothing() -> None:
    assert cosine([0.0, 0.0], [1.0, 0.0]) == 0.0


def test_the_centroid_is_the_mean_direction() -> None:
    assert centroid([[1.0, 0.0], [0.0, 1.0]]) == [0.5, 0.5]
    assert cosine([1.0, 0.0], centroid([[1.0, 0.0], [0.0, 1.0]])) == pytest.approx(2**-0.5)


@pytest.mark.parametrize(
    ("gaps", "locality", "accepted", "reason"),
    [
        ([0.1, 0.3], 0.3, True, "within"),  # both at their limits
        ([0.1, 0.31], 0.9, False, "above epsilon"),
        ([0.0], 0.29, False, "below 0.3"),
        ([0.5], 0.0, False, "above epsilon"),
    ],
)
def test_both_conditions_must_hold(
    gaps: list[float], locality: float, accepted: bool, reason: str
) -> None:
    verdict = decide(gaps, locality, SETTINGS)
    assert verdict.accepted is accepted
    assert reason in verdict.reason
    assert verdict.gap == pytest.approx(sum(gaps) / len(gaps))
    assert verdict.locality == locality


def test_a_gate_without_evidence_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="empty"):
        decide([], 1.0, SETTINGS)
