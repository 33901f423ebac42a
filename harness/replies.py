"""The reference's replies, of which other methods' histories are made in replay."""

from __future__ import annotations

from pathlib import Path

from harness.plan import Unit
from harness.record import SessionRecord
from harness.serving import StoredReply, stored_replies, unserved
from harness.spec import RunSpec
from harness.store import UnitKey, key_of, read_sessions


class ReplyStore:
    """Holds what a run in replay needs of the sessions finished so far; in a live run, nothing."""

    def __init__(self, spec: RunSpec, folder: Path) -> None:
        self._spec = spec
        self._stored: dict[UnitKey, tuple[StoredReply, ...]] = {}
        if spec.history == "replay":
            for record in read_sessions(folder):
                self.keep(record)

    def keep(self, record: SessionRecord) -> None:
        """Remember the replies of a finished session, if histories will be made of them."""
        spec = self._spec
        of_reference = record["method"] == spec.reference and record["outcome"] == "scored"
        if spec.history == "replay" and of_reference:
            self._stored[key_of(record)] = stored_replies(record)

    def of(self, unit: Unit) -> tuple[StoredReply, ...] | None:
        """The replies that `unit`'s history is made of; None: of its own."""
        return self._stored[self._source(unit)] if self._replays(unit) else None

    def missing(self, unit: Unit) -> SessionRecord | None:
        """The record of a unit that cannot be served, since there is nothing to replay."""
        if not self._replays(unit) or self._source(unit) in self._stored:
            return None
        reason = f"{self._spec.reference} was not served: there are no replies to replay"
        return unserved(unit.key, unit.session, "skipped", reason)

    def _replays(self, unit: Unit) -> bool:
        return self._spec.history == "replay" and unit.key.method != self._spec.reference

    def _source(self, unit: Unit) -> UnitKey:
        return unit.key._replace(method=str(self._spec.reference))
