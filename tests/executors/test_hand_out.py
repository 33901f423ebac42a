"""Units go out block by block, come back when a worker is lost, and none is served twice."""

from __future__ import annotations

import asyncio
from typing import cast

from harness.executors.hand_out import HandOut
from harness.method import Method
from harness.plan import Block, Unit
from harness.session import Session
from harness.store import UnitKey


def block(method: str, *sessions: str, task: str = "t", seed: int = 0) -> Block:
    units = tuple(
        Unit(UnitKey(method, task, s, seed), cast(Method, None), Session(s, task, ("hello",)))
        for s in sessions
    )
    return Block(method, task, seed, units)


def named(unit: Unit | None) -> str | None:
    return None if unit is None else f"{unit.key.method}/{unit.key.session_id}"


def place_of(out: HandOut) -> int | None:
    return asyncio.run(out.next_block())


def test_units_go_out_in_order_and_each_once() -> None:
    out = HandOut([block("a", "1", "2"), block("b", "1")])
    assert place_of(out) == 0
    assert [named(out.take(0)) for _ in range(3)] == ["a/1", "a/2", None]
    assert place_of(out) == 1
    assert [named(out.take(1)) for _ in range(2)] == ["b/1", None]
    assert not out.done
    for place in (0, 0, 1):
        out.finished(place)
    assert out.done
    assert place_of(out) is None


def test_no_unit_of_a_later_block_while_an_earlier_one_has_some() -> None:
    out = HandOut([block("a", "1"), block("b", "1")])
    assert out.take(1) is None
    assert named(out.take(0)) == "a/1"
    assert named(out.take(1)) == "b/1"


def test_a_unit_that_comes_back_is_served_alone_by_who_is_free_next() -> None:
    out = HandOut([block("a", "1", "2", "3", "4")])
    first, second = out.take(0), out.take(0)
    assert first is not None
    assert second is not None
    out.give_back(0, first)
    out.give_back(0, second)
    assert named(out.take(0)) == "a/3"
    place = place_of(out)
    assert place is not None
    assert [named(out.take(place)) for _ in range(2)] == ["a/1", None]
    out.give_back(place, first)
    for expected in ("a/2", "a/1"):
        place = place_of(out)
        assert place is not None
        assert [named(out.take(place)) for _ in range(2)] == [expected, None]
        out.finished(place)
    assert place_of(out) == 0
    assert named(out.take(0)) == "a/4"
    assert not out.done
    out.finished(0)
    out.finished(0)
    assert out.done


def test_who_finds_nothing_waits_for_what_may_come_back() -> None:
    async def idle() -> int | None:
        out = HandOut([block("a", "1")])
        unit = out.take(0)
        assert unit is not None
        waiting = asyncio.create_task(out.next_block())
        await asyncio.sleep(0)
        assert not waiting.done()
        out.give_back(0, unit)
        again = await waiting
        assert again is not None
        assert out.take(again) == unit
        waiting = asyncio.create_task(out.next_block())
        await asyncio.sleep(0)
        out.finished(again)
        return await waiting

    assert asyncio.run(idle()) is None


def test_in_replay_a_block_waits_for_the_whole_block_it_replays() -> None:
    blocks = [
        block("ref", "1", "2"),
        block("m", "1", "2"),
        block("ref", "1", task="other"),
        block("m", "1", task="other"),
    ]
    out = HandOut(blocks, "ref")
    first, second = out.take(0), out.take(0)
    assert first is not None
    assert second is not None
    assert place_of(out) == 2
    assert out.take(1) is None
    assert named(out.take(2)) == "ref/1"
    out.finished(0)
    assert out.take(1) is None
    out.give_back(0, second)
    place = place_of(out)
    assert place == 4
    assert out.take(place) == second
    assert out.take(1) is None
    out.finished(place)
    assert place_of(out) == 1
    assert named(out.take(1)) == "m/1"
    assert out.take(3) is None


def test_in_replay_nothing_waits_for_replies_stored_before() -> None:
    out = HandOut([block("m", "1")], "ref")
    assert named(out.take(0)) == "m/1"


def test_all_done_tells_when_the_last_one_is_finished() -> None:
    async def last() -> bool:
        out = HandOut([block("a", "1")])
        out.take(0)
        done = asyncio.create_task(out.all_done())
        await asyncio.sleep(0)
        before = done.done()
        out.finished(0)
        await done
        return before

    assert asyncio.run(last()) is False
