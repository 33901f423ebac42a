"""One session served by one method: the engines it sees, the record it leaves."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from harness.engines.ask import ask, encode
from harness.engines.base import NOBODY, AdapterHost, Engine, LocalEngine, Sampling, Scope
from harness.engines.chat import encode_reply
from harness.engines.encoder import SentenceEncoder
from harness.engines.pairs import PairSpec, trainer_of
from harness.engines.work import WorkQueue
from harness.errors import BenchError, UserError
from harness.measure.clock import SessionClock
from harness.measure.cost import charge
from harness.measure.memory import MemoryMeter, reset_device_peaks
from harness.method import Adapter, Completion, EventKind, Message, Method, P, PromptStyle, T, Work
from harness.record import SCHEMA_VERSION, Outcome, SessionRecord, TurnRecord
from harness.session import Role, Session
from harness.spec import GenerationSpec
from harness.store import UnitKey, unit_hash
from harness.window import Window
from harness.workspace import Workspace


@dataclass(frozen=True)
class StoredReply:
    """A reply of an earlier record, as the history of a session in replay is made of."""

    text: str
    ended: bool


def stored_replies(record: SessionRecord) -> tuple[StoredReply, ...]:
    """The replies of a served session, one per turn."""
    return tuple(
        StoredReply(turn["reply"], turn["stop_reason"] == "end_of_turn") for turn in record["turns"]
    )


@dataclass(frozen=True)
class EngineSet:
    """The loaded models of a pair, shared by all sessions.

    `adapt_concurrency`: how many sessions' work on a model's weights may share one run.
    `trainers`: by role the copies that are adapted where a model's engine only serves.
    """

    pair: PairSpec
    F: Engine
    G: Engine
    encoder: SentenceEncoder
    adapt_concurrency: int = 1
    trainers: Mapping[Role, LocalEngine] = field(default_factory=dict)
    _works: dict[Role, WorkQueue] = field(default_factory=dict)

    def engine(self, role: Role) -> Engine:
        return self.F if role == "F" else self.G

    def works(self, role: Role) -> WorkQueue:
        """The queue of work on a model's weights. Raises UserError where there are none here."""
        engine = self.trainers.get(role, self.engine(role))
        if not isinstance(engine, LocalEngine):
            raise UserError(
                f"pair {self.pair.name}: {role}.engine",
                "holds no weights in this process to be adapted; use 'transformers', or add a "
                f"table [{role}.training]",
            )
        return self._works.setdefault(role, WorkQueue(engine, self.adapt_concurrency))

    def tokenizer(self, role: Role) -> Engine:
        """The engine of a role that knows its tokens: the one that serves, else its trainer."""
        engine = self.engine(role)
        return self.trainers.get(role, engine) if engine.tokenizer is None else engine

    def weights(self) -> dict[str, int | None]:
        """Bytes by the name that records give each loaded model; None: unknown."""
        served: dict[str, Engine] = {"F": self.F, "G": self.G}
        trained = {trainer_of(role): engine for role, engine in self.trainers.items()}
        sizes = {name: model.facts.weights_bytes for name, model in {**served, **trained}.items()}
        return {**sizes, "encoder": self.encoder.facts.weights_bytes}

    def synchronize(self) -> None:
        """Wait for the device, so that a span ends when its work does."""
        local = [e for e in (self.F, self.G, *self.trainers.values()) if isinstance(e, LocalEngine)]
        if any("cuda" in engine.facts.device for engine in local):
            import torch

            torch.cuda.synchronize()

    async def release(self, session: str) -> None:
        """Forget what the engines keep for a session that has ended."""
        await self.F.release(session)
        await self.G.release(session)

    async def reset(self) -> None:
        await self.F.reset()
        await self.G.reset()

    async def close(self) -> None:
        for queue in self._works.values():
            await queue.close()
        for engine in (self.F, self.G, *self.trainers.values()):
            await engine.close()
        await self.encoder.close()


