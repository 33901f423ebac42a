"""What a worker is told arrives as it was sent."""

from __future__ import annotations

import json
from types import MappingProxyType

import pytest

from harness.executors.ray_worker import own_code
from harness.executors.wire import Job, Orders
from harness.plan import make_plan
from harness.profile import Overrides, load_spec
from harness.serving import StoredReply
from harness.session import Session
from harness.store import UnitKey


@pytest.mark.parametrize("profile", ["smoke", "demo", "drift", "paper-qwen"])
def test_a_spec_arrives_with_its_hash(profile: str) -> None:
    spec, _ = load_spec(profile, Overrides(settings=("generation.temperature=0.1",)))
    orders = Orders(
        spec=spec,
        index=3,
        cores=None,
        warm_turns={"planning": 4},
        offline=True,
        folder="/a",
        sources={"m.py:M": "0" * 64},
        code=own_code(),
        scratch=None,
    )
    back = Orders.model_validate_json(orders.model_dump_json())
    assert back == orders
    assert back.spec.hash() == spec.hash()


@pytest.mark.parametrize("profile", ["demo", "drift"])
def test_every_session_arrives_whole(profile: str) -> None:
    plan = make_plan(*load_spec(profile, Overrides()))
    sessions = [s for group in plan.sessions.values() for s in group]
    assert sessions
    for session in sessions:
        job = Job(key=UnitKey("m", session.task, session.id, 0), session=session, stored=None)
        assert Job.model_validate_json(job.text()) == job


def test_what_json_has_no_word_for_arrives_too() -> None:
    session = Session(
        id="ü \u2028 \x00",
        task="t",
        turns=("one", "\U0001f600 two"),
        references=(None, "said"),
        reference_kind="human",
        gold=("1", None),
        source=MappingProxyType({"file": "a", "lines": MappingProxyType({"from": 1})}),
        metadata={"shift_turn": 3, "score": 0.1 + 0.2, "none": None},
    )
    stored = (StoredReply("a", True), StoredReply("", False))
    job = Job(key=UnitKey("m:x=1", "t", session.id, 2), session=session, stored=stored)
    text = job.text()
    json.loads(text)
    back = Job.model_validate_json(text)
    assert back.key == job.key
    assert back.stored == stored
    for name in ("id", "turns", "references", "gold", "metadata"):
        assert getattr(back.session, name) == getattr(session, name)
    assert back.session.source == {"file": "a", "lines": {"from": 1}}
