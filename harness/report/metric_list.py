"""Every metric of a run: its name, its unit, and where in the records its values come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from harness.record import BillRecord
from harness.report.calls import reply_call, tries_failed
from harness.report.metrics import Metric


def _timing(name: str) -> Callable[[Any], float | None]:
    def read(turn: Any) -> float | None:
        value: float | None = turn["timing"][name]
        return value

    return read


def before_call_s(turn: Any) -> float | None:
    """From the user's turn to the reply's own call: what the method did first."""
    call = reply_call(turn)
    return None if call is None else call["start_s"]


def call_ttft_s(turn: Any) -> float | None:
    """From the reply's own call to the first token with content."""
    call = reply_call(turn)
    return None if call is None else turn["timing"]["ttft_s"] - call["start_s"]


def queue_s(turn: Any) -> float | None:
    """The part of it until the engine's work on the request began."""
    call = reply_call(turn)
    return None if call is None else call["queue_s"]


def prefill_s(turn: Any) -> float | None:
    """The rest of it: from the beginning of that work to the first token with content."""
    whole, queued = call_ttft_s(turn), queue_s(turn)
    return None if whole is None or queued is None else whole - queued


def _engine(name: Literal["queue_s", "ttft_s", "e2e_s"]) -> Callable[[Any], float | None]:
    """What the engine measured of the reply's own call itself."""

    def read(turn: Any) -> float | None:
        call = reply_call(turn)
        return None if call is None or call["engine"] is None else call["engine"][name]

    return read


def _over_engine(name: Literal["ttft_s", "e2e_s"]) -> Callable[[Any], float | None]:
    """Ours less the engine's own, of the same call."""

    def read(turn: Any) -> float | None:
        call = reply_call(turn)
        if call is None or call["engine"] is None:
            return None
        ours: float = turn["timing"][name] - call["start_s"]
        return ours - call["engine"][name]

    return read


def _tokens(name: str) -> Callable[[Any], float | None]:
    return lambda turn: float(turn["tokens"][name])


def _billed(role: str) -> Callable[[Any], float | None]:
    """Prompt and output tokens of every call to a model; 0 for a model that was never called."""

    def read(session: Any) -> float | None:
        cost = session["cost"]
        if cost is None:
            return None
        tokens: BillRecord | None = cost["tokens"].get(role)
        return float(tokens["prompt"] + tokens["output"]) if tokens else 0.0

    return read


def _memory(name: str) -> Callable[[Any], float | None]:
    def read(session: Any) -> float | None:
        memory = session["memory"]
        return None if memory is None else memory[name]

    return read


def _weights(session: Any) -> float | None:
    sizes = None if session["memory"] is None else session["memory"]["weights"].values()
    return None if sizes is None or None in sizes else float(sum(sizes))


def _cost(name: str) -> Callable[[Any], float | None]:
    def read(session: Any) -> float | None:
        cost = session["cost"]
        return None if cost is None else cost[name]

    return read


def _session_s(session: Any) -> float | None:
    value: float | None = session["session_s"]
    return value


def _span_s(name: str) -> Callable[[Any], float | None]:
    """Seconds in the spans of a name, over all turns; 0 where there is none."""

    def read(session: Any) -> float | None:
        spans = [span for turn in session["turns"] for span in turn["spans"]]
        return float(sum(span["duration_s"] for span in spans if span["name"] == name))

    return read


def _retries(session: Any) -> float | None:
    return float(sum(tries_failed(turn) for turn in session["turns"]))


def _trained_tokens(session: Any) -> float | None:
    cost = session["cost"]
    if cost is None:
        return None
    return float(sum(bill["trained"] for bill in cost["tokens"].values()))


def _probe_f_tokens(session: Any) -> float | None:
    calls = [call for turn in session["turns"] for call in turn["calls"]]
    probes = [call for call in calls if (call["role"], call["purpose"]) == ("F", "probe")]
    return float(sum(call["prompt"] + call["output"] for call in probes))


def _switch_turn(session: Any) -> float | None:
    """The first turn that another model answered than the first one; None where none did."""
    turns = session["turns"]
    others = [t["turn_index"] for t in turns if t["served_by"] != turns[0]["served_by"]]
    return float(others[0]) if others else None


METRICS: tuple[Metric, ...] = (
    Metric("ttft_s", "s", "turn", _timing("ttft_s"), percentiles=True),
    Metric("tpot_s", "s", "turn", _timing("tpot_s"), percentiles=True),
    Metric("e2e_s", "s", "turn", _timing("e2e_s"), percentiles=True),
    Metric("turn_s", "s", "turn", _timing("turn_s"), percentiles=True),
    Metric("session_s", "s", "session", _session_s, percentiles=True),
    Metric("before_call_s", "s", "turn", before_call_s),
    Metric("call_ttft_s", "s", "turn", call_ttft_s, percentiles=True),
    Metric("queue_s", "s", "turn", queue_s, percentiles=True, needs_queue=True),
    Metric("prefill_s", "s", "turn", prefill_s, percentiles=True, needs_queue=True),
    Metric("engine_queue_s", "s", "turn", _engine("queue_s")),
    Metric("engine_ttft_s", "s", "turn", _engine("ttft_s")),
    Metric("engine_e2e_s", "s", "turn", _engine("e2e_s")),
    Metric("over_engine_ttft_s", "s", "turn", _over_engine("ttft_s")),
    Metric("over_engine_e2e_s", "s", "turn", _over_engine("e2e_s")),
    Metric("retries", "tries", "session", _retries),
    Metric("prompt_tokens", "tokens", "turn", _tokens("prompt")),
    Metric("cached_tokens", "tokens", "turn", _tokens("cached")),
    Metric("output_tokens", "tokens", "turn", _tokens("output")),
    Metric("f_share", "share", "turn", lambda turn: float(turn["served_by"] == "F")),
    Metric("f_tokens", "tokens", "session", _billed("F")),
    Metric("g_tokens", "tokens", "session", _billed("G")),
    Metric("trained_tokens", "tokens", "session", _trained_tokens),
    Metric("probe_f_tokens", "tokens", "session", _probe_f_tokens),
    Metric("adaptation_s", "s", "session", _span_s("adaptation")),
    Metric("adaptation_wait_s", "s", "session", _span_s("adaptation_wait")),
    Metric("switch_turn", "turn", "session", _switch_turn),
    Metric("weights_bytes", "bytes", "session", _weights),
    Metric("adapters_bytes", "bytes", "session", _memory("adapters")),
    Metric("kv_formula_bytes", "bytes", "session", _memory("kv_formula")),
    Metric("kv_measured_bytes", "bytes", "session", _memory("kv_measured")),
    Metric("kv_kept_bytes", "bytes", "session", _memory("kv_kept")),
    Metric("adaptation_peak_bytes", "bytes", "session", _memory("adaptation_peak")),
    Metric("rss_bytes", "bytes", "session", _memory("rss")),
    Metric("cuda_peak_bytes", "bytes", "session", _memory("cuda_peak")),
    Metric("busy_s", "s", "session", _cost("busy_s")),
    Metric("usd_tokens", "usd", "session", _cost("usd_tokens")),
    Metric("usd_busy", "usd", "session", _cost("usd_busy")),
    Metric("usd", "usd", "session", _cost("usd")),
)
