"""The most memory that adaptation to a long warm start adds: W turns of N tokens each.

Mines one soft prompt and trains one step per turn with the pair's G on the CPU; time is not the
point. The last line is JSON, with the process's own peak beside the growth.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


@click.command()
@click.option("--model", default="embedded:G", show_default=True, help="The model that is adapted.")
@click.option("--turns", default=12, show_default=True, help="Warm turns, W.")
@click.option("--tokens", default=1024, show_default=True, help="Tokens of each turn.")
@click.option("--reply-tokens", default=96, show_default=True, help="Of them, F's reply.")
@click.option("--candidates", default=1, show_default=True, help="M.")
@click.option("--dtype", default="auto", show_default=True, help="float32 takes twice the memory.")
def main(
    model: str, turns: int, tokens: int, reply_tokens: int, candidates: int, dtype: Any
) -> None:
    """Measure the peak of mining and training."""
    import random

    from harness.engines.load import load_engine
    from harness.engines.pairs import ModelSpec
    from harness.measure.memory import PeakWatch
    from soma.cases import Case
    from soma.localization import Lesson, LoraSettings, Training, epochs, localize
    from soma.mining import MiningProblem, MiningSettings, mine

    spec = ModelSpec(id=model, dtype=dtype, device="cpu")
    engine: Any = load_engine(spec, "G", offline=True, batch_size=1)
    rng, prompt = random.Random(0), tokens - reply_tokens
    ids = [tuple(rng.choices(range(100, 20_000), k=tokens)) for _ in range(turns)]
    cases = tuple(Case(i + 1, row[:prompt], row[prompt:]) for i, row in enumerate(ids))

    settings = MiningSettings(candidates=candidates, keep=1, iterations=1)
    with PeakWatch(cuda=False) as peak:
        for _ in mine(engine.model, engine.tokenizer, [MiningProblem(cases, settings, 0)]):
            pass
    mining = peak.bytes
    print(f"mining: {mining / 2**20:,.0f} MiB more than before it")
    lesson = Lesson(Training(LoraSettings(), 0), cases, (1.0,) * turns, epochs(turns, turns, 1, 0))
    with PeakWatch(cuda=False) as peak:
        for _ in localize(engine.model, engine.tokenizer, [lesson]):
            pass
    print(f"training: {peak.bytes / 2**20:,.0f} MiB more than before it")
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        json.dumps(
            {
                "mining_bytes": mining,
                "training_bytes": peak.bytes,
                "process_peak_bytes": whole,
                "dtype": engine.facts.dtype,
                "turns": turns,
                "tokens": tokens,
            }
        )
    )


if __name__ == "__main__":
    main()
