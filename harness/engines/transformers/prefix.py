"""What a session's requests leave behind: keys and values that its next request can begin with."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import compress, count
from operator import ne

from torch import Tensor

from harness.engines.base import Scope
from harness.engines.transformers.adapters import LoraAdapter


@dataclass(frozen=True, eq=False)
class Prefix:
    """Keys and values of `ids`: a pair of tensors (1, kv_heads, len(ids), width) per layer.

    They are never written to: a cache that begins with them grows into tensors of its own.
    """

    ids: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]

    @cached_property
    def nbytes(self) -> int:
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)

    def common(self, prompt: Sequence[int]) -> int:
        """How many first ids it shares with `prompt`, whose last id is not counted.

        A model must read at least one id to say what comes next.
        """
        most = min(len(self.ids), len(prompt) - 1)
        return next(compress(count(), map(ne, self.ids[:most], prompt)), most)

    def first(self, tokens: int) -> Prefix:
        """Its first `tokens` ids, as views of the same memory."""
        layers = ((keys[:, :, :tokens], values[:, :, :tokens]) for keys, values in self.layers)
        return Prefix(self.ids[:tokens], tuple(layers))


@dataclass(frozen=True, eq=False)
class Lease:
    """A request's right to what its session keeps with this adapter, or with none.

    It ends when nobody waits for the answer any more, or when the session is released.
    """

    session: str
    adapter: LoraAdapter | None

    @property
    def place(self) -> tuple[str, LoraAdapter | None]:
        return self.session, self.adapter


class PrefixCache:
    """The last finished request's prefix of each session and adapter, at most `limit` bytes in all.

    When they do not fit, those used longest ago go first. One that is larger than `limit` alone is
    not kept, and leaves what was there. Adapters are told apart by identity. Any thread may call.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: OrderedDict[tuple[str, LoraAdapter | None], Prefix] = OrderedDict()
        self._leases: set[Lease] = set()
        self._lock = threading.Lock()

    @contextmanager
    def lease(self, scope: Scope, adapter: LoraAdapter | None) -> Iterator[Lease | None]:
        """A lease for one request; None where `scope` asks for no cache or names no session."""
        if not (scope.prefix_cache and scope.session):
            yield None
            return
        lease = Lease(scope.session, adapter)
        with self._lock:
            self._leases.add(lease)
        try:
            yield lease
        finally:
            with self._lock:
                self._leases.discard(lease)

    def find(self, lease: Lease, prompt: Sequence[int]) -> Prefix | None:
        """The longest part of what is kept that `prompt` begins with; None if there is none."""
        with self._lock:
            kept = self._kept.get(lease.place)
            shared = 0 if kept is None else kept.common(prompt)
            if kept is None or not shared:
                return None
            self._kept.move_to_end(lease.place)
        return kept.first(shared)

    def keep(self, lease: Lease, prefix: Prefix) -> None:
        """Put `prefix` in the place of what was kept there, unless the lease has ended."""
        with self._lock:
            if lease not in self._leases or prefix.nbytes > self.limit:
                return
            self._kept.pop(lease.place, None)
            self._kept[lease.place] = prefix
            held = sum(kept.nbytes for kept in self._kept.values())
            while held > self.limit:
                _, oldest = self._kept.popitem(last=False)
                held -= oldest.nbytes

    def kept_bytes(self, session: str) -> int:
        """Bytes of keys and values kept for `session`, with all its adapters."""
        with self._lock:
            return sum(kept.nbytes for (whose, _), kept in self._kept.items() if whose == session)

    def release(self, session: str) -> None:
        """Drop what is kept for `session`; its requests still under way leave nothing behind."""
        with self._lock:
            for place in [place for place in self._kept if place[0] == session]:
                del self._kept[place]
            self._leases = {lease for lease in self._leases if lease.session != session}

    def reset(self) -> None:
        """Drop everything; requests still under way leave nothing behind."""
        with self._lock:
            self._kept.clear()
            self._leases.clear()

    def clear(self) -> bool:
        """Drop everything to free memory; later requests keep anew. Whether there was anything."""
        with self._lock:
            dropped = bool(self._kept)
            self._kept.clear()
            return dropped