class MeteredModel:
    """F or G for one session: every call is timed and charged."""

    def __init__(self, role: Role, session: SessionEngines) -> None:
        self.role: Role = role
        self._session = session
        self._engine = session.shared.engine(role)

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        max_new_tokens: int | None = None,
        purpose: str = "reply",
        adapter: Adapter | None = None,
        style: PromptStyle = "chat",
    ) -> Completion:
        session = self._session
        start = session.clock.now()
        sampling = Sampling(
            max_new_tokens=max_new_tokens or session.generation.max_new_tokens,
            temperature=session.generation.temperature,
            top_p=session.generation.top_p,
            seed=session.next_request_seed(self.role),
        )
        if adapter is not None:
            await self._hold(adapter)
        completion = await ask(self._engine, messages, sampling, adapter, session.scope, style)
        session.clock.completed(start, purpose, completion)
        session.memory.completed(completion)
        if adapter is not None:
            session.memory.adapted(adapter)
        return completion

    async def _hold(self, adapter: Adapter) -> None:
        """Have the engine load `adapter`, on the clock, where it must before it can use it."""
        engine = self._engine
        if isinstance(engine, AdapterHost) and not engine.holds(adapter):
            with self._session.span("adapter_load"):
                await engine.hold(adapter, self._session.scope.session)

    async def work(self, run: Work[P, T], payload: P, *, key: Hashable, purpose: str) -> T:
        session = self._session
        start = session.clock.now()
        done = await session.shared.works(self.role).do(run, payload, key)
        worked = done.worked
        session.clock.worked(
            start,
            self.role,
            purpose,
            forward=worked.forward,
            trained=worked.trained,
            queue_s=done.queue_s,
        )
        trained = session.shared.trainers.get(self.role)
        session.memory.worked(trainer_of(self.role) if trained else self.role, done.peak_bytes)
        value: T = worked.value
        return value

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return len(self.encode(messages))

    def encode(self, messages: Sequence[Message], style: PromptStyle = "chat") -> list[int]:
        return encode(self._session.shared.tokenizer(self.role), messages, style)

    def encode_reply(self, text: str, *, ended: bool) -> list[int]:
        tokenizer = self._session.shared.tokenizer(self.role).tokenizer
        return encode_reply(tokenizer, text, ended=ended)


class MeteredEncoder:
    """The pair's sentence encoder for one session."""

    def __init__(self, session: SessionEngines) -> None:
        self._session = session

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        start = self._session.clock.now()
        encoder = self._session.shared.encoder
        vectors = await encoder.embed(texts)
        self._session.clock.embedded(start, encoder.count_tokens(texts))
        self._session.memory.embedded()
        return vectors


class SessionEngines:
    """What one session's Method may use; implements `harness.method.Engines`."""

    def __init__(
        self,
        shared: EngineSet,
        generation: GenerationSpec,
        seed: int,
        warm_turns: int,
        workspace: Workspace,
        scope: Scope = NOBODY,
    ) -> None:
        self.shared = shared
        self.scope = scope
        self.generation = generation
        self.seed = seed
        self.warm_turns = warm_turns
        self._workspace = workspace
        self.clock = SessionClock(shared.synchronize)
        self.memory = MemoryMeter(shared.weights())
        self._requests = {"F": 0, "G": 0}
        self.F = MeteredModel("F", self)
        self.G = MeteredModel("G", self)
        self.encoder = MeteredEncoder(self)

    def folder(self, name: str, *, keep: bool = False) -> Path:
        return self._workspace.folder(name, keep=keep)

    def span(self, name: str) -> AbstractContextManager[None]:
        return self.clock.span(name)

    def event(self, kind: EventKind, **data: Any) -> None:
        self.clock.event(kind, data)

    def next_request_seed(self, role: Role) -> int:
        """The same for the same call of the same session, whichever method makes it."""
        self._requests[role] += 1
        return derive_seed(self.seed, role, self._requests[role])


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from anything with a stable text form."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


