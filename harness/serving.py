"""One session served by one method: the engines it sees, the record it leaves."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from harness.engines.base import Engine, LocalEngine, Sampling
from harness.engines.chat import encode_bare, encode_chat, encode_reply
from harness.engines.encoder import SentenceEncoder
from harness.engines.pairs import PairSpec
from harness.engines.work import WorkQueue
from harness.errors import BenchError, UserError
from harness.measure.clock import SessionClock
from harness.measure.cost import charge
from harness.measure.memory import MemoryMeter, reset_device_peaks
from harness.method import Adapter, Completion, EventKind, Message, Method, P, PromptStyle, T, Work
from harness.record import SCHEMA_VERSION, Outcome, SessionRecord, TurnRecord
from harness.session import Role, Session
from harness.spec import GenerationSpec
from harness.store import UnitKey
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
    """

    pair: PairSpec
    F: Engine
    G: Engine
    encoder: SentenceEncoder
    adapt_concurrency: int = 1
    _works: dict[Role, WorkQueue] = field(default_factory=dict)

    def engine(self, role: Role) -> Engine:
        return self.F if role == "F" else self.G

    def works(self, role: Role) -> WorkQueue:
        """The queue of work on a model's weights. Raises UserError where there are none here."""
        engine = self.engine(role)
        if not isinstance(engine, LocalEngine):
            raise UserError(
                f"pair {self.pair.name}: {role}.engine",
                "holds no weights in this process to be adapted; use 'transformers'",
            )
        return self._works.setdefault(role, WorkQueue(engine, self.adapt_concurrency))

    def weights(self) -> dict[str, int | None]:
        return {
            "F": self.F.facts.weights_bytes,
            "G": self.G.facts.weights_bytes,
            "encoder": self.encoder.facts.weights_bytes,
        }

    def synchronize(self) -> None:
        """Wait for the device, so that a span ends when its work does."""
        if any("cuda" in e.facts.device for e in (self.F, self.G)):
            import torch

            torch.cuda.synchronize()

    async def reset(self) -> None:
        await self.F.reset()
        await self.G.reset()

    async def close(self) -> None:
        for queue in self._works.values():
            await queue.close()
        await self.F.close()
        await self.G.close()
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
        ids = self.encode(messages, style)
        sampling = Sampling(
            max_new_tokens=max_new_tokens or session.generation.max_new_tokens,
            temperature=session.generation.temperature,
            top_p=session.generation.top_p,
            seed=session.next_request_seed(self.role),
        )
        completion = await self._engine.generate(ids, sampling, adapter)
        session.clock.completed(start, purpose, completion)
        session.memory.completed(completion)
        if adapter is not None:
            session.memory.adapted(adapter)
        return completion

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
        session.memory.worked(self.role, done.peak_bytes)
        value: T = worked.value
        return value

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return len(self.encode(messages))

    def encode(self, messages: Sequence[Message], style: PromptStyle = "chat") -> list[int]:
        if style == "bare":
            return encode_bare(self._engine.tokenizer, messages)
        return encode_chat(self._engine.tokenizer, messages)

    def encode_reply(self, text: str, *, ended: bool) -> list[int]:
        return encode_reply(self._engine.tokenizer, text, ended=ended)


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
    ) -> None:
        self.shared = shared
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
) -> SessionRecord:
    """Serve every turn of `session` and return its record. What the Method raises passes through.

    `alone`: no other session is being served, so that device peaks belong to this one.
    `warm_turns`: the task's default W. `run_folder`: where what the Method keeps is put; without
    one, nothing is kept. `stored`: in replay, the reply that each turn's history holds.
    """
    seed = derive_seed(key.seed, session.task, session.id)
    with Workspace(run_folder, key) as workspace:
        own = SessionEngines(engines, generation, seed, warm_turns, workspace)
        if alone:
            reset_device_peaks()
        turns = await _converse(method, session, own, think_time_s, stored)
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
        finished_at=_now(),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
