"""Stage 3, the compressed prefix that G reads: a summary of older turns, then the last K turns.

G is trained on the very prefix that it will be served with, so that what it learned fits what it
sees. Summaries are made turn by turn as turns grow old, and kept: the prefix of a turn is the same
whenever it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.method import Engines, Message, PromptStyle, assistant, chat, user

Writer = Literal["topics", "G", "F"]

TOPIC_WORDS = 14
"""Words of a user message that make its line in a summary by topics."""

INSTRUCTION = (
    "Summarize the conversation so far in a few plain sentences for someone who must continue it. "
    "Keep names, numbers, prices, dates, limits and open questions. Write only the summary."
)


@dataclass(frozen=True)
class Turn:
    """One finished turn. `ended`: the reply ended by itself, not at the length limit."""

    query: str
    reply: str
    ended: bool

    @property
    def messages(self) -> tuple[Message, Message]:
        return user(self.query), assistant(self.reply)


@dataclass(frozen=True)
class PrefixSettings:
    """`last_turns`: K. `writer`: who summarizes older turns. `summary_tokens`: for F and G."""

    last_turns: int = 2
    writer: Writer = "topics"
    summary_tokens: int = 96
    style: PromptStyle = "chat"


class CompressedPrefix:
    """The prefixes of one session. Summaries by a model are charged to it."""

    def __init__(self, settings: PrefixSettings, system: str | None, engines: Engines) -> None:
        self._settings = settings
        self._system = system
        self._engines = engines
        self._summaries = [""]  # of the first 0, 1, 2, ... turns

    async def before(self, turns: Sequence[Turn], query: str) -> list[Message]:
        """What G reads for `query` after `turns`."""
        old = max(0, len(turns) - self._settings.last_turns)
        summary = await self._summary(turns[:old])
        recent = [message for turn in turns[old:] for message in turn.messages]
        return chat(self._head(summary), [*recent, user(query)])

    async def _summary(self, turns: Sequence[Turn]) -> str:
        if self._settings.writer == "topics":
            return topics(turns)
        while len(self._summaries) <= len(turns):
            done = len(self._summaries) - 1
            self._summaries.append(await self._fold(self._summaries[done], turns[done], done + 1))
        return self._summaries[len(turns)]

    async def _fold(self, summary: str, turn: Turn, covered: int) -> str:
        """The summary that also covers `turn`."""
        writer = self._engines.F if self._settings.writer == "F" else self._engines.G
        with self._engines.span("summarize"):
            completion = await writer.generate(
                chat(self._head(summary), [*turn.messages, user(INSTRUCTION)]),
                max_new_tokens=self._settings.summary_tokens,
                purpose="summary",
                style=self._settings.style,
            )
        self._engines.event(
            "summarized",
            covered_turns=covered,
            prompt_tokens=completion.tokens.prompt,
            summary_tokens=completion.tokens.output,
            writer=completion.role,
        )
        return completion.text.strip()

    def _head(self, summary: str) -> str | None:
        if not summary:
            return self._system
        by_topics = self._settings.writer == "topics"
        title = "The user's earlier messages, shortened:" if by_topics else "Summary so far:"
        note = f"{title}\n{summary}"
        return f"{self._system}\n\n{note}" if self._system else note


def topics(turns: Sequence[Turn]) -> str:
    """A line per turn with the first words of the user's message: no model, no cost."""
    lines = []
    for number, turn in enumerate(turns, start=1):
        words = turn.query.split()
        more = " ..." if len(words) > TOPIC_WORDS else ""
        lines.append(f"{number}. {' '.join(words[:TOPIC_WORDS])}{more}")
    return "\n".join(lines)
