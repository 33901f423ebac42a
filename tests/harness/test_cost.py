"""The bill, computed by hand."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from harness.engines.pairs import Prices, TokenPrices
from harness.measure.cost import charge, session_cost
from harness.record import CallRecord


def call(role: str, prompt: int, cached: int, output: int, trained: int = 0) -> CallRecord:
    return {
        "role": role,
        "purpose": "reply",
        "prompt": prompt,
        "cached": cached,
        "output": output,
        "trained": trained,
        "start_s": 0,
        "queue_s": 0,
        "duration_s": 1,
        "prompt_hash": None,
        "stop_reason": None,
        "reasoning": 0,
        "failures": [],
        "engine": None,
    }


def prices(**values: Any) -> Prices:
    return Prices(date=datetime.date(2026, 1, 1), source="test", **values)


def test_busy_time_alone() -> None:
    cost = session_cost([call("F", 10, 0, 5)], 1800.0, prices(usd_per_hour=2.0))
    assert cost["usd"] == cost["usd_busy"] == 1.0
    assert cost["usd_tokens"] is None


def test_cached_tokens_have_their_own_price() -> None:
    api = TokenPrices(input=2.0, cached_input=1.0, output=10.0)
    cost = session_cost([call("F", 1_000_000, 400_000, 100_000)], 9.0, prices(F=api))
    assert cost["usd"] == pytest.approx(0.6 * 2 + 0.4 * 1 + 0.1 * 10)


def test_token_and_time_prices_add_up_over_roles() -> None:
    api = TokenPrices(input=1.0, output=1.0)
    calls = [call("F", 500_000, 0, 0), call("G", 7, 0, 7), call("F", 0, 0, 500_000)]
    cost = session_cost(calls, 3600.0, prices(F=api, usd_per_hour=0.25))
    assert cost["usd"] == pytest.approx(1.25)
    assert cost["tokens"]["F"] == {
        "prompt": 500_000,
        "cached": 0,
        "output": 500_000,
        "trained": 0,
    }
    assert cost["tokens"]["G"] == {"prompt": 7, "cached": 0, "output": 7, "trained": 0}


def test_trained_tokens_have_their_own_price_and_it_must_be_known() -> None:
    calls = [call("G", 500_000, 0, 0), call("G", 0, 0, 0, trained=2_000_000)]
    api = TokenPrices(input=1.0, output=1.0, training=8.0)
    assert session_cost(calls, 1.0, prices(G=api))["usd"] == pytest.approx(16.5)
    assert session_cost(calls, 1.0, prices(G=TokenPrices(input=1.0, output=1.0)))["usd"] is None


def test_the_turns_shares_add_up_to_the_session() -> None:
    turns: list[Any] = [
        {"calls": [call("F", 3, 0, 1)], "busy_s": 0.0, "usd": None},
        {"calls": [call("G", 5, 0, 2), call("G", 0, 0, 0, trained=9)], "busy_s": 0.0, "usd": None},
        {"calls": [], "busy_s": 0.0, "usd": None},
    ]
    cost = charge(turns, [2.0, 7.0, 7.5], prices(usd_per_hour=3600.0))
    assert [t["busy_s"] for t in turns] == [2.0, 5.0, 0.5]
    assert [t["usd"] for t in turns] == pytest.approx([2.0, 5.0, 0.5])
    assert cost["usd"] == pytest.approx(7.5)
    assert cost["tokens"]["G"] == {"prompt": 5, "cached": 0, "output": 2, "trained": 9}
    assert charge(turns, [2.0, 7.0, 7.5], None)["usd"] is None
    assert [t["usd"] for t in turns] == [None, None, None]


@pytest.mark.parametrize(
    "table",
    [
        None,
        prices(),
        prices(F=TokenPrices(input=1.0)),
        prices(F=TokenPrices(input=1.0, output=1.0)),
    ],
    ids=["no table", "empty table", "no output price", "no cached price"],
)
def test_an_unknown_price_is_null_and_never_zero(table: Prices | None) -> None:
    assert session_cost([call("F", 10, 5, 5)], 5.0, table)["usd"] is None
