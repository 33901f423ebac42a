"""The clock: every number of a record from hand-set times."""

from __future__ import annotations

import pytest

from harness.measure.clock import SessionClock, union_length
from harness.method import Completion, Reply, Tokens


def completion(sent: float, first: float, last: float, output: int = 5) -> Completion:
    return Completion(
        role="F",
        text="ok",
        output_ids=tuple(range(output)),
        tokens=Tokens(prompt=10, cached=2, output=output),
        stop_reason="length",
        prompt_hash="h",
        sent_at=sent,
        started_at=sent + 0.25,
        first_token_at=first,
        last_token_at=last,
        kv_bytes_formula=None,
        kv_bytes_measured=None,
    )


@pytest.mark.parametrize(
    ("intervals", "length"),
    [
        ([], 0),
        ([(0, 1), (2, 4)], 3),
        ([(0, 3), (1, 2)], 3),
        ([(1, 3), (0, 2)], 3),
        ([(0, 1), (0, 1)], 1),
        ([(0, 1), (1, 2)], 2),
    ],
)
def test_union_counts_overlaps_once(intervals: list[tuple[float, float]], length: float) -> None:
    assert union_length(intervals) == length


def test_turn_times_count_everything_since_the_user_asked() -> None:
    times = iter([100.0, 100.0, 101.0, 103.0, 109.0, 110.0])
    clock = SessionClock(now=lambda: next(times))
    clock.start()
    clock.start_turn()
    with clock.span("summarize"):  # 101 to 103, before the model is asked
        pass
    done = completion(sent=104.0, first=105.0, last=109.0, output=5)
    clock.completed(104.0, "reply", done)  # now: 109
    turn = clock.end_turn(1, "hi", Reply(done))  # now: 110
    assert turn["timing"] == {"ttft_s": 5.0, "tpot_s": 1.0, "e2e_s": 9.0, "turn_s": 10.0}
    assert turn["spans"] == [{"name": "summarize", "start_s": 1.0, "duration_s": 2.0}]
    assert turn["calls"][0]["start_s"] == 4.0
    assert turn["calls"][0]["duration_s"] == 5.0
    assert turn["calls"][0]["queue_s"] == 0.25
    assert turn["tokens"] == {"prompt": 10, "cached": 2, "output": 5}
    assert union_length(clock.busy) == 7.0


def test_one_token_has_no_time_per_output_token() -> None:
    clock = SessionClock(now=lambda: 0.0)
    clock.start_turn()
    turn = clock.end_turn(1, "hi", Reply(completion(0.0, 1.0, 1.0, output=1)))
    assert turn["timing"]["tpot_s"] is None


def test_spans_and_events_belong_to_their_turn_only() -> None:
    clock = SessionClock(now=lambda: 0.0)
    clock.start_turn()
    with clock.span("a"):
        clock.event("truncated", {"dropped_turns": 1})
    first = clock.end_turn(1, "x", Reply(completion(0, 0, 0)))
    second = clock.end_turn(2, "y", Reply(completion(0, 0, 0)))
    assert [s["name"] for s in first["spans"]] == ["a"]
    assert first["events"][0]["data"] == {"dropped_turns": 1}
    assert second["spans"] == []
    assert second["events"] == []


def test_work_after_the_last_reply_is_charged_but_is_no_session_time() -> None:
    times = iter([0.0, 0.0, 4.0, 5.0, 6.0, 9.0, 9.0])
    clock = SessionClock(now=lambda: next(times))
    clock.start()
    clock.start_turn()
    reply = completion(sent=1.0, first=2.0, last=4.0)
    clock.completed(1.0, "reply", reply)  # now: 4
    last = clock.end_turn(1, "hi", Reply(reply))  # now: 5
    with clock.span("clean up"):  # 6 to 9
        pass
    clock.completed(6.0, "probe", reply)  # now: 9
    clock.end_session(last)
    assert [s["name"] for s in last["spans"]] == ["clean up"]
    assert [c["purpose"] for c in last["calls"]] == ["reply", "probe"]
    assert clock.waited() == (5.0, 2.0)
    assert clock.busy_marks == [6.0]


def test_time_to_think_is_nobodys_wait_and_work_may_hide_in_it() -> None:
    """Two turns of 2 s and 3 s, 10 s apart, and a span from 1 s to 13 s that covers the gap."""
    times = iter([0.0, 0.0, 1.0, 2.0, 12.0, 13.0, 15.0])
    clock = SessionClock(now=lambda: next(times))
    clock.start()
    clock.start_turn()
    span = clock.span("adaptation")
    span.__enter__()  # 1
    reply = Reply(completion(0.0, 1.0, 2.0))
    first = clock.end_turn(1, "a", reply)  # 2
    clock.start_turn()  # 12
    span.__exit__(None, None, None)  # 13
    second = clock.end_turn(2, "b", reply)  # 15
    assert first["spans"] == []
    assert second["spans"] == [{"name": "adaptation", "start_s": -11.0, "duration_s": 12.0}]
    assert clock.waited() == (5.0, 3.0)
    assert clock.busy_marks == [0.0, 12.0]


def test_work_on_weights_is_a_call() -> None:
    clock = SessionClock(now=lambda: 4.0)
    clock.worked(1.0, "G", "training", forward=5, trained=70, queue_s=0.5)
    turn = clock.end_turn(1, "a", Reply(completion(0.0, 1.0, 2.0)))
    (call,) = turn["calls"]
    assert (call["role"], call["purpose"], call["prompt"], call["output"]) == (
        "G",
        "training",
        5,
        0,
    )
    assert (call["trained"], call["queue_s"], call["duration_s"]) == (70, 0.5, 3.0)


def test_a_span_is_closed_and_the_device_awaited_when_its_work_fails() -> None:
    waits = []
    clock = SessionClock(synchronize=lambda: waits.append(1), now=lambda: 0.0)
    with pytest.raises(KeyError), clock.span("a"):
        raise KeyError
    assert len(clock.busy) == 1
    assert len(waits) == 2
