"""State shared by baselines: a history that grows, and the plainest way to serve from it."""

from __future__ import annotations

from harness.method import Engines, Message, Model, Reply, assistant, chat, user
from harness.session import Role


class FullHistory:
    """Every turn so far goes to one model."""

    def __init__(self, system: str | None, model: Model) -> None:
        self._system = system
        self._model = model
        self._history: list[Message] = []

    async def reply(self, text: str) -> Reply:
        self._history.append(user(text))
        completion = await self._model.generate(chat(self._system, self._history))
        self._history.append(assistant(completion.text))
        return Reply(completion)

    async def replay(self, reply: str, *, ended: bool) -> None:
        self._history[-1] = assistant(reply)

    async def close(self) -> None:
        self._history.clear()


def model_of(engines: Engines, role: Role) -> Model:
    """The model that plays `role`."""
    return engines.F if role == "F" else engines.G
