"""Does the context filter tell a turn's own history from another dialogue's?

MT-Bench-101's task types are context-dependent by construction. Of each dialogue the last turn is
scored with its own history, and with that of the next dialogue of the same type in a seeded ring,
cut to the same number of turns. Turn and reply are the same in both, so words that point back can
not tell them apart: only the likelihood can. The area under the ROC curve is reported with its 95 %
interval over dialogues. The last line is JSON.
"""

from __future__ import annotations

import json
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

DRAWS = 2000
PARTS = ("share", "turn", "reply")


@dataclass(frozen=True)
class Pair:
    """A dialogue's last turn under its own history (`own`) and another's (`other`).

    `score`: the filter's, the gain's `share` with the bonus for words that point back; `turn` and
    `reply`: the gain of each, in nats.
    """

    type: str
    own: dict[str, float]
    other: dict[str, float]


@click.command()
@click.option(
    "--path",
    type=click.Path(path_type=Path),
    help="The dataset's file.  [default: what `run_bench.py fetch mt_bench_101` brought]",
)
@click.option("--per-type", default=1000, show_default=True, help="Dialogues of each type.")
@click.option("--seed", default=0, show_default=True)
def main(path: Path | None, per_type: int, seed: int) -> None:
    """Measure the AUC of the context filter's score on MT-Bench-101."""
    from harness.errors import UserError

    task = _task(path)
    try:
        pairs = measure(task, per_type, seed)
    except UserError as error:
        raise click.ClickException(str(error)) from None
    threshold = _settings().threshold
    result: dict[str, Any] = {
        "settings": {"file": task.files()[0].name, "per_type": per_type, "seed": seed},
        "limits": _settings().model_dump(mode="json", exclude={"panel"}),
        "dialogues": len(pairs),
        "auc": {part: auc_with_interval(pairs, part, seed) for part in PARTS},
        "auc_by_type": {
            name: auc([p for p in pairs if p.type == name], "share")
            for name in sorted({p.type for p in pairs})
        },
        "reach_threshold": {
            "own": sum(p.own["score"] >= threshold for p in pairs) / len(pairs),
            "other": sum(p.other["score"] >= threshold for p in pairs) / len(pairs),
        },
    }
    for part in PARTS:
        found = result["auc"][part]
        print(f"{part:6s} AUC {found['auc']:.3f} [{found['low']:.3f}, {found['high']:.3f}]")
    print(json.dumps(result))


def measure(task: Any, per_type: int, seed: int) -> list[Pair]:
    """Every dialogue's pair of scores."""
    from tqdm import tqdm

    from harness.context.likelihood import LikelihoodModel

    model = LikelihoodModel(_settings())
    jobs = [
        (name, session, other)
        for name, group in _by_type(task, per_type).items()
        for session, other in _ring(group, random.Random(f"{seed}/{name}"))
    ]
    return [
        Pair(name, _score(model, session, session), _score(model, session, other))
        for name, session, other in tqdm(jobs, desc="dialogues", disable=None)
    ]


def auc(pairs: Sequence[Pair], part: str) -> float:
    """The chance that a turn scores higher with its own history than a turn with another's."""
    from scipy.stats import mannwhitneyu

    own, other = [p.own[part] for p in pairs], [p.other[part] for p in pairs]
    return float(mannwhitneyu(own, other).statistic) / (len(own) * len(other))


def auc_with_interval(pairs: Sequence[Pair], part: str, seed: int) -> dict[str, float]:
    """The AUC and the percentile interval of a bootstrap that draws dialogues."""
    import numpy as np

    draw = np.random.default_rng(seed)
    picks = draw.integers(0, len(pairs), (DRAWS, len(pairs)))
    drawn = [auc([pairs[i] for i in pick], part) for pick in picks]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"auc": auc(pairs, part), "low": float(low), "high": float(high)}


def _settings() -> Any:
    from harness.context.settings import ContextSettings

    return ContextSettings()


def _task(path: Path | None) -> Any:
    from harness import registry

    cls: Any = registry.tasks().load("mt_bench_101", "the benchmark")
    return cls(path=path)


def _by_type(task: Any, per_type: int) -> dict[str, list[Any]]:
    """Dialogues of two turns or more, by task type."""
    groups: dict[str, list[Any]] = defaultdict(list)
    for session in task.sessions():
        if len(session.turns) > 1:
            groups[session.metadata["type"]].append(session)
    return {name: group[:per_type] for name, group in groups.items()}


def _ring(group: Sequence[Any], draw: random.Random) -> list[tuple[Any, Any]]:
    """Each dialogue with the one whose history it gets; never itself."""
    order = list(group)
    draw.shuffle(order)
    return list(zip(order, order[1:] + order[:1], strict=True))


def _score(model: Any, session: Any, source: Any) -> dict[str, float]:
    """The gain of the session's last turn from the history of `source`."""
    from harness.context.cues import cues
    from harness.method import assistant, user

    before = min(len(session.turns), len(source.turns)) - 1
    history = [
        message
        for turn, reply in zip(source.turns[:before], source.references[:before], strict=True)
        for message in (user(turn), assistant(reply or ""))
    ]
    gain = model.gain(history, session.turns[-1], session.references[-1] or "")
    bonus = _settings().cue_bonus if cues(session.turns[-1], session.language) else 0.0
    return {
        "share": gain.share,
        "score": gain.share + bonus,
        "turn": gain.turn,
        "reply": gain.reply,
    }


if __name__ == "__main__":
    main()
