"""What is read off the records: every metric's name, unit and where its values come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from harness.record import BillRecord, SessionRecord
from harness.report.read import Cell
from harness.stats import Key

Level = Literal["turn", "session"]
Group = Literal["quality", "latency", "tokens", "memory", "cost", "adaptation"]


@dataclass(frozen=True)
class Metric:
    """`read` takes a turn (or a session, by `level`) and returns a number or None (unknown)."""

    name: str
    group: Group
    level: Level
    read: Callable[[Any], float | None]
    percentiles: bool = False


@dataclass(frozen=True)
class Values:
    """A metric's values by place, and how many places have none."""

    known: dict[Key, float]
    unscored: int
    error: int
    skipped: int


def read_values(metric: Metric, cell: Cell) -> Values:
    """The values of `metric` over the served sessions; failed sessions are counted, not read."""
    known: dict[Key, float] = {}
    unknown = 0
    for session in cell.served:
        for index, holder in _holders(metric.level, session):
            value = metric.read(holder)
            if value is None:
                unknown += 1
            else:
                known[_key(session, index)] = float(value)
    return Values(known, unknown, *_failures(cell))


def read_scores(scorer: str, cell: Cell) -> Values:
    """The same for a scorer's verdicts: `unscored` counts turns, the failures count sessions."""
    lines = [line for line in cell.scores if line["scorer"] == scorer]
    known = {
        Key(line["task"], line["session_id"], line["seed"], line["turn_index"]): line["value"]
        for line in lines
        if line["value"] is not None
    }
    return Values(
        known,
        sum(line["outcome"] == "unscored" for line in lines),
        sum(line["outcome"] == "error" for line in lines),
        sum(line["outcome"] == "skipped" for line in lines),
    )


def _holders(level: Level, session: SessionRecord) -> Iterator[tuple[int, Any]]:
    if level == "session":
        yield 0, session
    else:
        for turn in session["turns"]:
            yield turn["turn_index"], turn


def _failures(cell: Cell) -> tuple[int, int]:
    outcomes = [session["outcome"] for session in cell.sessions]
    return outcomes.count("error"), outcomes.count("skipped")


def _key(session: SessionRecord, turn_index: int) -> Key:
    return Key(session["task"], session["session_id"], session["seed"], turn_index)


def _timing(name: str) -> Callable[[Any], float | None]:
    def read(turn: Any) -> float | None:
        value: float | None = turn["timing"][name]
        return value

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
    Metric("ttft_s", "latency", "turn", _timing("ttft_s"), percentiles=True),
    Metric("tpot_s", "latency", "turn", _timing("tpot_s"), percentiles=True),
    Metric("e2e_s", "latency", "turn", _timing("e2e_s"), percentiles=True),
    Metric("turn_s", "latency", "turn", _timing("turn_s"), percentiles=True),
    Metric("session_s", "latency", "session", _session_s, percentiles=True),
    Metric("prompt_tokens", "tokens", "turn", _tokens("prompt")),
    Metric("cached_tokens", "tokens", "turn", _tokens("cached")),
    Metric("output_tokens", "tokens", "turn", _tokens("output")),
    Metric("f_share", "tokens", "turn", lambda turn: float(turn["served_by"] == "F")),
    Metric("f_tokens", "tokens", "session", _billed("F")),
    Metric("g_tokens", "tokens", "session", _billed("G")),
    Metric("trained_tokens", "adaptation", "session", _trained_tokens),
    Metric("probe_f_tokens", "adaptation", "session", _probe_f_tokens),
    Metric("adaptation_s", "adaptation", "session", _span_s("adaptation")),
    Metric("adaptation_wait_s", "adaptation", "session", _span_s("adaptation_wait")),
    Metric("switch_turn", "adaptation", "session", _switch_turn),
    Metric("weights_bytes", "memory", "session", _weights),
    Metric("adapters_bytes", "memory", "session", _memory("adapters")),
    Metric("kv_formula_bytes", "memory", "session", _memory("kv_formula")),
    Metric("kv_measured_bytes", "memory", "session", _memory("kv_measured")),
    Metric("adaptation_peak_bytes", "memory", "session", _memory("adaptation_peak")),
    Metric("rss_bytes", "memory", "session", _memory("rss")),
    Metric("cuda_peak_bytes", "memory", "session", _memory("cuda_peak")),
    Metric("busy_s", "cost", "session", _cost("busy_s")),
    Metric("usd_tokens", "cost", "session", _cost("usd_tokens")),
    Metric("usd_busy", "cost", "session", _cost("usd_busy")),
    Metric("usd", "cost", "session", _cost("usd")),
)
