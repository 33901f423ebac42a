"""Make the embedded surrogate from F alone: `python -m harness.engines.embedded.recipe --work DIR`.

Stages: F's sampled replies to the recipe's prompts; the layers to keep; F's labels; distillation;
unlearning of loops; held-out figures. What a stage has finished stays in the work folder, so that
an interrupted recipe goes on. The result is written to `harness/engines/embedded/surrogate/`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

SURROGATE = Path(__file__).parents[1] / "surrogate"
VALIDATION_DIALOGUES = 48
INFLUENCE_TEXTS = 24


@dataclass(frozen=True)
class Recipe:
    """What decides the adapter. `dialogues` to generate, `reply_tokens` at most per reply."""

    dialogues: int
    reply_tokens: int
    keep: int
    epochs: int
    loop_steps: int
    held_out: int
    seed: int


@click.command()
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for data and checkpoints.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=SURROGATE, help="Where the adapter goes."
)
@click.option("--dialogues", default=2016, show_default=True, help="Training dialogues.")
@click.option("--reply-tokens", default=144, show_default=True, help="Longest reply of F.")
@click.option("--keep", default=18, show_default=True, help="Layers that stay.")
@click.option("--epochs", default=2, show_default=True, help="Passes over the data.")
@click.option("--loop-steps", default=30, show_default=True, help="Steps per round against loops.")
@click.option("--held-out", default=240, show_default=True, help="Prompts of the held-out kinds.")
@click.option("--seed", default=7, show_default=True, help="Decides prompts, replies, training.")
def main(work: Path, out: Path, **settings: int) -> None:
    """Regenerate the healing adapter of the embedded surrogate from F alone."""
    from harness.engines.embedded.recipe.distill import DistillSettings
    from harness.engines.embedded.recipe.generate import read_dialogues

    recipe = Recipe(**settings)
    work.mkdir(parents=True, exist_ok=True)
    generate_data(work / "train.jsonl", recipe)
    records = list(read_dialogues(work / "train.jsonl"))
    kept = choose_layers(work, records, recipe.keep)
    training = DistillSettings(epochs=recipe.epochs, seed=recipe.seed)
    if not is_trained(work):
        train(work, records, kept, training)
    if not (work / "settled.json").exists():
        unlearn_loops(work, records, kept, training, recipe.loop_steps)
    finish(work, out, records, kept, training, recipe)


def generate_data(path: Path, recipe: Recipe) -> None:
    """Sample F's replies to dialogues of the training kinds."""
    from harness.engines.embedded.recipe.generate import write_dialogues
    from harness.engines.embedded.recipe.prompts import dialogues

    model, tokenizer = _load_f()
    wanted = dialogues(recipe.dialogues, seed=recipe.seed, held_out=False, follow_up_share=0.3)
    tokens = write_dialogues(
        model,
        tokenizer,
        wanted,
        path,
        seed=recipe.seed,
        temperature=0.8,
        max_new_tokens=recipe.reply_tokens,
    )
    click.echo(f"{len(wanted)} dialogues, {tokens} reply tokens")


def choose_layers(work: Path, records: list[dict[str, Any]], keep: int) -> list[int]:
    """Block influence on a few of F's own dialogues; kept in `layers.json`."""
    from harness.engines.embedded.recipe.prune import layers_to_keep

    path = work / "layers.json"
    if not path.exists():
        model, _ = _load_f()
        kept = layers_to_keep(model, [r["ids"] for r in records[:INFLUENCE_TEXTS]], keep)
        path.write_text(json.dumps(kept))
    layers: list[int] = json.loads(path.read_text())
    click.echo(f"layers kept: {layers}")
    return layers


def train(work: Path, records: list[dict[str, Any]], kept: list[int], settings: Any) -> None:
    """Distill; the adapter and its curve go to the work folder."""
    import torch

    from harness.engines.embedded.recipe.distill import distill, read_labels, write_labels
    from harness.engines.transformers import lora

    path = work / "labels.safetensors"
    if not path.exists():
        write_labels(_load_f()[0], records, path)
    valid, train_set = split(read_labels(records, path))
    model, trainable = _load_adapted(kept, settings)
    log = work / "curve.jsonl"
    log.unlink(missing_ok=True)

    def checkpoint() -> None:
        lora.save(
            model,
            work / "adapter",
            rank=settings.rank,
            alpha=settings.alpha,
            dtype=torch.float16,
        )

    distill(model, trainable, train_set, valid, settings, log, checkpoint)


