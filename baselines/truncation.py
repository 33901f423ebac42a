"""The model sees only the most recent turns: the oldest whole turns are dropped.

A turn is a user message and its reply. The system prompt and the current user message always
stay, and no message is ever cut in two.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from baselines._conversation import model_of
from harness.method import Conversation, Engines, Message, Method, Reply, assistant, chat, user
from harness.session import Role, Session


class Truncation(Method):
    """Keep the last turns of the history, by count, by token budget, or by both.

    last_turns: how many earlier turns stay (0: none). token_budget: the longest prompt in tokens,
    counted with the serving model's tokenizer. serve: which model answers.
    """

    last_turns: int | None = Field(default=None, ge=0)
    token_budget: int | None = Field(default=None, ge=1)
    serve: Role = "F"

    @model_validator(mode="before")
    @classmethod
    def _some_limit(cls, values: dict[str, object]) -> dict[str, object]:
        if values.get("last_turns") is None and values.get("token_budget") is None:
            values = {**values, "last_turns": 2}
        return values

    async def open(self, session: Session, engines: Engines) -> Conversation:
        return _Truncated(self, session.system, engines)


class _Truncated:
    def __init__(self, limits: Truncation, system: str | None, engines: Engines) -> None:
        self._limits = limits
        self._system = system
        self._engines = engines
        self._model = model_of(engines, limits.serve)
        self._turns: list[tuple[Message, Message]] = []

    async def reply(self, text: str) -> Reply:
        query = user(text)
        with self._engines.span("truncate"):
            kept = self._fitting(query)
        if kept < len(self._turns):
            self._engines.event("truncated", dropped_turns=len(self._turns) - kept, kept_turns=kept)
        completion = await self._model.generate(self._prompt(kept, query))
        self._turns.append((query, assistant(completion.text)))
        return Reply(completion)

    async def replay(self, reply: str, *, ended: bool) -> None:
        query, _ = self._turns[-1]
        self._turns[-1] = (query, assistant(reply))

    async def close(self) -> None:
        self._turns.clear()

    def _fitting(self, query: Message) -> int:
        """How many of the latest turns may stay; the current message is sent in any case."""
        kept = len(self._turns)
        if self._limits.last_turns is not None:
            kept = min(kept, self._limits.last_turns)
        budget = self._limits.token_budget
        if budget is not None:
            while kept and self._model.count_tokens(self._prompt(kept, query)) > budget:
                kept -= 1
        return kept

    def _prompt(self, kept: int, query: Message) -> list[Message]:
        recent = self._turns[len(self._turns) - kept :]
        return chat(self._system, [m for turn in recent for m in turn] + [query])