async def serve_session(
    key: UnitKey,
    method: Method,
    session: Session,
    engines: EngineSet,
    generation: GenerationSpec,
    *,
    alone: bool,
    warm_turns: int = 1,
    think_time_s: float = 0.0,
    run_folder: Path | None = None,
    stored: Sequence[StoredReply] | None = None,
    prefix_cache: bool = False,
    window: Window | None = None,
    arrived_s: float | None = None,
) -> SessionRecord:
    """Serve every turn of `session` and return its record. What the Method raises passes through.

    `alone`: no other session is being served, so that device peaks belong to this one.
    `warm_turns`: the task's default W. `run_folder`: where what the Method keeps is put; without
    one, nothing is kept. `stored`: in replay, the reply that each turn's history holds.
    `window`: the stretch of serving that this session is a part of; None, it makes one alone.
    `arrived_s`: when in it the session arrived; None, now.
    """
    window = window or Window.begin()
    started = window.now()
    seed = derive_seed(key.seed, session.task, session.id)
    scope = Scope(unit_hash(key), prefix_cache)
    with Workspace(run_folder, key) as workspace:
        own = SessionEngines(engines, generation, seed, warm_turns, workspace, scope)
        own.clock.origin = window.origin
        if alone:
            reset_device_peaks()
        try:
            turns = await _converse(method, session, own, think_time_s, stored)
        finally:
            await engines.release(scope.session)
        workspace.finished()
    clock = own.clock
    session_s, overhead_s = clock.waited()
    cost = charge(turns, clock.busy_marks, engines.pair.prices)
    return {
        **unserved(key, session, "scored", None),
        "turns": turns,
        "session_s": session_s,
        "overhead_s": overhead_s,
        "memory": own.memory.record(),
        "cost": cost,
        "never_switchable": _never_switchable(method, session, warm_turns),
        "load": {
            "window": window.name,
            "arrived_s": started if arrived_s is None else arrived_s,
            "started_s": started,
            "ended_s": window.now(),
        },
        "worker": {"index": window.worker, "machine_class": window.machine_class},
        "references": list(session.references) if session.references is not None else None,
        "gold": list(session.gold) if session.gold is not None else None,
    }


async def _converse(
    method: Method,
    session: Session,
    own: SessionEngines,
    think_time_s: float,
    stored: Sequence[StoredReply] | None,
) -> list[TurnRecord]:
    """Open the session, hand over its turns one by one with time to think, and close it."""
    clock = own.clock
    clock.start()
    conversation = await method.open(session.opening(), own)
    turns: list[TurnRecord] = []
    try:
        if stored is not None and not hasattr(conversation, "replay"):
            name = type(conversation).__name__
            raise BenchError(f"{name} has no replay(): it can only be run live")
        for index, user in enumerate(session.turns, start=1):
            if index > 1 and think_time_s:
                await asyncio.sleep(think_time_s)
            clock.start_turn()
            reply = await conversation.reply(user)
            turns.append(clock.end_turn(index, user, reply))
            if stored is not None:
                said = stored[index - 1]
                await conversation.replay(said.text, ended=said.ended)
    finally:
        await conversation.close()
    clock.end_session(turns[-1])
    return turns


def _never_switchable(method: Method, session: Session, warm_turns: int) -> bool | None:
    switchable = method.switchable(len(session.turns), warm_turns)
    return None if switchable is None else not switchable


def unserved(key: UnitKey, session: Session, outcome: Outcome, reason: str | None) -> SessionRecord:
    """The record of a session without replies: it failed, or was not attempted, for `reason`."""
    return SessionRecord(
        schema=SCHEMA_VERSION,
        method=key.method,
        task=key.task,
        session_id=key.session_id,
        seed=key.seed,
        outcome=outcome,
        reason=reason,
        turns=[],
        session_s=None,
        overhead_s=None,
        memory=None,
        cost=None,
        references=None,
        gold=None,
        metadata=cast("dict[str, Any]", dict(session.metadata)),
        never_switchable=None,
        load=None,
        worker=None,
        finished_at=_now(),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