def split(labels: list[Any]) -> tuple[list[Any], list[Any]]:
    """Validation and training labels."""
    validation = min(VALIDATION_DIALOGUES, len(labels) // 3)
    return labels[:validation], labels[validation:]


def unlearn_loops(
    work: Path, records: list[dict[str, Any]], kept: list[int], settings: Any, steps: int
) -> None:
    """Unlikelihood on G's own greedy loops; the adapter goes to `settled/`, its log beside it."""
    import torch

    from harness.engines.embedded.recipe.distill import read_labels
    from harness.engines.embedded.recipe.settle import SettleSettings, settle
    from harness.engines.transformers import lora

    model, trainable = _load_adapted(kept, settings)
    lora.load(model, work / "adapter")
    prompts = [r["ids"][: r["spans"][0][0]] for r in records]
    _, labels = split(read_labels(records, work / "labels.safetensors"))
    history = settle(
        model, trainable, prompts, labels, SettleSettings(seed=settings.seed, steps=steps)
    )
    lora.save(
        model, work / "settled", rank=settings.rank, alpha=settings.alpha, dtype=torch.float16
    )
    (work / "settled.json").write_text(json.dumps(history))


def is_trained(work: Path) -> bool:
    """Whether the curve in the work folder reaches its last step."""
    log = work / "curve.jsonl"
    if not log.exists():
        return False
    last = json.loads(log.read_text("utf-8").splitlines()[-1])
    return bool(last["step"] == last["steps"])


def finish(
    work: Path,
    out: Path,
    records: list[dict[str, Any]],
    kept: list[int],
    settings: Any,
    recipe: Recipe,
) -> None:
    """Measure the surrogate on held-out kinds and write adapter, layers and card to `out`."""
    import shutil

    from harness.engines.embedded.recipe.evaluate import evaluate
    from harness.engines.embedded.recipe.prompts import dialogues

    out.mkdir(parents=True, exist_ok=True)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copyfile(work / "settled" / name, out / name)
    (out / "surrogate.json").write_text(json.dumps({"kept_layers": kept}, indent=2) + "\n")
    g = _load_g(out, work / "G")
    f, tokenizer = _load_f()
    held_out = dialogues(recipe.held_out, seed=recipe.seed, held_out=True, follow_up_share=0.0)
    figures = evaluate(f, g, tokenizer, held_out, seed=recipe.seed + 1)
    card = {
        "command": "python -m harness.engines.embedded.recipe --work DIR",
        "recipe": asdict(recipe),
        "kept_layers": kept,
        "training": asdict(settings),
        "dialogues": len(records),
        "reply_tokens": sum(e - s for r in records for s, e in r["spans"]),
        "curve": [json.loads(line) for line in (work / "curve.jsonl").open()],
        "loops": json.loads((work / "settled.json").read_text("utf-8")),
        "held_out": figures.rounded(),
    }
    (out / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    click.echo(json.dumps(card["held_out"], indent=2))


def _load_adapted(kept: list[int], settings: Any) -> tuple[Any, list[Any]]:
    """F pruned to `kept` with a fresh LoRA on it, and the LoRA's parameters."""
    from harness.engines.embedded.recipe.prune import select_layers
    from harness.engines.transformers import lora

    model, _ = _load_f()
    types = getattr(model.config, "layer_types", None)
    select_layers(model, model.model.layers, kept, types)
    return model, lora.attach(model, rank=settings.rank, alpha=settings.alpha, seed=settings.seed)


def _load_f() -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.engines.embedded.fetch import fetch_one
    from harness.engines.transformers.attention import register

    folder = fetch_one("F")
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation=register()
    )
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def _load_g(surrogate: Path, folder: Path) -> Any:
    """G of the adapter in `surrogate`, built in `folder`: the user's cache keeps its own G."""
    import shutil

    import torch
    from transformers import AutoModelForCausalLM

    from harness.engines.embedded.build import build_surrogate
    from harness.engines.embedded.fetch import fetch_one
    from harness.engines.transformers.attention import register

    shutil.rmtree(folder, ignore_errors=True)
    build_surrogate(fetch_one("F"), surrogate, folder)
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation=register()
    ).eval()


if __name__ == "__main__":
    main()
