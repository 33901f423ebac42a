"""Small random models behind the real engine, for tests of its arithmetic and bookkeeping."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import torch

from harness.engines.base import NOBODY, Sampling, Scope
from harness.engines.transformers.adapters import LoraAdapter, TrainableAdapter, adaptable_sites
from harness.engines.transformers.attention import register
from harness.engines.transformers.engine import TransformersEngine
from harness.method import Completion

WORDS = 97
SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 4096,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
Job = tuple[list[int], Sampling, LoraAdapter | None, Scope]


def tiny_engine(
    kind: str = "Llama",
    attention: str = "sdpa",
    *,
    cache_bytes: int = 2**20,
    **config: Any,
) -> TransformersEngine:
    """A random model of the class `{kind}ForCausalLM`, loud enough to say different things.

    In float64, so that no near tie is decided by the shape of a batch; in float32 for "grouped",
    whose softmax has no more.
    """
    import transformers

    register()
    torch.manual_seed(0)
    declared = getattr(transformers, config.pop("config_class", f"{kind}Config"))
    model = getattr(transformers, f"{kind}ForCausalLM")(declared(**{**SIZES, **config}))
    model.set_attn_implementation(attention)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    dtype = torch.float64 if attention == "sdpa" else torch.float32
    model = model.to(dtype).eval().requires_grad_(False)
    return TransformersEngine(
        model,
        word_tokenizer(),
        model_id="tiny",
        role="F",
        batch_size=8,
        prefix_cache_bytes=cache_bytes,
    )


def word_tokenizer() -> Any:
    """Id n is the word "wn"; 0 ends a turn."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(WORDS)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w1"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="w0")


def words(seed: int, length: int) -> list[int]:
    """Random ids that end no turn."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, WORDS, (length,), generator=generator).tolist()


def loud(engine: Any, seed: int) -> LoraAdapter:
    """A random adapter that changes what the model says."""
    trainable = TrainableAdapter(adaptable_sites(engine.model), rank=4, alpha=8.0, seed=seed)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        trainable.up.copy_(torch.randn(trainable.up.shape, generator=generator) * 0.3)
    return trainable.freeze()


def one(
    engine: Any,
    prompt: list[int],
    sampling: Sampling,
    adapter: LoraAdapter | None = None,
    scope: Scope = NOBODY,
) -> Completion:
    done: Completion = asyncio.run(engine.generate(prompt, sampling, adapter, scope))
    return done


def together(engine: Any, jobs: list[Job]) -> list[Completion]:
    """Hold the model's thread until every job waits, so that they surely share a batch."""

    async def main() -> list[Completion]:
        gate = threading.Event()
        holder = asyncio.create_task(engine.run_exclusive(gate.wait))
        await asyncio.sleep(0)
        tasks = [asyncio.create_task(engine.generate(*job)) for job in jobs]
        await asyncio.sleep(0)
        gate.set()
        await holder
        return await asyncio.gather(*tasks)

    done = asyncio.run(main())
    assert len({completion.started_at for completion in done}) == 1
    return done
