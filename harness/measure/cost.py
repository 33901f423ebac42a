"""The bill of a session: tokens at API prices, busy seconds at a machine's hourly price."""

from __future__ import annotations

from collections.abc import Iterable

from harness.engines.pairs import Prices, TokenPrices
from harness.record import CallRecord, CostRecord, TokensRecord

MILLION = 1_000_000


def session_cost(calls: Iterable[CallRecord], busy_s: float, prices: Prices | None) -> CostRecord:
    """Every call is charged, whatever it was for: replies, summaries, probes, embeddings.

    A model with token prices is paid by token (cached tokens at their own price); all models
    without are paid by busy time. A price that is needed but unknown makes the total None.
    """
    tokens: dict[str, TokensRecord] = {}
    for call in calls:
        sums = tokens.setdefault(call["role"], {"prompt": 0, "cached": 0, "output": 0})
        sums["prompt"] += call["prompt"]
        sums["cached"] += call["cached"]
        sums["output"] += call["output"]
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


def _token_price(tokens: TokensRecord, prices: TokenPrices | None) -> float | None:
    if prices is None or prices.input is None or prices.output is None:
        return None
    if tokens["cached"] and prices.cached_input is None:
        return None
    fresh = tokens["prompt"] - tokens["cached"]
    cached = tokens["cached"] * (prices.cached_input or 0.0)
    return (fresh * prices.input + cached + tokens["output"] * prices.output) / MILLION


def _total(values: Iterable[float | None]) -> float | None:
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total
