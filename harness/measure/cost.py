"""The bill of a session: tokens at API prices, busy seconds at a machine's hourly price."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.engines.pairs import Prices, TokenPrices
from harness.record import BillRecord, CallRecord, CostRecord, TurnRecord

MILLION = 1_000_000


def session_cost(calls: Iterable[CallRecord], busy_s: float, prices: Prices | None) -> CostRecord:
    """Every call is charged, whatever it was for: replies, summaries, probes, embeddings.

    A model with token prices is paid by token (cached tokens at their own price); all models
    without are paid by busy time. A price that is needed but unknown makes the total None.
    """
    tokens: dict[str, BillRecord] = {}
    for call in calls:
        nothing = BillRecord(prompt=0, cached=0, output=0, trained=0)
        sums = tokens.setdefault(call["role"], nothing)
        sums["prompt"] += call["prompt"]
        sums["cached"] += call["cached"]
        sums["output"] += call["output"]
        sums["trained"] += call["trained"]
    priced = {"F": prices.F, "G": prices.G} if prices else {}
    per_hour = prices.usd_per_hour if prices else None
    by_token = [r for r in tokens if priced.get(r) is not None]
    usd_tokens = _total(_token_price(tokens[r], priced[r]) for r in by_token) if by_token else None
    local = any(r not in by_token for r in tokens)
    usd_busy = None
    if local and per_hour is not None:
        usd_busy = busy_s / 3600 * per_hour
    needed = ([usd_tokens] if by_token else []) + ([usd_busy] if local else [])
    return CostRecord(
        tokens=tokens,
        busy_s=busy_s,
        usd_tokens=usd_tokens,
        usd_busy=usd_busy,
        usd=_total(needed) if needed else None,
    )


def charge(
    turns: Sequence[TurnRecord], busy_marks: Sequence[float], prices: Prices | None
) -> CostRecord:
    """The bill of a session, and in each of its turns (changed in place) what it added.

    `busy_marks`: busy seconds from the start to the end of each turn.
    """
    calls: list[CallRecord] = []
    before_s, before_usd = 0.0, 0.0
    cost = session_cost(calls, 0.0, prices)
    for turn, busy_s in zip(turns, busy_marks, strict=True):
        calls += turn["calls"]
        cost = session_cost(calls, busy_s, prices)
        usd = cost["usd"]
        turn["busy_s"] = busy_s - before_s
        turn["usd"] = None if usd is None else usd - before_usd
        before_s, before_usd = busy_s, before_usd if usd is None else usd
    return cost


def _token_price(tokens: BillRecord, prices: TokenPrices | None) -> float | None:
    if prices is None or prices.input is None or prices.output is None:
        return None
    if tokens["cached"] and prices.cached_input is None:
        return None
    if tokens["trained"] and prices.training is None:
        return None
    fresh = tokens["prompt"] - tokens["cached"]
    cached = tokens["cached"] * (prices.cached_input or 0.0)
    trained = tokens["trained"] * (prices.training or 0.0)
    return (fresh * prices.input + cached + tokens["output"] * prices.output + trained) / MILLION


def _total(values: Iterable[float | None]) -> float | None:
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total
