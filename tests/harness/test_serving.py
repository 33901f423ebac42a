"""Sessions served with the real pair: prompts, isolation, charging, and what a Method may see."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from baselines.original import Original
from baselines.summarization import INSTRUCTION, Summarization
from baselines.surrogate import Surrogate
from baselines.truncation import Truncation
from harness.engines.chat import prompt_hash
from harness.method import Conversation, Engines, Message, Method, Reply
from harness.record import SessionRecord
from harness.serving import EngineSet, serve_session
from harness.session import Session
from harness.spec import GenerationSpec
from harness.store import UnitKey

SYSTEM = "You answer in one short sentence."
TURNS = (
    "My name is Ida and I have 12 apples in a basket.",
    "I give 5 of them to Omar. How many are left?",
    "And if he gives 2 back?",
    "What is my name?",
    "Who has apples now?",
)
SHORT = GenerationSpec(max_new_tokens=8)


def session(name: str = "s", system: str | None = SYSTEM) -> Session:
    gold = tuple(None for _ in TURNS)
    return Session(
        id=name, task="t", turns=TURNS, system=system, gold=gold, metadata={"secret": "x"}
    )


def serve(
    engines: EngineSet,
    method: Method,
    one: Session | None = None,
    generation: GenerationSpec = SHORT,
    seed: int = 0,
) -> SessionRecord:
    one = one or session()
    key = UnitKey("m", one.task, one.id, seed)
    return asyncio.run(serve_session(key, method, one, engines, generation, alone=True))


def template_hash(engines: EngineSet, messages: Sequence[Message]) -> str:
    """The hash of what the tokenizer's own chat template makes of `messages`."""
    ids: list[int] = engines.F.tokenizer.apply_chat_template(
        list(messages), add_generation_prompt=True, tokenize=True, return_dict=False
    )
    bos = engines.F.tokenizer.bos_token_id
    assert ids[:2] != [bos, bos]
    return prompt_hash(ids)


def messages(system: str | None, turns: Sequence[tuple[str, str]], query: str) -> list[Message]:
    head: list[Message] = [{"role": "system", "content": system}] if system else []
    for user, reply in turns:
        head += [{"role": "user", "content": user}, {"role": "assistant", "content": reply}]
    return [*head, {"role": "user", "content": query}]


@pytest.fixture(scope="module")
def whole(embedded: EngineSet) -> list[Any]:
    """The turns of the session under G with its full history."""
    return serve(embedded, Surrogate())["turns"]


@pytest.mark.parametrize(("method", "system"), [(Original(), SYSTEM), (Surrogate(), None)])
def test_full_history_prompts_are_the_template_s_own(
    embedded: EngineSet, method: Method, system: str | None
) -> None:
    record = serve(embedded, method, session(system=system))
    history: list[tuple[str, str]] = []
    for turn in record["turns"]:
        expected = messages(system, history, turn["user"])
        assert turn["prompt_hash"] == template_hash(embedded, expected)
        history.append((turn["user"], turn["reply"]))


def test_truncation_drops_whole_turns_and_says_so(embedded: EngineSet) -> None:
    record = serve(embedded, Truncation(last_turns=1, serve="G"))
    turns = record["turns"]
    for index, turn in enumerate(turns):
        kept = [(t["user"], t["reply"]) for t in turns[max(0, index - 1) : index]]
        expected = messages(SYSTEM, kept, turn["user"])
        assert turn["prompt_hash"] == template_hash(embedded, expected)
    dropped = [e["data"]["dropped_turns"] for t in turns for e in t["events"]]
    assert dropped == [1, 2, 3]


def test_a_token_budget_holds_and_pins_the_system_prompt(
    embedded: EngineSet, whole: list[Any]
) -> None:
    budget = whole[1]["tokens"]["prompt"]
    turns = serve(embedded, Truncation(token_budget=budget, serve="G"))["turns"]
    assert all(t["tokens"]["prompt"] <= budget for t in turns)
    assert any(e["kind"] == "truncated" for t in turns for e in t["events"])
    alone = messages(SYSTEM, [], turns[-1]["user"])
    tight = serve(embedded, Truncation(token_budget=1, serve="G"))["turns"]
    assert tight[-1]["prompt_hash"] == template_hash(embedded, alone)


def test_limits_that_nothing_exceeds_change_nothing(embedded: EngineSet, whole: list[Any]) -> None:
    loose = serve(embedded, Truncation(last_turns=99, token_budget=4000, serve="G"))["turns"]
    assert [t["reply"] for t in loose] == [t["reply"] for t in whole]
    assert not any(t["events"] for t in loose)


