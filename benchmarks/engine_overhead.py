"""What the harness costs on top of vLLM: throughput of sessions served by it and of a bare loop.

Bundled sessions are served with full history, several at once, as a run serves them. Then a bare
loop over AsyncLLM.generate sends exactly the same prompt ids for exactly as many output tokens, as
many sessions at once, each session's prompts one after another; it neither streams nor makes text.
Both on one engine, in turns; the prefix cache is off. The last line is JSON: `ratio` is our tokens
per second by the bare loop's, over all rounds.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

Item = TypeVar("Item")
Made = TypeVar("Made")

TASKS = ("planning", "negotiation", "roleplay", "maths")


@dataclass(frozen=True)
class Size:
    """How much is served: `sessions` of each task, cut to `turns`, `concurrency` at once."""

    sessions: int = 4
    turns: int = 4
    tokens: int = 24
    concurrency: int = 8
    rounds: int = 3


@dataclass(frozen=True)
class Pass:
    """One pass over all sessions. `requests`: of each session, prompt ids and output tokens."""

    seconds: float
    requests: tuple[tuple[tuple[list[int], int], ...], ...]

    @property
    def output_tokens(self) -> int:
        return sum(tokens for session in self.requests for _, tokens in session)


@click.command()
@click.option("--model", default="embedded:G", show_default=True, help="The model that is served.")
@click.option("--dtype", default="auto", show_default=True)
@click.option("--sessions", default=Size.sessions, show_default=True, help="Of each bundled task.")
@click.option("--turns", default=Size.turns, show_default=True, help="Of each session.")
@click.option("--tokens", default=Size.tokens, show_default=True, help="The longest reply.")
@click.option("--concurrency", default=Size.concurrency, show_default=True)
@click.option("--rounds", default=Size.rounds, show_default=True, help="Each is a pass of both.")
def main(model: str, dtype: Any, **size: int) -> None:
    """Compare the harness with a bare loop on one vLLM engine."""
    from harness.engines.load import load_engine
    from harness.engines.pairs import ModelSpec

    sized = Size(**size)
    spec = ModelSpec(id=model, dtype=dtype, engine="vllm")
    engine = load_engine(spec, "F", offline=True, batch_size=sized.concurrency)
    try:
        result = asyncio.run(measure(engine, sized))
    finally:
        asyncio.run(engine.close())
    print(json.dumps(result))


async def measure(engine: Any, size: Size) -> dict[str, Any]:
    """Both in turns, after a pass of each that is not counted."""
    from harness.engines.load import load_encoder
    from harness.engines.pairs import load_pair

    encoder = load_encoder(load_pair("embedded").encoder, offline=True)
    ours: list[Pass] = []
    bare: list[Pass] = []
    for number in range(size.rounds + 1):
        ours.append(await serve(engine, encoder, size))
        bare.append(await engine.bare(lambda llm: replay(llm, ours[-1], size.concurrency)))
        speeds = [run.output_tokens / run.seconds for run in (ours[-1], bare[-1])]
        label = f"round {number}" if number else "warm-up"
        print(
            f"{label}: {speeds[0]:.1f} tokens/s served, {speeds[1]:.1f} tokens/s bare", flush=True
        )
    await encoder.close()
    return _result(engine, size, ours[1:], bare[1:])


async def serve(engine: Any, encoder: Any, size: Size) -> Pass:
    """The sessions as a run serves them."""
    from harness.engines.pairs import load_pair
    from harness.plan import make_plan
    from harness.serving import EngineSet
    from harness.spec import RunSpec
    from harness.unit_server import UnitServer
    from harness.window import Window

    pair = load_pair("embedded")
    spec = RunSpec.model_validate(
        {
            "profile": "engine_overhead",
            "pair": pair,
            "methods": [{"name": "original"}],
            "tasks": [
                {"name": task, "limit": size.sessions, "max_turns": size.turns} for task in TASKS
            ],
            "generation": {"max_new_tokens": size.tokens},
            "concurrency": size.concurrency,
            "batch_size": size.concurrency,
        }
    )
    plan = make_plan(spec, "engine_overhead")
    units = [unit for block in plan.blocks() for unit in block.units]
    noted = _Noted(engine)
    with tempfile.TemporaryDirectory() as folder:
        engines = EngineSet(pair, noted, noted, encoder)
        server = UnitServer(spec, engines, plan.warm_turns, Path(folder))
        window = Window.begin()
        start = time.perf_counter()
        served = await _at_once(size.concurrency, units, partial(server.serve, window=window))
        seconds = time.perf_counter() - start
    failed = [s.record["reason"] for s in served if s.record["outcome"] != "scored"]
    assert not failed, failed
    return Pass(seconds, noted.sessions())


async def replay(llm: Any, run: Pass, concurrency: int) -> Pass:
    """The same requests straight to vLLM."""
    from vllm import SamplingParams
    from vllm.inputs import tokens_input
    from vllm.sampling_params import RequestOutputKind

    async def session(number: int) -> None:
        for turn, (ids, tokens) in enumerate(run.requests[number]):
            parameters = SamplingParams(
                temperature=0.0,
                max_tokens=tokens,
                min_tokens=tokens,
                ignore_eos=True,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            name = f"bare-{number}-{turn}"
            async for output in llm.generate(tokens_input(ids), parameters, request_id=name):
                assert len(output.outputs[0].token_ids) == tokens

    start = time.perf_counter()
    await _at_once(concurrency, range(len(run.requests)), session)
    return Pass(time.perf_counter() - start, run.requests)


async def _at_once(
    concurrency: int, items: Iterable[Item], do: Callable[[Item], Awaitable[Made]]
) -> list[Made]:
    """What `do` makes of each item; begun in order, so many at a time."""
    gate = asyncio.Semaphore(concurrency)

    async def one(item: Item) -> Made:
        async with gate:
            return await do(item)

    return await asyncio.gather(*(one(item) for item in items))


class _Noted:
    """The engine, and a note of what it was asked."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._asked: dict[str, list[tuple[list[int], int]]] = {}
        self.tokenizer, self.facts = engine.tokenizer, engine.facts

    async def generate(
        self, prompt_ids: list[int], sampling: Any, adapter: Any = None, scope: Any = None
    ) -> Any:
        asked = self._asked.setdefault(scope.session, [])
        done = await self._engine.generate(prompt_ids, sampling, adapter, scope)
        asked.append((prompt_ids, len(done.output_ids)))
        return done

    async def release(self, session: str) -> None:
        await self._engine.release(session)

    async def reset(self) -> None:
        await self._engine.reset()

    async def close(self) -> None:
        """It is closed by whoever made it."""

    def sessions(self) -> tuple[tuple[tuple[list[int], int], ...], ...]:
        return tuple(tuple(requests) for requests in self._asked.values())


def _result(engine: Any, size: Size, ours: list[Pass], bare: list[Pass]) -> dict[str, Any]:
    from harness.measure.machine import machine_class, packages

    ours_s, bare_s = (sum(run.seconds for run in runs) for runs in (ours, bare))
    tokens = sum(run.output_tokens for run in ours)
    assert tokens == sum(run.output_tokens for run in bare)
    return {
        "ratio": bare_s / ours_s,
        "ours_tokens_per_second": tokens / ours_s,
        "bare_tokens_per_second": tokens / bare_s,
        "ratio_by_round": [b.seconds / o.seconds for o, b in zip(ours, bare, strict=True)],
        "output_tokens": tokens,
        "requests": sum(len(session) for run in ours for session in run.requests),
        "mean_prompt_tokens": statistics.mean(
            len(ids) for run in ours for session in run.requests for ids, _ in session
        ),
        "size": asdict(size),
        "model": engine.facts.model,
        "dtype": engine.facts.dtype,
        "machine_class": machine_class(),
        "packages": {n: v for n, v in packages().items() if "vllm" in n or n == "torch"},
    }


if __name__ == "__main__":
    main()
