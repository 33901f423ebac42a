"""Does adaptation help on turns that it has not seen?

In replay: F's greedy replies make the history of a session. G is adapted to the first W turns by
SOMA (mined weights), History-FT (no weights) and Random-FT (random draws), each with the same
steps, and the mean token NLL of F's replies at the turns after W is taken under each, and under G
unadapted, from the compressed prefix that G would be served with. Reported with the paired
95 % interval over sessions. The last line is JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

UNADAPTED, SOMA, HISTORY, RANDOM = "unadapted", "soma", "history_ft", "random_ft"
METHODS = (UNADAPTED, SOMA, HISTORY, RANDOM)


@dataclass
class Measured:
    """NLL in nats by method and place of every later turn."""

    values: dict[str, dict[Any, float]] = field(default_factory=lambda: {m: {} for m in METHODS})

    def compare(self, method: str, other: str) -> dict[str, Any]:
        """Mean of method minus other over later turns, with its interval over sessions."""
        from harness.stats import paired_difference

        return dict(paired_difference(self.values[method], self.values[other]))


@click.command()
@click.option("--pair", default="embedded", show_default=True, help="The pair of models.")
@click.option("--tasks", default="planning,negotiation,roleplay,maths", show_default=True)
@click.option("--sessions", default=12, show_default=True, help="In all, spread over the tasks.")
@click.option("--warm-turns", default=3, show_default=True, help="W.")
@click.option("--max-turns", default=8, show_default=True, help="Turns of each session.")
@click.option("--reply-tokens", default=48, show_default=True, help="Longest reply of F.")
@click.option("--iterations", default=6, show_default=True, help="Of mining.")
@click.option("--candidates", default=2, show_default=True, help="M.")
@click.option("--length", default=8, show_default=True, help="L.")
@click.option("--steps", default=24, show_default=True, help="Optimizer steps of each LoRA.")
@click.option("--rate", default=2e-4, show_default=True, help="Its learning rate.")
@click.option("--only", default=",".join(METHODS), show_default=True, help="Methods.")
@click.option("--seed", default=0, show_default=True)
def main(**options: Any) -> None:
    """Measure NLL of F's later replies under G, adapted and not."""
    measured = asyncio.run(measure(**options))
    methods = [m for m in METHODS if measured.values[m]]
    result: dict[str, Any] = {"settings": options, "nll": {}, "differences": {}}
    for method in methods:
        from harness.stats import cluster_mean

        estimate = cluster_mean(measured.values[method])
        result["nll"][method] = dict(estimate)
        print(f"{method:12s} NLL {_shown(estimate)} over {estimate['n']} later turns")
    for method, other in _comparisons(methods):
        difference = measured.compare(method, other)
        result["differences"][f"{method} - {other}"] = difference
        print(f"{method} - {other}: {_shown(difference)}")
    print(json.dumps(result))


async def measure(
    *,
    pair: str,
    tasks: str,
    sessions: int,
    warm_turns: int,
    max_turns: int,
    reply_tokens: int,
    iterations: int,
    candidates: int,
    length: int,
    steps: int,
    rate: float,
    only: str,
    seed: int,
) -> Measured:
    """Replay the sessions and take the NLL of their later turns."""
    from tqdm import tqdm

    from soma.localization import LoraSettings
    from soma.mining import MiningSettings

    engines = _load(pair)
    lora = LoraSettings(learning_rate=rate)
    mining = MiningSettings(
        length=length, candidates=candidates, keep=candidates, iterations=iterations
    )
    measured = Measured()
    try:
        chosen = _sessions(tasks.split(","), sessions, max_turns)
        replays = await _replays(engines, chosen, reply_tokens)
        for number, (session, turns) in enumerate(tqdm(replays, desc="sessions", disable=None)):
            cases = await _cases(engines, session, turns, warm_turns)
            study = _Study(engines, cases, lora, mining, steps, seed + number)
            for method in only.split(","):
                values = await study.later(method)
                measured.values[method].update(zip(cases.keys, values, strict=True))
    finally:
        await engines.close()
    return measured


@dataclass(frozen=True)
class Cases:
    """Of one session: what is mined on, trained on, and judged; `keys` of the judged turns."""

    mining: tuple[Any, ...]
    training: tuple[Any, ...]
    later: tuple[Any, ...]
    keys: tuple[Any, ...]


