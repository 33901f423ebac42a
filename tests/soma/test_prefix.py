"""The compressed prefix: what G reads, in training and in serving alike."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from harness.engines.chat import encode_bare, prompt_hash
from harness.serving import EngineSet, SessionEngines, derive_seed
from harness.spec import GenerationSpec
from harness.store import UnitKey
from harness.workspace import Workspace
from soma.cases import Limits, fitting_prompt
from soma.prefix import TOPIC_WORDS, CompressedPrefix, PrefixSettings, Turn, topics
from soma.warm_start import Dialogue

TURNS = [Turn(f"question {n}", f"answer {n}", ended=True) for n in (1, 2, 3)]


def prefix(engines: Any = None, **settings: Any) -> CompressedPrefix:
    return CompressedPrefix(PrefixSettings(**settings), "Be brief.", engines)


def test_recent_turns_stay_and_older_ones_become_topics() -> None:
    messages = asyncio.run(prefix(last_turns=1).before(TURNS, "question 4"))
    assert [m["content"] for m in messages[1:]] == ["question 3", "answer 3", "question 4"]
    system = messages[0]["content"]
    assert system.startswith("Be brief.\n\n")
    assert "1. question 1\n2. question 2" in system
    assert "answer" not in system


@pytest.mark.parametrize(("kept", "history"), [(0, 0), (2, 4), (9, 6)])
def test_last_turns_is_k(kept: int, history: int) -> None:
    messages = asyncio.run(prefix(last_turns=kept).before(TURNS, "now"))
    assert len(messages) == 2 + history
    assert (messages[0]["content"] == "Be brief.") is (kept >= 3)


def test_a_topic_is_the_beginning_of_a_message() -> None:
    long = Turn(" ".join(f"w{n}" for n in range(40)), "", ended=True)
    line = topics([long])
    assert line == "1. " + " ".join(f"w{n}" for n in range(TOPIC_WORDS)) + " ..."


def test_whole_turns_are_dropped_before_anything_is_cut() -> None:
    def encode(messages: Any) -> list[int]:
        return [len(m["content"]) for m in messages]

    turns = [t.messages for t in TURNS]
    head, query = [{"role": "system", "content": "s"}], [{"role": "user", "content": "qq"}]
    sizes = [len("question 1"), len("answer 1")]

    def fit(limit: int) -> tuple[int, ...]:
        return fitting_prompt(encode, head, turns, query, limit)  # type: ignore[arg-type]

    assert fit(8) == (1, *sizes * 3, 2)
    assert fit(7) == fit(6) == (1, *sizes * 2, 2)
    assert fit(3) == (1, 2)
    assert fit(1) == (2,)


def test_g_is_served_with_what_it_was_trained_on(embedded: EngineSet) -> None:
    async def both() -> tuple[Any, Any]:
        with Workspace(None, UnitKey("m", "t", "s", 0)) as workspace:
            spec = GenerationSpec(max_new_tokens=4)
            own = SessionEngines(embedded, spec, derive_seed("x"), 2, workspace)
            settings = PrefixSettings(last_turns=1, writer="G", summary_tokens=8)
            dialogue = Dialogue("Be brief.", settings, own)
            dialogue.turns = list(TURNS)
            reply = await dialogue.by_g("question 4", None)
            return reply, await dialogue.training_case(3, Limits())

    reply, case = asyncio.run(both())
    assert prompt_hash(case.prompt) == reply.completion.prompt_hash
    text = embedded.G.tokenizer.decode(case.reply, skip_special_tokens=True)
    assert text.strip() == reply.text.strip()


def test_the_bare_style_has_no_template(embedded: EngineSet) -> None:
    messages = asyncio.run(prefix(last_turns=1).before(TURNS[:1], "now"))
    text = embedded.G.tokenizer.decode(encode_bare(embedded.G.tokenizer, messages))
    assert text == "System: Be brief.\nUser: question 1\nAssistant: answer 1\nUser: now\nAssistant:"
