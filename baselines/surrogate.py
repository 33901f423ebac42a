"""G answers every turn with the full history: the cheapest that needs no thought.

What adaptation, routing or compression must beat in quality to be worth anything.
"""

from __future__ import annotations

from baselines._conversation import FullHistory
from harness.method import Conversation, Engines, Method
from harness.session import Session


class Surrogate(Method):
    """Full history, served by G."""

    async def open(self, session: Session, engines: Engines) -> Conversation:
        return FullHistory(session.system, engines.G)
