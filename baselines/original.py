"""F answers every turn with the full history: the quality that others are compared with.

The most a session can cost, and the reply a user of the large model would have seen.
"""

from __future__ import annotations

from baselines._conversation import FullHistory
from harness.method import Conversation, Engines, Method
from harness.session import Session


class Original(Method):
    """Full history, served by F."""

    async def open(self, session: Session, engines: Engines) -> Conversation:
        return FullHistory(session.system, engines.F)
