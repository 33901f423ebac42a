"""Mining and LoRA training, the straightforward way and ours, in one process on the same inputs.

Prints both times, their ratio and the losses side by side; the last line is JSON. Where either way
arrived is judged alike, in float32 and without dropout, beside where both started. The model is
the embedded pair's F (SmolLM2-135M) unless another is named, in the role of G.
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
    """Seconds, and the losses before and after."""

    seconds: float
    start: tuple[float, ...]
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
        length=length, candidates=candidates, keep=candidates, iterations=iterations, patience=NEVER
    )
    lora = LoraSettings(rank=rank, alpha=2.0 * rank, batch=batch, patience=NEVER)
    mined = _mine_both(engines, cases, mining)
    _report("mining", *mined)
    trained = _train_both(engines, cases, lora, steps)
    _report("lora", *trained)
    result = {**_result("mining", *mined), **_result("lora", *trained)}
    print(json.dumps({**result, "dtype": ours.dtype, "device": ours.device}))


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


def _mine_both(engines: Any, cases: tuple[Any, ...], settings: Any) -> tuple[Timed, Timed]:
    """Mining from the same start; J in float32."""
    import torch

    from benchmarks import straightforward
    from soma.mining import MiningProblem, mine
    from soma.soft_prompt import initial, squash

    exact, fast = engines["float32"], engines["auto"]
    plain = straightforward.MiningSettings(iterations=settings.iterations)
    pairs = [(case.prompt, case.reply) for case in cases]
    width = exact.model.get_input_embeddings().weight.shape[1]
    start = initial(settings.candidates, settings.length, width, std=settings.init_std, seed=0)
    start = start.to(exact.model.device)

    def losses(prompts: Any) -> tuple[float, ...]:
        return tuple(straightforward.mining_losses(exact.model, pairs, prompts, plain))

    seconds, prompts = _timed(lambda: straightforward.mine(exact.model, pairs, start, plain))
    before = losses(squash(start, settings.scale))
    theirs = Timed(seconds, before, losses(prompts))
    work = mine(fast.model, fast.tokenizer, [MiningProblem(cases, settings, 0, initial=start)])
    seconds, mined = _timed(lambda: _to_end(work))
    by_candidate = mined.prompts[torch.tensor(mined.kept).argsort()]
    return theirs, Timed(seconds, before, losses(by_candidate))


def _train_both(
    engines: Any, cases: tuple[Any, ...], settings: Any, steps: int
) -> tuple[Timed, Timed]:
    """LoRA from the same start on the same batches; NLL of each reply in float32."""
    import torch

    from benchmarks import straightforward
    from harness.engines.transformers.adapters import TrainableAdapter
    from soma.likelihood import Judged, judge
    from soma.localization import Lesson, Training, epochs, localize

    exact, fast = engines["float32"], engines["auto"]
    schedule = epochs(len(cases), steps, settings.batch, 0)
    start = TrainableAdapter(exact.sites, rank=settings.rank, alpha=settings.alpha, seed=0).freeze()
    plain = straightforward.LoraSettings(rank=settings.rank, alpha=settings.alpha)
    pairs = [(case.prompt, case.reply) for case in cases]
    weights = [1.0] * len(cases)

    def losses(adapter: Any) -> tuple[float, ...]:
        return tuple(_to_end(judge(exact.model, exact.tokenizer, [Judged(cases, adapter)])))

    before = losses(None)
    torch.manual_seed(0)
    first = {path: a for path, (a, _) in start.weights.items()}
    seconds, plain_losses = _timed(
        lambda: straightforward.train(exact.model, pairs, weights, schedule, plain, first)
    )
    theirs = Timed(seconds, before, tuple(plain_losses))
    lesson = Lesson(Training(settings, 0), cases, tuple(weights), schedule)
    seconds, done = _timed(lambda: _to_end(localize(fast.model, fast.tokenizer, [lesson])))
    return theirs, Timed(seconds, before, losses(done.adapter))


def _report(what: str, plain: Timed, ours: Timed) -> None:
    ratio = plain.seconds / ours.seconds
    print(f"{what}: straightforward {plain.seconds:.1f} s, ours {ours.seconds:.1f} s, {ratio:.2f}x")
    shown = (", ".join(f"{x:.4f}" for x in way) for way in (plain.start, plain.losses, ours.losses))
    print("  losses: at the start {}; straightforward {}; ours {}".format(*shown))


def _result(what: str, plain: Timed, ours: Timed) -> dict[str, Any]:
    """Straightforward first, ours second."""
    return {
        f"{what}_ratio": plain.seconds / ours.seconds,
        f"{what}_seconds": [plain.seconds, ours.seconds],
        f"{what}_start": plain.start,
        f"{what}_losses": [plain.losses, ours.losses],
    }


if __name__ == "__main__":
    main()
