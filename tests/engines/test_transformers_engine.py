"""The transformers engine on real weights: F in float32 on the CPU."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace

import pytest

from harness.engines.base import Sampling
from harness.engines.chat import encode_chat, prompt_hash
from harness.engines.load import load_engine
from harness.engines.pairs import ModelSpec
from harness.errors import ContextOverflow, UserError
from harness.method import assistant, chat, user

PROMPTS = [
    [user("What is the capital of France?")],
    chat("You are a pirate.", [user("Who are you?")]),
    [user("Name three fruits."), assistant("Apple, pear, plum."), user("Which one is red?")],
    [user("Count from one to ten, in words, and say nothing else.")],
]


@pytest.fixture(scope="module")
def prompts(engine) -> list[list[int]]:
    return [encode_chat(engine.tokenizer, messages) for messages in PROMPTS]


def run(coroutine):
    return asyncio.run(coroutine)


def one(engine, prompt, sampling):
    return run(engine.generate(prompt, sampling))


def together(engine, jobs):
    """Hold the model's thread until every job waits, so that they surely share a batch."""

    async def main():
        gate = threading.Event()
        holder = asyncio.create_task(engine.run_exclusive(gate.wait))
        await asyncio.sleep(0)
        tasks = [asyncio.create_task(engine.generate(p, s)) for p, s in jobs]
        await asyncio.sleep(0)
        gate.set()
        await holder
        return await asyncio.gather(*tasks)

    return run(main())


@pytest.fixture(scope="module")
def singles(engine, prompts):
    return [one(engine, p, Sampling(16)) for p in prompts]


@pytest.fixture(scope="module")
def batched(engine, prompts):
    return together(engine, [(p, Sampling(16)) for p in prompts])


def test_greedy_equals_the_librarys_own_decoding(engine, prompts, singles):
    import torch

    def reference():
        ids = torch.tensor([prompts[2]])
        out = engine.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=16,
            do_sample=False,
            pad_token_id=0,
        )
        return out[0, ids.shape[1] :].tolist()

    assert list(singles[2].output_ids) == run(engine.run_exclusive(reference))


def test_a_completion_describes_its_request(engine, prompts, singles):
    for prompt, completion in zip(prompts, singles, strict=True):
        assert completion.role == "F"
        assert completion.tokens.prompt == len(prompt)
        assert completion.tokens.cached == 0
        assert completion.tokens.output == len(completion.output_ids) <= 16
        assert completion.prompt_hash == prompt_hash(prompt)
        assert completion.attempts == 1
        times = (
            completion.sent_at,
            completion.started_at,
            completion.first_token_at,
            completion.last_token_at,
        )
        assert list(times) == sorted(times)
        assert completion.last_token_at > completion.started_at


def test_stop_reasons(engine, prompts, singles):
    ended = singles[0]
    assert ended.stop_reason == "end_of_turn"
    assert ended.output_ids[-1] == engine.tokenizer.eos_token_id
    assert ended.text == "The capital of France is Paris."
    cut = one(engine, prompts[0], Sampling(3))
    assert cut.stop_reason == "length"
    assert cut.output_ids == ended.output_ids[:3]
    assert cut.text == "The capital of"


def test_every_special_token_ends_a_turn(engine, prompts):
    """A model that opens a user turn of its own is stopped there."""
    start = engine.tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert start != engine.tokenizer.eos_token_id
    assert start in engine.stop_ids
    specials = {i for i, t in engine.tokenizer.added_tokens_decoder.items() if t.special}
    assert specials <= engine.stop_ids
    # After "<|im_end|>\n" the model opens the next turn itself with a probability of 0.07, and
    # this seed's first number (0.034) falls into that share: ids below it have none.
    close = engine.tokenizer.encode("The capital of France is Paris.<|im_end|>\n")
    completion = one(engine, prompts[0] + close, Sampling(8, temperature=1.0, seed=3))
    assert completion.stop_reason == "end_of_turn"
    assert completion.output_ids == (start,)
    assert completion.text == ""
    assert completion.first_token_at == completion.last_token_at