def test_summaries_are_written_read_and_charged(embedded: EngineSet) -> None:
    method = Summarization(every=2, keep=1, summary_tokens=16, writer="G", serve="F")
    record = serve(embedded, method)
    turns = record["turns"]
    folded = [(t["turn_index"], e["data"]) for t in turns for e in t["events"]]
    assert [index for index, _ in folded] == [4]
    calls = [c for t in turns for c in t["calls"]]
    summaries = [c for c in calls if c["purpose"] == "summary"]
    assert [c["role"] for c in summaries] == ["G"]
    pairs = [(t["user"], t["reply"]) for t in turns]
    written = messages(SYSTEM, pairs[:2], INSTRUCTION)
    assert summaries[0]["prompt_hash"] == template_hash(embedded, written)
    cost = record["cost"]
    assert cost is not None
    assert cost["tokens"]["G"]["output"] == folded[0][1]["summary_tokens"]
    assert cost["tokens"]["F"]["output"] == sum(t["tokens"]["output"] for t in turns)
    fourth = turns[3]
    span = next(s for s in fourth["spans"] if s["name"] == "summarize")
    assert fourth["timing"]["ttft_s"] > span["duration_s"] > 0


@pytest.mark.parametrize(
    "method",
    [Surrogate(), Summarization(every=2, keep=1, summary_tokens=24, writer="G", serve="G")],
    ids=lambda m: type(m).__name__,
)
def test_replies_never_hold_an_invented_user_turn(embedded: EngineSet, method: Method) -> None:
    record = serve(embedded, method, generation=GenerationSpec(max_new_tokens=40))
    special = set(embedded.F.tokenizer.all_special_tokens)
    for turn in record["turns"]:
        assert not any(token in turn["reply"] for token in special)
        assert "\nuser\n" not in turn["reply"]


def test_same_seed_same_replies_and_another_seed_others(embedded: EngineSet) -> None:
    drawn = GenerationSpec(max_new_tokens=8, temperature=1.0)
    first, again, other = (
        [t["reply"] for t in serve(embedded, Surrogate(), generation=drawn, seed=s)["turns"]]
        for s in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_concurrency_changes_hardly_a_greedy_reply(embedded: EngineSet) -> None:
    """In float32 batching reorders sums; 95 % of the turns must come out the same."""
    sessions = [
        Session(id=f"s{i}", task="t", turns=tuple(t.replace("12", str(12 + i)) for t in TURNS))
        for i in range(4)
    ]

    async def together() -> list[SessionRecord]:
        jobs = [
            serve_session(UnitKey("m", "t", s.id, 0), Surrogate(), s, embedded, SHORT, alone=False)
            for s in sessions
        ]
        return await asyncio.gather(*jobs)

    batched = asyncio.run(together())
    alone = [serve(embedded, Surrogate(), s) for s in sessions]
    pairs = [
        (a["reply"], b["reply"])
        for one, two in zip(alone, batched, strict=True)
        for a, b in zip(one["turns"], two["turns"], strict=True)
    ]
    assert len(pairs) == 20
    assert sum(a == b for a, b in pairs) >= 0.95 * len(pairs)
    assert any(c["queue_s"] > 0.001 for r in batched for t in r["turns"] for c in t["calls"])


class _Curious(Method):
    """Answers with G and keeps what it was shown."""

    async def open(self, session: Session, engines: Engines) -> Conversation:
        return _Seen(session, engines)


class _Seen:
    shown: list[Session] = []  # noqa: RUF012 - the test reads what the conversations saw

    def __init__(self, session: Session, engines: Engines) -> None:
        self.shown.append(session)
        self.engines = engines

    async def reply(self, text: str) -> Reply:
        await self.engines.encoder.embed([text])
        return Reply(await self.engines.G.generate([{"role": "user", "content": text}]))

    async def replay(self, reply: str, *, ended: bool) -> None:
        raise AssertionError("nothing is replayed here")

    async def close(self) -> None:
        pass


def test_a_method_sees_nothing_of_what_is_to_come(embedded: EngineSet) -> None:
    record = serve(embedded, _Curious())
    shown = _Seen.shown[-1]
    assert (shown.turns, shown.gold, shown.references) == ((), None, None)
    assert shown.metadata == {}
    assert shown.system == SYSTEM
    roles = {c["role"] for t in record["turns"] for c in t["calls"]}
    assert roles == {"G", "encoder"}
    memory: Any = record["memory"]
    assert memory["weights"]["encoder"] > 0
