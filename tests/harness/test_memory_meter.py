"""Peaks of a session's memory, from the completions of its models."""

from __future__ import annotations

import pytest

from harness.measure.memory import MemoryMeter
from harness.method import Completion, Tokens
from harness.session import Role


def completion(role: Role, kept: int | None) -> Completion:
    return Completion(
        role=role,
        text="x",
        output_ids=(1,),
        tokens=Tokens(prompt=1, cached=0, output=1),
        stop_reason="length",
        prompt_hash="0" * 16,
        sent_at=0.0,
        started_at=0.0,
        first_token_at=1.0,
        last_token_at=1.0,
        kv_bytes_formula=None,
        kv_bytes_measured=None,
        kv_bytes_kept=kept,
    )


@pytest.mark.parametrize(
    ("calls", "peak"),
    [
        ([], None),
        ([("F", None), ("G", None)], None),
        ([("F", 0)], 0),
        ([("F", 30), ("F", 50), ("F", 40)], 50),
        ([("F", 50), ("G", 20)], 70),  # F's are still kept while G serves
        ([("F", 50), ("G", 20), ("F", 10), ("G", 25)], 70),
        ([("F", 50), ("G", None)], 50),
    ],
    ids=str,
)
def test_what_is_kept_between_calls_adds_up_over_the_models(
    calls: list[tuple[Role, int | None]], peak: int | None
) -> None:
    meter = MemoryMeter({"F": 1, "G": 1})
    for role, kept in calls:
        meter.completed(completion(role, kept))
    assert meter.record()["kv_kept"] == peak
