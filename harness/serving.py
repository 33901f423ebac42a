"""One session served by one method: the engines it sees, the record it leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from harness.engines.base import Engine, Sampling
from harness.engines.chat import encode_chat
from harness.engines.encoder import SentenceEncoder
from harness.engines.pairs import PairSpec
from harness.measure.clock import SessionClock, union_length
from harness.measure.cost import session_cost
from harness.measure.memory import MemoryMeter, reset_device_peaks
from harness.method import Completion, EventKind, Message, Method
from harness.record import SCHEMA_VERSION, Outcome, SessionRecord, TurnRecord
from harness.session import Role, Session
from harness.spec import GenerationSpec
from harness.store import UnitKey


@dataclass(frozen=True)
class EngineSet:
    """The loaded models of a pair, shared by all sessions."""

    pair: PairSpec
    F: Engine
    G: Engine
    encoder: SentenceEncoder

    def engine(self, role: Role) -> Engine:
        return self.F if role == "F" else self.G

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
    ) -> Completion:
        session = self._session
        start = session.clock.now()
        ids = self._encode(messages)
        sampling = Sampling(
            max_new_tokens=max_new_tokens or session.generation.max_new_tokens,
            temperature=session.generation.temperature,
            top_p=session.generation.top_p,
            seed=session.next_request_seed(self.role),
        )
        completion = await self._engine.generate(ids, sampling)
        session.clock.completed(start, purpose, completion)
        session.memory.completed(completion)
        return completion

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return len(self._encode(messages))

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        return encode_chat(self._engine.tokenizer, messages)


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

    def __init__(self, shared: EngineSet, generation: GenerationSpec, seed: int) -> None:
        self.shared = shared
        self.generation = generation
        self.seed = seed
        self.clock = SessionClock(shared.synchronize)
        self.memory = MemoryMeter(shared.weights())
        self._requests = {"F": 0, "G": 0}
        self.F = MeteredModel("F", self)
        self.G = MeteredModel("G", self)
        self.encoder = MeteredEncoder(self)

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
) -> SessionRecord:
    """Serve every turn of `session` and return its record. What the Method raises passes through.

    `alone`: no other session is being served, so that device peaks belong to this one.
    """
    own = SessionEngines(engines, generation, derive_seed(key.seed, session.task, session.id))
    if alone:
        reset_device_peaks()
    clock = own.clock
    begin = clock.start()
    conversation = await method.open(session.opening(), own)
    turns: list[TurnRecord] = []
    try:
        for index, user in enumerate(session.turns, start=1):
            clock.start_turn()
            reply = await conversation.reply(user)
            turns.append(clock.end_turn(index, user, reply))
        end = clock.now()
    finally:
        await conversation.close()
    clock.end_session(turns[-1])
    session_s = end - begin
    busy_s = union_length(clock.busy)
    calls = [call for turn in turns for call in turn["calls"]]
    return {
        **unserved(key, session, "scored", None),
        "turns": turns,
        "session_s": session_s,
        "overhead_s": session_s - clock.busy_between(begin, end),
        "memory": own.memory.record(),
        "cost": session_cost(calls, busy_s, engines.pair.prices),
        "references": list(session.references) if session.references is not None else None,
        "gold": list(session.gold) if session.gold is not None else None,
    }


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
        finished_at=_now(),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
