"""F serves the first turns, which are then G's history for the rest; nothing is trained."""

from __future__ import annotations

from typing import Literal

from harness.method import Conversation, Engines
from harness.session import Session
from soma.arguments import WarmStartMethod
from soma.handover import HandOver


class HistoryPrefix(WarmStartMethod):
    """prefix: whether G reads the full history, or the compressed prefix of trained methods."""

    prefix: Literal["full", "compressed"] = "full"

    async def open(self, session: Session, engines: Engines) -> Conversation:
        dialogue = self.dialogue(session, engines)
        compressed = self.prefix == "compressed"
        return HandOver(dialogue, self.warm(engines), None, compressed=compressed)
