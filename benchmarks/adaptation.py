"""Mining and LoRA training, the straightforward way and ours, in one process on the same inputs.

Prints both times, their ratio and the final losses side by side; the last line is JSON. The model
is the embedded pair's F (SmolLM2-135M) unless another is named, in the role of G.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

T = TypeVar("T")

NEVER = 10**9
"""Patience that no run exhausts: both sides must do the same number of steps."""


@dataclass(frozen=True)
class Timed:
    """Seconds and what came out."""

    seconds: float
    losses: tuple[float, ...]


@click.command()
@click.option("--model", default="embedded:F", show_default=True, help="The model that is adapted.")
@click.option("--turns", default=3, show_default=True, help="Warm turns.")
@click.option("--reply-tokens", default=48, show_default=True, help="Length of F's replies.")
@click.option("--candidates", default=2, show_default=True, help="M.")
@click.option("--length", default=8, show_default=True, help="L.")
@click.option("--iterations", default=10, show_default=True, help="Of mining.")
@click.option("--steps", default=20, show_default=True, help="Optimizer steps of the LoRA.")
@click.option("--batch", default=2, show_default=True, help="Cases per step.")
@click.option("--rank", default=4, show_default=True, help="r.")
def main(
    model: str,
    turns: int,
    reply_tokens: int,
    candidates: int,
    length: int,
    iterations: int,
    steps: int,
    batch: int,
    rank: int,
) -> None:
    """Time the straightforward adaptation and ours on one session."""
    from soma.localization import LoraSettings
    from soma.mining import MiningSettings

    engines = {name: _load(model, name) for name in ("float32", "auto")}
    cases = asyncio.run(_cases(engines["auto"], turns, reply_tokens))
    lengths = ", ".join(str(case.tokens) for case in cases)
    ours = engines["auto"].facts
    print(f"{model} on {ours.device}; cases of {lengths} tokens; ours in {ours.dtype}")

    mining = MiningSettings(
        length=length, candidates=candidates, keep=1, iterations=iterations, patience=NEVER
    )
    lora = LoraSettings(rank=rank, alpha=2.0 * rank, batch=batch, patience=NEVER)
    plain_mined = _plain_mining(engines["float32"], cases, mining)
    our_mined = _our_mining(engines["auto"], cases, mining)
    _report("mining", plain_mined, our_mined)
    plain_trained = _plain_training(engines["float32"], cases, lora, steps)
    our_trained = _our_training(engines["auto"], cases, lora, steps)
    _report("lora", plain_trained, our_trained)
    print(
        json.dumps(
            {
                "mining_ratio": plain_mined.seconds / our_mined.seconds,
                "lora_ratio": plain_trained.seconds / our_trained.seconds,
                "mining_seconds": [plain_mined.seconds, our_mined.seconds],
                "lora_seconds": [plain_trained.seconds, our_trained.seconds],
                "mining_losses": [plain_mined.losses, our_mined.losses],
                "lora_losses": [plain_trained.losses, our_trained.losses],
                "dtype": ours.dtype,
                "device": ours.device,
            }
        )
    )


def _load(model: str, dtype: Any) -> Any:
    from harness.engines.load import load_engine
    from harness.engines.pairs import ModelSpec

    return load_engine(ModelSpec(id=model, dtype=dtype), "G", offline=True, batch_size=1)


async def _cases(engine: Any, turns: int, reply_tokens: int) -> tuple[Any, ...]:
    """The first turns of a bundled session with the model's own replies: a warm start."""
    from harness import registry
    from harness.engines.base import Sampling
    from harness.engines.chat import encode_chat
    from harness.method import Message, assistant, chat, user
    from soma.cases import Case

    (session, *_) = registry.tasks().load("planning", "benchmark")().sessions()
    history: list[Message] = []
    cases = []
    for index, text in enumerate(session.turns[:turns], start=1):
        history.append(user(text))
        prompt = encode_chat(engine.tokenizer, chat(session.system, history))
        reply = await engine.generate(prompt, Sampling(reply_tokens, temperature=1.0, seed=index))
        history.append(assistant(reply.text))
        cases.append(Case(index, tuple(prompt), reply.output_ids))
    return tuple(cases)


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def _to_end(steps: Any) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value[0].value


def _starts(engine: Any, settings: Any) -> Any:
    from soma.soft_prompt import initial

    width = engine.model.get_input_embeddings().weight.shape[1]
    return initial(settings.candidates, settings.length, width, std=settings.init_std, seed=0)


def _plain_mining(engine: Any, cases: tuple[Any, ...], settings: Any) -> Timed:
    from benchmarks import straightforward

    plain = straightforward.MiningSettings(iterations=settings.iterations)
    pairs = [(case.prompt, case.reply) for case in cases]
    starts = _starts(engine, settings).to(engine.model.device)
    seconds, losses = _timed(lambda: straightforward.mine(engine.model, pairs, starts, plain))
    return Timed(seconds, tuple(losses))


def _our_mining(engine: Any, cases: tuple[Any, ...], settings: Any) -> Timed:
    from soma.mining import MiningProblem, mine

    problem = MiningProblem(cases, settings, 0, initial=_starts(engine, settings))
    work = mine(engine.model, engine.tokenizer, [problem])
    seconds, mined = _timed(lambda: _to_end(work))
    return Timed(seconds, mined.losses)


def _plain_training(engine: Any, cases: tuple[Any, ...], settings: Any, steps: int) -> Timed:
    import torch

    from benchmarks import straightforward
    from harness.engines.transformers.adapters import TrainableAdapter
    from soma.localization import epochs

    start = TrainableAdapter(engine.sites, rank=settings.rank, alpha=settings.alpha, seed=0)
    initial = {path: a for path, (a, _) in start.freeze().weights.items()}
    plain = straightforward.LoraSettings(rank=settings.rank, alpha=settings.alpha)
    pairs = [(case.prompt, case.reply) for case in cases]
    batches = epochs(len(cases), steps, settings.batch, 0)
    weights = [1.0] * len(cases)
    torch.manual_seed(0)
    seconds, loss = _timed(
        lambda: straightforward.train(engine.model, pairs, weights, batches, plain, initial)
    )
    return Timed(seconds, (loss,))


def _our_training(engine: Any, cases: tuple[Any, ...], settings: Any, steps: int) -> Timed:
    from soma.localization import Lesson, Training, epochs, localize

    schedule = epochs(len(cases), steps, settings.batch, 0)
    lesson = Lesson(Training(settings, 0), cases, (1.0,) * len(cases), schedule)
    work = localize(engine.model, engine.tokenizer, [lesson])
    seconds, done = _timed(lambda: _to_end(work))
    return Timed(seconds, done.losses[-1:])


def _report(what: str, plain: Timed, ours: Timed) -> None:
    ratio = plain.seconds / ours.seconds
    print(f"{what}: straightforward {plain.seconds:.1f} s, ours {ours.seconds:.1f} s, {ratio:.2f}x")
    shown = (", ".join(f"{x:.4f}" for x in losses) for losses in (plain.losses, ours.losses))
    print("  final losses: straightforward {}; ours {}".format(*shown))


if __name__ == "__main__":
    main()
