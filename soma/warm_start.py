"""The two ways a warm-starting session is served: F with everything, G with what it was given."""

from __future__ import annotations

from collections.abc import Sequence

from harness.method import (
    Adapter,
    Completion,
    Engines,
    Message,
    PromptStyle,
    Reply,
    chat,
    user,
)
from soma.cases import Case, Limits, fitting_prompt
from soma.prefix import CompressedPrefix, PrefixSettings, Turn


class Dialogue:
    """One session's turns, who can answer the next one, and the cases its turns make."""

    def __init__(self, system: str | None, prefix: PrefixSettings, engines: Engines) -> None:
        self.turns: list[Turn] = []
        self.engines = engines
        self._system = system
        self._style: PromptStyle = prefix.style
        self._prefix = CompressedPrefix(prefix, system, engines)

    @property
    def next_turn(self) -> int:
        return len(self.turns) + 1

    async def by_f(self, query: str) -> Reply:
        """F answers with the full history."""
        messages = self._full(self.turns, query)
        return self._answered(query, await self.engines.F.generate(messages, style=self._style))

    async def by_g(self, query: str, adapter: Adapter | None, *, compressed: bool = True) -> Reply:
        """G answers, from the compressed prefix or from the full history."""
        if compressed:
            messages = await self._prefix.before(self.turns, query)
        else:
            messages = self._full(self.turns, query)
        completion = await self.engines.G.generate(messages, adapter=adapter, style=self._style)
        return self._answered(query, completion)

    def replay(self, reply: str, *, ended: bool) -> None:
        """The last turn was answered with `reply`."""
        self.turns[-1] = Turn(self.turns[-1].query, reply, ended)

    async def ask_f_again(self) -> Completion:
        """What F says to the last turn's query after the turns before it: a shadow probe."""
        messages = self._full(self.turns[:-1], self.turns[-1].query)
        return await self.engines.F.generate(messages, purpose="probe", style=self._style)

    async def probe_f(self, place: int, verbalized: str) -> Completion:
        """What F says at the turn at `place` (from 0) with V(P) before its context."""
        messages = self._full(self.turns[:place], self.turns[place].query, before=verbalized)
        return await self.engines.F.generate(messages, purpose="probe", style=self._style)

    async def replay_g(self, place: int, adapter: Adapter) -> str:
        """What G says at the turn at `place`, from the prefix it would be served with."""
        turn = self.turns[place]
        messages = await self._prefix.before(self.turns[:place], turn.query)
        completion = await self.engines.G.generate(
            messages, adapter=adapter, purpose="gate", style=self._style
        )
        return completion.text

    def mining_case(self, place: int, limits: Limits) -> Case | None:
        """(S_t, a_t^F) with the whole context, its oldest turns dropped at the limit."""
        turn = self.turns[place]
        prompt = fitting_prompt(
            self._encode,
            chat(self._system, []),
            [t.messages for t in self.turns[:place]],
            [user(turn.query)],
            limits.prompt,
        )
        return self._case(place, prompt, turn.reply, ended=turn.ended, limits=limits)

    async def training_case(self, place: int, limits: Limits) -> Case | None:
        """(compressed S_t, a_t^F): what G will be served with, and what F said."""
        turn = self.turns[place]
        messages = await self._prefix.before(self.turns[:place], turn.query)
        prompt = tuple(self._encode(messages)[-limits.prompt :])
        return self._case(place, prompt, turn.reply, ended=turn.ended, limits=limits)

    async def probed_case(
        self, place: int, verbalized: str, probe: Completion, limits: Limits
    ) -> Case | None:
        """The same with V(P) before the context and F's reply to that."""
        messages = await self._prefix.before(self.turns[:place], self.turns[place].query)
        prompt = tuple(self._encode(_lead(messages, verbalized))[-limits.prompt :])
        ended = probe.stop_reason == "end_of_turn"
        return self._case(place, prompt, probe.text, ended=ended, limits=limits)

    def _case(
        self, place: int, prompt: tuple[int, ...], reply: str, *, ended: bool, limits: Limits
    ) -> Case | None:
        """None for a reply without any token: there is nothing to learn from it."""
        ids = self.engines.G.encode_reply(reply, ended=ended)[: limits.reply]
        return Case(place + 1, prompt, tuple(ids)) if ids else None

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        return self.engines.G.encode(messages, self._style)

    def _full(self, turns: Sequence[Turn], query: str, before: str = "") -> list[Message]:
        history = [message for turn in turns for message in turn.messages]
        messages = chat(self._system, [*history, user(query)])
        return _lead(messages, before) if before else messages

    def _answered(self, query: str, completion: Completion) -> Reply:
        ended = completion.stop_reason == "end_of_turn"
        self.turns.append(Turn(query, completion.text, ended))
        return Reply(completion)


def _lead(messages: Sequence[Message], text: str) -> list[Message]:
    """`messages` with `text` at their very beginning: in the system message, made if need be."""
    if messages and messages[0]["role"] == "system":
        return [
            {"role": "system", "content": f"{text}\n\n{messages[0]['content']}"},
            *messages[1:],
        ]
    return [{"role": "system", "content": text}, *messages]
