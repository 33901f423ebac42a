"""Make the embedded surrogate from F alone: `python -m harness.engines.embedded.recipe --work DIR`.

Stages: F's sampled replies to the recipe's prompts; the layers to keep; F's labels; distillation;
held-out figures. What a stage has finished stays in the work folder, so that an interrupted recipe
goes on. The result is written to `harness/engines/embedded/surrogate/`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

SURROGATE = Path(__file__).parents[1] / "surrogate"
HELD_OUT_PROMPTS = 240
VALIDATION_DIALOGUES = 48
INFLUENCE_TEXTS = 24


@click.command()
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder for data and checkpoints.")
@click.option("--out", type=click.Path(path_type=Path), default=SURROGATE, help="Where the adapter goes.")
@click.option("--dialogues", default=2016, show_default=True, help="Training dialogues to generate.")
@click.option("--keep", default=18, show_default=True, help="Layers that stay.")
@click.option("--epochs", default=4, show_default=True, help="Passes over the data.")
@click.option("--seed", default=7, show_default=True, help="Decides prompts, replies and training.")
def main(work: Path, out: Path, dialogues: int, keep: int, epochs: int, seed: int) -> None:
    """Regenerate the healing adapter of the embedded surrogate from F alone."""
    from harness.engines.embedded.recipe.distill import DistillSettings
    from harness.engines.embedded.recipe.generate import read_dialogues

    work.mkdir(parents=True, exist_ok=True)
    settings = DistillSettings(epochs=epochs, seed=seed)
    data = work / "train.jsonl"
    generate_data(data, dialogues, seed)
    records = list(read_dialogues(data))
    kept = choose_layers(work, records, keep)
    train(work, records, kept, settings)
    finish(work, out, records, kept, settings, seed)


def generate_data(path: Path, count: int, seed: int) -> None:
    """Sample F's replies to `count` dialogues of the training kinds."""
    from harness.engines.embedded.recipe.generate import write_dialogues
    from harness.engines.embedded.recipe.prompts import dialogues

    model, tokenizer = _load_f()
    wanted = dialogues(count, seed=seed, held_out=False, follow_up_share=0.3)
    tokens = write_dialogues(
        model, tokenizer, wanted, path, seed=seed, temperature=0.8, max_new_tokens=144
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

    from harness.engines.embedded.recipe.distill import distill, label
    from harness.engines.embedded.recipe.prune import select_layers
    from harness.engines.transformers import lora

    model, _ = _load_f(attention="sdpa")
    labels = label(model, records)
    valid, train_set = labels[:VALIDATION_DIALOGUES], labels[VALIDATION_DIALOGUES:]
    select_layers(model, model.model.layers, kept)
    trainable = lora.attach(model, rank=settings.rank, alpha=settings.alpha, seed=settings.seed)
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


def finish(
    work: Path,
    out: Path,
    records: list[dict[str, Any]],
    kept: list[int],
    settings: Any,
    seed: int,
) -> None:
    """Measure the surrogate on held-out kinds and write adapter, layers and card to `out`."""
    import shutil

    from harness.engines.embedded.recipe.evaluate import evaluate
    from harness.engines.embedded.recipe.prompts import dialogues

    out.mkdir(parents=True, exist_ok=True)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copyfile(work / "adapter" / name, out / name)
    (out / "surrogate.json").write_text(json.dumps({"kept_layers": kept}, indent=2) + "\n")
    g = _load_g(out)
    f, tokenizer = _load_f()
    held_out = dialogues(HELD_OUT_PROMPTS, seed=seed, held_out=True, follow_up_share=0.0)
    figures = evaluate(f, g, tokenizer, held_out, seed=seed + 1)
    card = {
        "recipe": "python -m harness.engines.embedded.recipe --work DIR",
        "seed": seed,
        "kept_layers": kept,
        "settings": asdict(settings),
        "dialogues": len(records),
        "reply_tokens": sum(e - s for r in records for s, e in r["spans"]),
        "curve": [json.loads(line) for line in (work / "curve.jsonl").open()],
        "held_out": figures.rounded(),
    }
    (out / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    click.echo(json.dumps(card["held_out"], indent=2))


def _load_f(attention: str = "grouped") -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.engines.embedded.fetch import fetch_one
    from harness.engines.transformers.attention import register

    register()
    folder = fetch_one("F")
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation=attention
    )
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def _load_g(surrogate: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    from harness.engines.embedded.fetch import fetch_one
    from harness.engines.transformers.attention import register

    folder = fetch_one("G", surrogate=surrogate)
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation=register()
    ).eval()


if __name__ == "__main__":
    main()
