"""The on-disk types of a run folder, written down. `docs/run-folder.md` explains them to users.

Times are seconds, sizes bytes, money US dollars. `None` means unknown, never zero.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

SCHEMA_VERSION = 3

Outcome = Literal["scored", "unscored", "error", "skipped"]
"""Of a session in `sessions.jsonl`: served to its end and measured (`scored`), failed (`error`),
not attempted (`skipped`). Of a score in `scores.jsonl`: has a value (`scored`), has none for the
`reason` given (`unscored`), or repeats the session's own `error` or `skipped`."""


class TokensRecord(TypedDict):
    """Of the reply's own completion, from the engine."""

    prompt: int
    cached: int
    output: int


class BillRecord(TypedDict):
    """Of all calls to one model. `trained`: tokens sent forward and backward, padding excluded."""

    prompt: int
    cached: int
    output: int
    trained: int


class TimingRecord(TypedDict):
    """On the harness's clock, from the user turn handed to the Method.

    ttft_s: to the first token with content. e2e_s: to the reply's last token.
    tpot_s: (e2e_s - ttft_s) / (N - 1), N the output tokens less those of reasoning, None for
    N = 1. turn_s: to the Method's return.
    """

    ttft_s: float
    tpot_s: float | None
    e2e_s: float
    turn_s: float


class SpanRecord(TypedDict):
    """A named part of a turn; `start_s` from the turn's start, negative when it began before."""

    name: str
    start_s: float
    duration_s: float


class EventRecord(TypedDict):
    kind: str
    at_s: float
    data: dict[str, Any]


class EngineTimingRecord(TypedDict):
    """What the engine measured of a call itself, in seconds since the request reached it."""

    queue_s: float
    ttft_s: float
    e2e_s: float


class CallRecord(TypedDict):
    """One engine call within a turn, the reply's own included. `role` is F, G or encoder.

    `reasoning`: those of the `output` tokens that no user sees. `failures`: one line for each try
    of a remote engine before the one that succeeded; times include them. `engine`: None where the
    engine measures nothing itself.

    Work on a model's weights (mining, training) is a call too: `prompt` counts the tokens that it
    only sent forward, `trained` those that it sent forward and backward. Work in the background
    belongs to the turn in which it ends; `start_s` is negative when it began before that turn.
    """

    role: str
    purpose: str
    prompt: int
    cached: int
    output: int
    trained: int
    start_s: float
    queue_s: float
    duration_s: float
    prompt_hash: str | None
    stop_reason: str | None
    reasoning: int
    failures: list[str]
    engine: EngineTimingRecord | None


class TurnRecord(TypedDict):
    """`at_s`: when the user's turn arrived, since the session's window began (see LoadRecord).

    `busy_s` and `usd`: what the session's cost grew by, from the turn before to this one.
    """

    turn_index: int
    at_s: float
    user: str
    reply: str
    served_by: str
    stop_reason: str
    prompt_hash: str
    tokens: TokensRecord
    timing: TimingRecord
    spans: list[SpanRecord]
    events: list[EventRecord]
    calls: list[CallRecord]
    busy_s: float
    usd: float | None


class MemoryRecord(TypedDict):
    """Peaks over the session. `weights`: of the models this session called, by role.

    `kv_formula` and `kv_measured`: the largest key-value memory of one call, by the model's
    formula and as the engine held it. `kv_kept`: the most that a prefix cache held for the session
    between two of its calls. `adapters`: the largest adapter that a call used.
    `adaptation_peak`: the most that work on weights added to what was there before it (on a CPU,
    to the process's resident memory). `rss`: the whole process, every loaded model included.
    """

    weights: dict[str, int | None]
    adapters: int | None
    kv_formula: int | None
    kv_measured: int | None
    kv_kept: int | None
    adaptation_peak: int | None
    rss: int
    cuda_peak: int | None


class CostRecord(TypedDict):
    """What the session cost. `busy_s`: time inside engine calls and spans, overlaps counted once.

    `usd_tokens`: tokens at the pair's API prices. `usd_busy`: busy time at its hourly price.
    `usd`: their sum; None when a price that is needed is unknown.
    """

    tokens: dict[str, BillRecord]
    busy_s: float
    usd_tokens: float | None
    usd_busy: float | None
    usd: float | None


class LoadRecord(TypedDict):
    """When a session was there, in seconds since its `window` began.

    A window is one stretch of serving one method's sessions without a break; its name is unique in
    the run. `arrived_s`: when the session was ready to be served, `started_s` when it was begun.
    """

    window: str
    arrived_s: float
    started_s: float
    ended_s: float


class WorkerRecord(TypedDict):
    """Which of a run's processes served a session, and on what kind of machine."""

    index: int
    machine_class: str


class SessionRecord(TypedDict):
    """One line of `sessions.jsonl`: a finished (method, task, session, seed).

    `load` and `worker`: None where nothing was attempted.

    `never_switchable`: of a method that changes models during a session, whether this session is
    too short to show it; None for a method that does not.
    """

    schema: int
    method: str
    task: str
    session_id: str
    seed: int
    outcome: Outcome
    reason: str | None
    turns: list[TurnRecord]
    session_s: float | None
    overhead_s: float | None
    memory: MemoryRecord | None
    cost: CostRecord | None
    references: list[str | None] | None
    gold: list[str | None] | None
    metadata: dict[str, Any]
    never_switchable: bool | None
    load: LoadRecord | None
    worker: WorkerRecord | None
    finished_at: str


class ScoreRecord(TypedDict):
    """One line of `scores.jsonl`: one scorer's verdict on one turn."""

    method: str
    task: str
    session_id: str
    seed: int
    turn_index: int
    scorer: str
    outcome: Outcome
    value: float | None
    reason: str | None


class Estimate(TypedDict):
    """A mean with its uncertainty: percentile or BCa bounds of a session-cluster bootstrap."""

    mean: float | None
    n: int
    low: float | None
    high: float | None


class DataFacts(TypedDict, total=False):
    """What a manifest tells of its data; older manifests lack it.

    `task_hashes`: of each task's sessions. `dropped`: counts by reason what each task left out,
    which `dropped.jsonl` lists. `data`: SHA-256 by path, below their common
    folder, of the files that a task read. `client`: how far behind the truth this machine's client
    was when it measured a stub server; None where no server is asked. `shard`: which part of a run
    this is, as `whole` describes it. `shards`: the parts that a run was merged from.
    """

    task_hashes: dict[str, str]
    dropped: dict[str, dict[str, int]]
    data: dict[str, dict[str, str]]
    client: dict[str, Any] | None
    shard: dict[str, int]
    whole: dict[str, Any]
    shards: list[dict[str, Any]]


class Manifest(DataFacts):
    """`manifest.json`, written before anything is served. `sessions_hash` covers all sessions."""

    schema: int
    spec: dict[str, Any]
    spec_hash: str
    hash_recipe: int
    harness_version: str
    code_version: str | None
    sessions: dict[str, list[str]]
    sessions_hash: str
    sources: dict[str, str]
    warmup: list[str]
    hardware: dict[str, Any]
    packages: dict[str, str]
    created_at: str