def test_a_batch_gives_what_single_requests_give(singles, batched):
    same = sum(a.output_ids == b.output_ids for a, b in zip(singles, batched, strict=True))
    assert same >= 3  # rounding differs with the batch's shape, so a near tie may fall otherwise


def test_a_batch_is_one_batch(batched):
    assert len({c.started_at for c in batched}) == 1
    assert len({c.tokens.output for c in batched}) > 1
    # A short reply is handed back before the long ones are done.
    by_length = sorted(batched, key=lambda c: c.tokens.output)
    assert by_length[0].last_token_at < by_length[-1].last_token_at


def test_kv_by_formula_and_as_held(engine, prompts, singles, batched):
    config = engine.model.config
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    assert engine.facts.kv_bytes_per_token == per_token
    for completion in singles:
        tokens = completion.tokens.prompt + completion.tokens.output - 1
        assert completion.kv_bytes_formula == per_token * tokens
        assert completion.kv_bytes_measured == completion.kv_bytes_formula
    widest = max(map(len, prompts))
    for completion in batched:
        padded = widest + completion.tokens.output - 1
        assert completion.kv_bytes_measured == per_token * padded


def test_facts(engine):
    facts = engine.facts
    assert facts.parameters == 134_515_008  # SmolLM2-135M, its tied embedding once
    assert facts.weights_bytes == 4 * facts.parameters
    assert (facts.device, facts.dtype, facts.context_tokens) == ("cpu", "float32", 8192)
    assert engine.model.config._attn_implementation == "grouped"


def test_the_first_token_is_the_first_that_shows_something(engine):
    """Blank lines are no content: the time to the first token goes on until there is some."""
    from harness.engines.transformers.decode import Row, decode

    newline = engine.tokenizer.encode("\n")[0]
    blank_then_word = engine.tokenizer.encode("\n\n \nParis")
    assert len(blank_then_word) > 2

    class Scripted:
        """The model, made to say a given reply: its own cache, its own vocabulary."""

        config, device = engine.model.config, engine.model.device

        def __init__(self, reply):
            self.reply = iter(reply)

        def __call__(self, *args, **kwargs):
            out = engine.model(*args, **kwargs)
            out.logits[:, -1, next(self.reply)] = 1e4
            return out

    def times(reply):
        row = Row([5, 6], Sampling(len(reply)))
        assert list(decode(Scripted(reply), engine.tokenizer, [row], engine.stop_ids)) == [row]
        assert row.output == reply
        return row

    row = run(engine.run_exclusive(lambda: times(blank_then_word)))
    assert row.first_token_at < row.content_at == row.last_token_at
    row = run(engine.run_exclusive(lambda: times([newline, newline])))
    assert row.content_at is None
    assert row.first_token_at < row.last_token_at


def test_sampling_follows_the_seed_and_not_the_neighbours(engine, prompts):
    hot = Sampling(12, temperature=1.0, top_p=0.95, seed=11)
    alone = one(engine, prompts[3], hot)
    again = one(engine, prompts[3], hot)
    assert alone.output_ids == again.output_ids
    other = one(engine, prompts[3], replace(hot, seed=12))
    assert other.output_ids != alone.output_ids
    jobs = [
        (prompts[0], Sampling(4)),
        (prompts[3], hot),
        (prompts[1], replace(hot, seed=5)),
    ]
    assert together(engine, jobs)[1].output_ids == alone.output_ids


def test_more_requests_than_a_batch_holds(engine, prompts):
    jobs = [(prompts[i % 4], Sampling(3)) for i in range(6)]
    answers = together(engine, jobs)
    assert [a.prompt_hash for a in answers] == [prompt_hash(p) for p, _ in jobs]
    starts = [a.started_at for a in answers]
    assert len(set(starts)) == 2
    assert starts == sorted(starts)


def test_overflow_is_refused_before_anything_runs(engine):
    limit = engine.facts.context_tokens
    with pytest.raises(ContextOverflow, match="8192"):
        one(engine, [5] * (limit - 3), Sampling(4))
    with pytest.raises(ValueError, match="empty"):
        one(engine, [], Sampling(4))
    with pytest.raises(ValueError, match="max_new_tokens"):
        one(engine, [5], Sampling(0))


