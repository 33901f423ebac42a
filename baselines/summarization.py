"""Older turns are folded into a rolling summary that a model rewrites every few turns.

The summary's own tokens and time are charged to the turn that waits for it.
"""

from __future__ import annotations

from pydantic import Field

from baselines._conversation import model_of
from harness.method import Conversation, Engines, Message, Method, Reply, assistant, chat, user
from harness.session import Role, Session

INSTRUCTION = (
    "Write a short summary of the conversation so far for someone who must continue it. Keep every "
    "name, number, price, date, decision and open question. Write plain sentences, nothing else."
)


class Summarization(Method):
    """A summary of the older turns plus the latest turns word by word.

    every: how many turns may pile up beyond `keep` before the summary is rewritten. keep: how many
    of the latest turns stay verbatim. summary_tokens: the longest summary. writer: which model
    writes it. serve: which model answers the user.
    """

    every: int = Field(default=3, ge=1)
    keep: int = Field(default=2, ge=0)
    summary_tokens: int = Field(default=128, ge=8)
    writer: Role = "F"
    serve: Role = "F"

    async def open(self, session: Session, engines: Engines) -> Conversation:
        return _Summarized(self, session.system, engines)


class _Summarized:
    def __init__(self, settings: Summarization, system: str | None, engines: Engines) -> None:
        self._settings = settings
        self._system = system
        self._engines = engines
        self._writer = model_of(engines, settings.writer)
        self._model = model_of(engines, settings.serve)
        self._summary = ""
        self._turns: list[tuple[Message, Message]] = []

    async def reply(self, text: str) -> Reply:
        if len(self._turns) >= self._settings.keep + self._settings.every:
            await self._fold()
        query = user(text)
        completion = await self._model.generate(chat(self._head(), [*self._recent(), query]))
        self._turns.append((query, assistant(completion.text)))
        return Reply(completion)

    async def replay(self, reply: str, *, ended: bool) -> None:
        query, _ = self._turns[-1]
        self._turns[-1] = (query, assistant(reply))

    async def close(self) -> None:
        self._turns.clear()

    async def _fold(self) -> None:
        """Rewrite the summary to cover all but the last `keep` turns, and drop those turns."""
        folded = len(self._turns) - self._settings.keep
        older, self._turns = self._turns[:folded], self._turns[folded:]
        with self._engines.span("summarize"):
            messages = [m for turn in older for m in turn]
            completion = await self._writer.generate(
                chat(self._head(), [*messages, user(INSTRUCTION)]),
                max_new_tokens=self._settings.summary_tokens,
                purpose="summary",
            )
        self._summary = completion.text.strip()
        self._engines.event(
            "summarized",
            folded_turns=folded,
            kept_turns=len(self._turns),
            prompt_tokens=completion.tokens.prompt,
            summary_tokens=completion.tokens.output,
            writer=completion.role,
        )

    def _head(self) -> str | None:
        if not self._summary:
            return self._system
        note = f"Summary of the conversation so far:\n{self._summary}"
        return f"{self._system}\n\n{note}" if self._system else note

    def _recent(self) -> list[Message]:
        return [m for turn in self._turns for m in turn]
