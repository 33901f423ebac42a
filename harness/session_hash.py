"""What a set of sessions is, as one hash: two machines that read the same data get the same one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from harness.session import Session


class SessionsDigest:
    """SHA-256 over one line per session, in order; sessions are added one by one."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, session: Session) -> None:
        self._digest.update(canonical_line(session).encode("ascii"))

    def hexdigest(self) -> str:
        """The hash of what was added so far, 64 hex digits."""
        return self._digest.hexdigest()


def sessions_digest(sessions: Iterable[Session]) -> str:
    """The hash of sessions in their order; holds none of them."""
    digest = SessionsDigest()
    for session in sessions:
        digest.add(session)
    return digest.hexdigest()


def canonical_line(session: Session) -> str:
    """All fields of a session as one line of ASCII JSON with sorted keys and a newline."""
    fields = {name: getattr(session, name) for name in session.__dataclass_fields__}
    text = json.dumps(
        fields, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=_plain
    )
    return text + "\n"


def _plain(value: object) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)