def test_cancelled_requests_leave_the_rest_alone(engine, prompts, singles):
    async def main():
        gate = threading.Event()
        holder = asyncio.create_task(engine.run_exclusive(gate.wait))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(engine.generate(prompts[3], Sampling(200)))
        kept = asyncio.create_task(engine.generate(prompts[0], Sampling(16)))
        await asyncio.sleep(0)
        waiting.cancel()
        gate.set()
        await holder
        # So hot that the end of turn is as unlikely as any token: it runs until it is cancelled.
        endless = Sampling(4000, temperature=5.0, seed=1)
        running = asyncio.create_task(engine.generate(prompts[3], endless))
        first = await kept
        running_alone = asyncio.create_task(engine.run_exclusive(lambda: "after"))
        await asyncio.sleep(0.5)
        running.cancel()
        # The cancelled request asked for thousands of tokens: this returns only if it was dropped.
        after = await asyncio.wait_for(running_alone, timeout=120)
        gone = await asyncio.gather(waiting, running, return_exceptions=True)
        return first, after, gone

    first, after, gone = run(main())
    assert first.output_ids == singles[0].output_ids
    assert after == "after"
    assert all(isinstance(g, asyncio.CancelledError) for g in gone)


def test_a_failing_task_does_not_end_the_thread(engine, prompts):
    def fail():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(engine.run_exclusive(fail))
    assert one(engine, prompts[0], Sampling(1)).tokens.output == 1


def test_a_failing_batch_fails_its_requests_only(engine, prompts):
    with pytest.raises(IndexError):
        one(engine, [10**6], Sampling(1))  # no such token
    assert one(engine, prompts[0], Sampling(1)).tokens.output == 1


OUT_OF_MEMORY = """
import asyncio, resource, sys
from harness.engines.base import Sampling
from harness.engines.load import load_engine
from harness.engines.pairs import ModelSpec
from harness.errors import OutOfMemory

async def main():
    spec = ModelSpec(id=sys.argv[1], dtype="float32", device="cpu")
    engine = load_engine(spec, "F", offline=True, batch_size=2)
    await engine.generate([5, 6, 7], Sampling(2))
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    # Attention over 6000 tokens wants more than a gigabyte for its scores.
    resource.setrlimit(resource.RLIMIT_AS, (size + 700 * 2**20,) * 2)
    big = engine.generate([5] * 6000, Sampling(1))
    small = engine.generate([5, 6, 7], Sampling(2))
    answers = await asyncio.gather(big, small, return_exceptions=True)
    print(type(answers[0]).__name__, type(answers[1]).__name__, answers[0])
    print((await engine.generate([5, 6, 7], Sampling(2))).tokens.output)
    await engine.close()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_out_of_memory_is_that_requests_own(original):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(OUT_OF_MEMORY), str(original)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("OutOfMemory Completion"), lines
    assert lines[1] == "2"


def test_closing_ends_the_thread(original):
    spec = ModelSpec(id=str(original), dtype="bfloat16", device="cpu")
    before = set(threading.enumerate())
    engine = load_engine(spec, "G", offline=True, batch_size=1)
    assert engine.facts.dtype == "bfloat16"
    assert engine.facts.weights_bytes == 2 * 134_515_008
    assert one(engine, [5, 6], Sampling(1)).role == "G"
    started = [t for t in threading.enumerate() if t not in before]
    assert "model-G" in [t.name for t in started]
    run(engine.close())
    assert not [t.name for t in started if t.is_alive() and t.name == "model-G"]
    with pytest.raises(Exception, match="closed"):
        one(engine, [5, 6], Sampling(1))


def test_models_that_cannot_be_had(tmp_path):
    def load(model_id: str):
        return load_engine(ModelSpec(id=model_id), "F", offline=True, batch_size=1)

    with pytest.raises(UserError, match=r"no config\.json"):
        load(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', "utf-8")
    with pytest.raises(UserError, match="cannot be loaded"):
        load(str(tmp_path))
    with pytest.raises(UserError, match=r"not in the local hub cache.*hf download nobody/nothing"):
        load("nobody/nothing")
    with pytest.raises(UserError, match="no such embedded model"):
        load("embedded:H")