@dataclass(frozen=True)
class _Study:
    """One session under every method."""

    engines: Any
    cases: Cases
    lora: Any
    mining: Any
    steps: int
    seed: int

    async def later(self, method: str) -> list[float]:
        """NLL of the later replies under G as `method` adapts it."""
        from soma.likelihood import Judged, judge

        adapter = await self._adapter(method)
        payload = Judged(self.cases.later, adapter)
        done = await self.engines.works("G").do(judge, payload, "judge")
        values: list[float] = done.worked.value
        return values

    async def _adapter(self, method: str) -> Any:
        from soma.fine_tuning import tokens_of, within
        from soma.hardness import hardness, turn_weights
        from soma.localization import Lesson, Training, draws, epochs, localize
        from soma.mining import MiningProblem, mine

        if method == UNADAPTED:
            return None
        cases, queue = self.cases.training, self.engines.works("G")
        schedule = epochs(len(cases), self.steps, self.lora.batch, self.seed)
        weights: Sequence[float] = [1.0] * len(cases)
        if method == RANDOM:
            drawn = draws(len(cases), self.steps, self.lora.batch, self.seed)
            schedule = within(drawn, cases, tokens_of(schedule, cases))
        elif method == SOMA:
            problem = MiningProblem(self.cases.mining, self.mining, self.seed)
            mined = (await queue.do(mine, problem, "mine")).worked.value
            weights = turn_weights(hardness(mined, "paper"))
        lesson = Lesson(Training(self.lora, self.seed), cases, tuple(weights), schedule)
        return (await queue.do(localize, lesson, "train")).worked.value.adapter


def _load(pair_name: str) -> Any:
    from harness.engines.load import load_encoder, load_engine
    from harness.engines.pairs import load_pair
    from harness.serving import EngineSet

    pair = load_pair(pair_name)
    return EngineSet(
        pair,
        load_engine(pair.F, "F", offline=False, batch_size=16),
        load_engine(pair.G, "G", offline=False, batch_size=16),
        load_encoder(pair.encoder, offline=False),
    )


def _sessions(tasks: Sequence[str], count: int, max_turns: int) -> list[Any]:
    """The first sessions of each task in turn, cut to `max_turns`."""
    from dataclasses import replace

    from harness import registry

    lists = [list(registry.tasks().load(task, "--tasks")().sessions()) for task in tasks]
    mixed = [group[i] for i in range(max(map(len, lists))) for group in lists if i < len(group)]
    return [
        replace(s, turns=s.turns[:max_turns], references=None, reference_kind=None, gold=None)
        for s in mixed[:count]
    ]


async def _replays(engines: Any, sessions: Sequence[Any], reply_tokens: int) -> list[Any]:
    """Each session with F's greedy replies, one by one.

    Served together, requests share batches by when they arrive: rounding, and with it a reply,
    would depend on the moment.
    """
    from harness.engines.base import Sampling
    from harness.engines.chat import encode_chat
    from harness.method import chat, user
    from soma.prefix import Turn

    async def play(session: Any) -> tuple[Any, list[Any]]:
        turns: list[Any] = []
        for text in session.turns:
            history = [message for turn in turns for message in turn.messages]
            prompt = encode_chat(engines.F.tokenizer, chat(session.system, [*history, user(text)]))
            reply = await engines.F.generate(prompt, Sampling(reply_tokens))
            turns.append(Turn(text, reply.text, reply.stop_reason == "end_of_turn"))
        return session, turns

    return [await play(session) for session in sessions]


async def _cases(engines: Any, session: Any, turns: Sequence[Any], warm: int) -> Cases:
    from harness.serving import SessionEngines
    from harness.spec import GenerationSpec
    from harness.stats import Key
    from harness.store import UnitKey
    from harness.workspace import Workspace
    from soma.cases import Limits
    from soma.prefix import PrefixSettings
    from soma.warm_start import Dialogue

    key = UnitKey("later_turns", session.task, session.id, 0)
    with Workspace(None, key) as workspace:
        own = SessionEngines(engines, GenerationSpec(), 0, warm, workspace)
        dialogue = Dialogue(session.system, PrefixSettings(), own)
        dialogue.turns = list(turns)
        limits, places = Limits(), range(len(turns))
        whole = [dialogue.mining_case(place, limits) for place in places[:warm]]
        short = [await dialogue.training_case(place, limits) for place in places]
    learned = [(m, t) for m, t in zip(whole, short[:warm], strict=True) if m and t]
    later = tuple(case for case in short[warm:] if case is not None)
    return Cases(
        mining=tuple(m for m, _ in learned),
        training=tuple(t for _, t in learned),
        later=later,
        keys=tuple(Key(session.task, session.id, 0, case.turn_index) for case in later),
    )


def _comparisons(methods: Sequence[str]) -> list[tuple[str, str]]:
    adapted = [m for m in methods if m != UNADAPTED]
    pairs = [(m, UNADAPTED) for m in adapted if UNADAPTED in methods]
    return pairs + [(SOMA, m) for m in adapted if m != SOMA and SOMA in methods]


def _shown(estimate: Any) -> str:
    interval = (
        "" if estimate["low"] is None else f" [{estimate['low']:.4f}, {estimate['high']:.4f}]"
    )
    return f"{estimate['mean']:.4f}{interval}"


if __name__ == "__main__":
    main()
