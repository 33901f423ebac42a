"""vLLM in process: times, counts, the cache and its salts, memory, cancelling, what is refused."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.engines.base import Sampling, Scope
from harness.engines.chat import encode_chat, prompt_hash
from harness.engines.embedded.fetch import fetch_one
from harness.engines.load import load_engine
from harness.engines.pairs import ModelSpec
from harness.errors import ContextOverflow, UserError
from harness.method import Completion, user
from tests.vllm.conftest import BLOCK

NAMES = itertools.count()
LONG = "A bakery sells rolls for 2 dollars and loaves for 5. " * 12 + "What does a roll cost?"


def session() -> Scope:
    """A session of its own, with the prefix cache on."""
    return Scope(f"session-{next(NAMES)}", prefix_cache=True)


def ids(engine: Any, text: str = LONG) -> list[int]:
    return encode_chat(engine.tokenizer, [user(text)])


def ask(engine: Any, scope: Scope, text: str = LONG, tokens: int = 4, **more: Any) -> Completion:
    sampling = Sampling(max_new_tokens=tokens, **more)
    done: Completion = asyncio.run(engine.generate(ids(engine, text), sampling, scope=scope))
    return done


def test_the_model_s_sizes_are_those_that_transformers_counts(engine: Any, local: Any) -> None:
    ours, theirs = engine.facts, local.facts
    assert (ours.parameters, ours.weights_bytes) == (theirs.parameters, theirs.weights_bytes)
    assert (ours.dtype, ours.kv_bytes_per_token) == ("float32", theirs.kv_bytes_per_token)
    assert (ours.model, ours.device, ours.context_tokens) == ("embedded:G", "cpu", 1024)


def test_times_follow_each_other_and_the_engine_s_fit_into_ours(engine: Any) -> None:
    done = ask(engine, session(), tokens=12)
    assert done.sent_at <= done.started_at < done.first_token_at < done.last_token_at
    assert done.engine is not None
    assert 0 <= done.engine.queue_s < done.engine.ttft_s < done.engine.e2e_s
    assert done.engine.ttft_s <= done.first_token_at - done.sent_at
    assert done.engine.e2e_s <= done.last_token_at - done.sent_at
    assert done.failures == ()


def test_counts_and_hash_are_of_the_ids(engine: Any) -> None:
    done = ask(engine, session(), tokens=5)
    assert (done.tokens.prompt, done.tokens.output) == (len(ids(engine)), len(done.output_ids))
    assert done.prompt_hash == prompt_hash(ids(engine))
    assert (done.stop_reason, len(done.output_ids)) == ("length", 5)


def test_the_token_that_ends_a_turn_is_counted_and_not_shown(engine: Any) -> None:
    done = ask(engine, session(), "What is 2 + 2? Answer with the number only.", tokens=64)
    assert done.stop_reason == "end_of_turn"
    assert done.output_ids[-1] in engine.stop_ids
    assert not engine.stop_ids & set(done.output_ids[:-1])
    assert done.text == engine.tokenizer.decode(done.output_ids[:-1])


def test_any_special_token_ends_a_turn(engine: Any, local: Any) -> None:
    assert engine.stop_ids == local.stop_ids
    assert set(engine.tokenizer.all_special_ids) < engine.stop_ids


def test_a_session_s_own_blocks_are_used_again_and_nobody_else_s(engine: Any) -> None:
    mine, other = session(), session()
    whole = (len(ids(engine)) - 1) // BLOCK * BLOCK
    assert ask(engine, mine).tokens.cached == 0
    assert ask(engine, mine).tokens.cached == whole > 0
    assert ask(engine, other).tokens.cached == 0
    assert ask(engine, Scope(mine.session, prefix_cache=False)).tokens.cached == 0
    assert ask(engine, mine).tokens.cached == whole


def test_a_second_turn_finds_the_first_one_s_reply(engine: Any) -> None:
    mine = session()
    first = ids(engine)
    done = ask(engine, mine, tokens=BLOCK + 8)
    following = [*first, *done.output_ids, *ids(engine, "And a loaf?")]
    again = asyncio.run(engine.generate(following, Sampling(4), scope=mine))
    read = len(first) + len(done.output_ids) - 1
    assert again.tokens.cached == read // BLOCK * BLOCK > len(first) // BLOCK * BLOCK


def test_a_cached_prompt_gets_the_same_reply(engine: Any) -> None:
    mine = session()
    cold, warm = (ask(engine, mine, tokens=10) for _ in range(2))
    assert warm.tokens.cached > 0
    assert warm.output_ids == cold.output_ids


def test_with_the_cache_off_nothing_is_ever_found(engine: Any) -> None:
    off = Scope(session().session, prefix_cache=False)
    assert [ask(engine, off).tokens.cached for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("forget", ["reset", "release"])
def test_what_is_forgotten_is_not_found(engine: Any, forget: str) -> None:
    mine, other = session(), session()
    for scope in (mine, other):
        ask(engine, scope)
    asyncio.run(engine.reset() if forget == "reset" else engine.release(mine.session))
    assert ask(engine, mine).tokens.cached == 0
    assert (ask(engine, other).tokens.cached == 0) == (forget == "reset")


def test_memory_is_that_of_blocks_in_use(engine: Any) -> None:
    """Twice: what the prefix cache keeps is not in use."""
    for _ in range(2):
        done = ask(engine, session(), tokens=8)
        block = engine.facts.kv_bytes_per_token * BLOCK
        read = len(ids(engine)) + len(done.output_ids) - 1
        formula = engine.facts.kv_bytes_per_token * read
        assert done.kv_bytes_formula == formula
        assert done.kv_bytes_measured is not None
        assert done.kv_bytes_measured % block == 0
        assert abs(done.kv_bytes_measured - formula) <= block
        assert done.kv_bytes_kept is None


def test_memory_of_a_request_of_one_step_is_not_known(engine: Any) -> None:
    assert ask(engine, session(), tokens=1).kv_bytes_measured is None


def test_requests_beyond_the_batch_wait_in_the_queue(engine: Any) -> None:
    async def crowd() -> list[Completion]:
        asked = (engine.generate(ids(engine), Sampling(4), scope=session()) for _ in range(10))
        return await asyncio.gather(*asked)

    done = asyncio.run(crowd())
    waited = sorted(c.engine.queue_s for c in done if c.engine is not None)
    first_end = min(c.last_token_at - c.sent_at for c in done)
    assert waited[1] < first_end / 2 < waited[-2]
    assert all(c.started_at - c.sent_at >= c.engine.queue_s for c in done if c.engine is not None)
    block = engine.facts.kv_bytes_per_token * BLOCK
    for one in done:
        assert one.kv_bytes_measured is not None is not one.kv_bytes_formula
        assert abs(one.kv_bytes_measured - one.kv_bytes_formula) <= block


def test_sampling_depends_on_the_seed_alone(engine: Any) -> None:
    one, again, other = (
        ask(engine, session(), tokens=12, temperature=1.5, top_p=0.95, seed=seed)
        for seed in (7, 7, 2**62 + 1)
    )
    assert one.output_ids == again.output_ids
    assert one.output_ids != other.output_ids


def test_a_cancelled_request_leaves_the_engine(engine: Any) -> None:
    async def cancel() -> int:
        task = asyncio.create_task(engine.generate(ids(engine), Sampling(600), scope=session()))
        while engine._llm.get_num_unfinished_requests() == 0:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The cancelling crosses to the engine's thread.
        for _ in range(500):
            if engine._llm.get_num_unfinished_requests() == 0:
                break
            await asyncio.sleep(0.01)
        return int(engine._llm.get_num_unfinished_requests())

    assert asyncio.run(cancel()) == 0
    assert ask(engine, session()).stop_reason == "length"
    asyncio.run(engine.reset())


def test_an_interrupt_from_the_keyboard_does_not_reach_its_processes(engine: Any) -> None:
    """It goes to every process of the terminal; the run itself closes the engine."""
    served = [p for p in psutil.Process().children(recursive=True) if "VLLM" in p.name()]
    assert served
    for process in served:
        process.send_signal(signal.SIGINT)
    assert ask(engine, session()).stop_reason == "length"
    assert all(process.is_running() for process in served)


def test_what_does_not_fit_is_refused_before_it_is_sent(engine: Any) -> None:
    limit = engine.facts.context_tokens
    with pytest.raises(ContextOverflow, match="embedded:G: 1016 prompt tokens and 9 new ones"):
        asyncio.run(engine.generate([5] * (limit - 8), Sampling(9)))
    done = asyncio.run(engine.generate([5] * (limit - 8), Sampling(8)))
    assert done.tokens.prompt == limit - 8


@pytest.mark.parametrize(("prompt", "tokens", "says"), [([], 4, "empty"), ([5], 0, "at least 1")])
def test_a_request_for_nothing_is_a_mistake(
    engine: Any, prompt: list[int], tokens: int, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        asyncio.run(engine.generate(prompt, Sampling(tokens)))


def test_why_vllm_does_not_start_is_said_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for file in fetch_one("G").iterdir():
        (tmp_path / file.name).symlink_to(file)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    config["architectures"] = ["NoSuchForCausalLM"]
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    spec = ModelSpec(id=str(tmp_path), engine="vllm")
    with pytest.raises(UserError) as raised:
        load_engine(spec, "G", offline=True, batch_size=1)
    problem = raised.value.problem
    assert raised.value.place == str(tmp_path)
    assert re.match(r"vLLM does not start: .*NoSuchForCausalLM.* \(vLLM's log: \S+\)$", problem)
    Path(problem.rsplit("vLLM's log: ", 1)[1].removesuffix(")")).unlink()
    assert capfd.readouterr() == ("", "")


def test_another_device_than_vllm_s_is_refused() -> None:
    spec = ModelSpec(id="embedded:G", engine="vllm", device="cuda")
    with pytest.raises(UserError, match=r"G\.device = 'cuda': this vLLM serves on 'cpu'"):
        load_engine(spec, "G", offline=True, batch_size=1)
