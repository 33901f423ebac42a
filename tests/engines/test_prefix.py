"""The store of prefixes: what is shared, what is kept, what goes, counted to the byte."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Sequence

import pytest
import torch

from harness.engines.base import NOBODY, Scope
from harness.engines.transformers.adapters import LoraAdapter
from harness.engines.transformers.prefix import Lease, Prefix, PrefixCache

PER_ID = 2 * 2 * 3 * 4 * 4  # two layers of keys and values, 3 heads of width 4, float32


def prefix(ids: Sequence[int]) -> Prefix:
    pairs = [(torch.rand(1, 3, len(ids), 4), torch.rand(1, 3, len(ids), 4)) for _ in range(2)]
    return Prefix(tuple(ids), tuple(pairs))


def adapter() -> LoraAdapter:
    return LoraAdapter(4, 8.0, {})


class Leases:
    """Leases that stay open until the test ends."""

    def __init__(self, cache: PrefixCache) -> None:
        self._cache = cache
        self._open: list[object] = []

    def __call__(self, session: str, adapter: LoraAdapter | None = None) -> Lease:
        manager = self._cache.lease(Scope(session, True), adapter)
        self._open.append(manager)  # a generator that is collected would end its lease
        lease = manager.__enter__()
        assert lease is not None
        return lease


@pytest.fixture
def cache() -> PrefixCache:
    return PrefixCache(limit=10 * PER_ID)


@pytest.fixture
def lease(cache: PrefixCache) -> Leases:
    return Leases(cache)


@pytest.mark.parametrize(
    ("kept", "prompt", "shared"),
    [
        ([1, 2, 3], [1, 2, 3, 4], 3),
        ([1, 2, 3], [1, 2, 3], 2),  # something must be read
        ([1, 2, 3], [1, 2], 1),
        ([1, 2, 3, 9], [1, 2, 4, 9, 5], 2),
        ([1, 2, 3], [2, 2, 3, 4], 0),
        ([1, 2, 3], [1], 0),
        ([], [1, 2], 0),
    ],
)
def test_the_common_prefix(kept, prompt, shared):
    assert prefix(kept).common(prompt) == shared


def test_the_first_ids_share_memory_with_the_rest():
    whole = prefix([1, 2, 3])
    part = whole.first(2)
    assert part.ids == (1, 2)
    assert whole.nbytes == 3 * PER_ID
    for (keys, values), (all_keys, all_values) in zip(part.layers, whole.layers, strict=True):
        assert torch.equal(keys, all_keys[:, :, :2])
        assert torch.equal(values, all_values[:, :, :2])
        assert keys.untyped_storage().data_ptr() == all_keys.untyped_storage().data_ptr()


def test_a_prefix_is_found_by_its_session_and_adapter_alone(cache, lease):
    mine, twin = adapter(), adapter()
    for place, first in ((lease("a"), 1), (lease("a", mine), 2), (lease("b"), 3)):
        cache.keep(place, prefix([first, 7]))
    prompts = {first: [first, 7, 8] for first in (1, 2, 3)}

    def finds(place: Lease) -> list[int]:
        return [first for first, prompt in prompts.items() if cache.find(place, prompt)]

    assert finds(lease("a")) == [1]
    assert finds(lease("a", mine)) == [2]
    assert finds(lease("a", twin)) == []  # the same numbers, another adapter
    assert finds(lease("b")) == [3]
    assert finds(lease("b", mine)) == []
    assert finds(lease("c")) == []
    assert cache.kept_bytes("a") == 4 * PER_ID
    assert cache.kept_bytes("b") == 2 * PER_ID
    assert cache.kept_bytes("c") == 0


def test_a_later_prefix_takes_the_place_of_the_earlier(cache, lease):
    cache.keep(lease("a"), prefix([1, 2, 3, 4]))
    cache.keep(lease("a"), prefix([1, 2, 9]))
    found = cache.find(lease("a"), [1, 2, 3, 4, 5])
    assert found is not None
    assert found.ids == (1, 2)
    assert cache.kept_bytes("a") == 3 * PER_ID


def test_what_was_used_longest_ago_goes_first(cache, lease):
    for session in "abc":
        cache.keep(lease(session), prefix([1, 2, 3]))
    assert cache.find(lease("a"), [1, 2, 9]) is not None  # used: "b" is the oldest now
    assert cache.find(lease("b"), [9, 9]) is None  # no use of it
    cache.keep(lease("d"), prefix([1, 2, 3]))
    kept = {session: cache.kept_bytes(session) // PER_ID for session in "abcd"}
    assert kept == {"a": 3, "b": 0, "c": 3, "d": 3}
    cache.keep(lease("e"), prefix([1, 2, 3, 4, 5, 6]))
    kept = {session: cache.kept_bytes(session) // PER_ID for session in "abcde"}
    assert kept == {"a": 0, "b": 0, "c": 0, "d": 3, "e": 6}


def test_the_limit_is_exact(cache, lease):
    cache.keep(lease("a"), prefix(range(4)))
    cache.keep(lease("b"), prefix(range(6)))
    assert cache.kept_bytes("a") + cache.kept_bytes("b") == cache.limit
    cache.keep(lease("b"), prefix(range(7)))
    assert cache.kept_bytes("a") == 0
    assert cache.kept_bytes("b") == 7 * PER_ID


def test_one_that_is_too_large_alone_changes_nothing(cache, lease):
    cache.keep(lease("a"), prefix([1, 2]))
    cache.keep(lease("b"), prefix([1, 2]))
    cache.keep(lease("a"), prefix(range(11)))
    assert cache.kept_bytes("a") == cache.kept_bytes("b") == 2 * PER_ID


def test_a_cache_of_no_bytes_keeps_nothing():
    cache = PrefixCache(limit=0)
    lease = Leases(cache)
    cache.keep(lease("a"), prefix([1, 2]))
    assert cache.find(lease("a"), [1, 2, 3]) is None
    assert not cache.clear()


def test_a_lease_needs_a_session_and_the_wish(cache):
    for scope in (NOBODY, Scope("a"), Scope("", True)):
        with cache.lease(scope, None) as lease:
            assert lease is None


def test_an_ended_lease_leaves_nothing(cache):
    with cache.lease(Scope("a", True), None) as lease:
        assert lease is not None
    cache.keep(lease, prefix([1, 2]))
    assert cache.kept_bytes("a") == 0


@pytest.mark.parametrize("how", ["release", "reset"])
def test_what_is_dropped_is_freed_and_does_not_come_back(cache, lease, how):
    early, other = lease("a"), lease("b")
    mine = prefix([1, 2])
    gone = [weakref.ref(tensor) for pair in mine.layers for tensor in pair]
    cache.keep(early, mine)
    cache.keep(lease("a", adapter()), prefix([1, 2]))
    cache.keep(other, prefix([1, 2]))
    del mine
    if how == "release":
        cache.release("a")
    else:
        cache.reset()
    gc.collect()
    assert [reference() for reference in gone] == [None] * 4
    kept = 2 * PER_ID if how == "release" else 0
    assert (cache.kept_bytes("a"), cache.kept_bytes("b")) == (0, kept)
    cache.keep(early, prefix([1, 2]))  # a request that was under way
    assert cache.kept_bytes("a") == 0
    cache.keep(lease("a"), prefix([1, 2]))  # a session of the same name may begin anew
    assert cache.kept_bytes("a") == 2 * PER_ID


def test_clearing_tells_whether_there_was_anything_and_keeps_the_leases(cache, lease):
    place = lease("a")
    assert not cache.clear()
    cache.keep(place, prefix([1, 2]))
    assert cache.clear()
    assert cache.kept_bytes("a") == 0
    cache.keep(place, prefix([1, 2]))
    assert cache.kept_bytes("a") == 2 * PER_ID


def test_threads_may_keep_and_release_at_once(cache):
    """A released session never keeps anything, however the two threads meet."""
    handed = threading.Semaphore(0)
    queue: list[Lease] = []

    def worker() -> None:
        for _ in range(300):
            handed.acquire()
            cache.keep(queue.pop(), prefix([1, 2]))

    thread = threading.Thread(target=worker)
    thread.start()
    for number in range(300):
        with cache.lease(Scope(f"s{number}", True), None) as lease:
            assert lease is not None
            queue.append(lease)
            handed.release()
            cache.release(lease.session)
    thread.join()
    assert not cache.clear()
