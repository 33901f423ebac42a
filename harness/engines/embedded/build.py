"""Building the embedded models: F from its quantized file, G from F and the healing adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.errors import UserError

ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
CARD = "surrogate.json"
_PREFIX = "base_model.model."


def build_original(gguf: Path, out: Path) -> None:
    """Dequantize F and save it in float32 with its tokenizer. About 16 s on two cores.

    Q4_1 weights are a half-precision scale times an integer plus a half-precision offset: float32
    holds them, bfloat16 would round them.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.engines.hub import quiet

    with quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(
            gguf.parent, gguf_file=gguf.name, local_files_only=True
        )
        # What was loaded is an ordinary model now; saved as a quantized one it would not load.
        model.hf_quantizer = None
        model.is_quantized = False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)


def build_surrogate(original: Path, surrogate: Path, out: Path) -> None:
    """Prune F to the layers that the card in `surrogate` names, merge its LoRA, save as G.

    Saved in float32 like F, so that merging rounds nothing; a run in bfloat16 rounds once, on
    loading. Raises UserError when card or adapter do not fit F.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.engines.embedded.recipe.prune import select_layers
    from harness.engines.hub import quiet

    with quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(
            original, dtype=torch.float32, local_files_only=True
        )
        kept = read_kept_layers(surrogate / CARD, model.config.num_hidden_layers)
        select_layers(model, model.model.layers, kept, getattr(model.config, "layer_types", None))
        merge_lora(model, surrogate)
        model.save_pretrained(out)
        AutoTokenizer.from_pretrained(original, local_files_only=True).save_pretrained(out)


def read_kept_layers(card: Path, layers: int) -> list[int]:
    """`kept_layers` of the card: ascending indices below `layers`. Raises UserError."""
    try:
        kept: Any = json.loads(card.read_text("utf-8"))["kept_layers"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(card, f"cannot be read as the surrogate's card: {error!r}") from error
    whole = isinstance(kept, list) and all(type(k) is int for k in kept)
    if not whole or not kept or kept != sorted(set(kept)) or not 0 <= kept[0] <= kept[-1] < layers:
        problem = f"kept_layers must be ascending indices from 0 to {layers - 1}, not {kept!r}"
        raise UserError(card, problem)
    return list(kept)


def merge_lora(model: Any, surrogate: Path) -> None:
    """Add the adapter's updates to `model` in place: W += (alpha / r) B A, in float32.

    Equals PEFT's `merge_and_unload`, but refuses what PEFT only warns of: an adapter that does
    not fit this model. Raises UserError.
    """
    import torch
    from safetensors.torch import load_file

    path = surrogate / ADAPTER
    config = json.loads((surrogate / ADAPTER_CONFIG).read_text("utf-8"))
    scale = config["lora_alpha"] / config["r"]
    tensors = load_file(path)
    modules = dict(model.named_modules())
    names = {key.removeprefix(_PREFIX).rsplit(".lora_", 1)[0] for key in tensors}
    for name in sorted(names):
        a = tensors.pop(f"{_PREFIX}{name}.lora_A.weight", None)
        b = tensors.pop(f"{_PREFIX}{name}.lora_B.weight", None)
        weight = getattr(modules.get(name), "weight", None)
        if a is None or b is None or weight is None:
            raise UserError(path, f"adapts {name!r}, which it or the pruned model has not")
        if (b.shape[0], a.shape[1]) != tuple(weight.shape) or b.shape[1] != a.shape[0]:
            problem = f"{name}: B {tuple(b.shape)} A {tuple(a.shape)} against {tuple(weight.shape)}"
            raise UserError(path, problem)
        with torch.no_grad():
            weight += scale * (b.float() @ a.float())
    if tensors:
        raise UserError(path, f"holds tensors that are no LoRA: {', '.join(sorted(tensors)[:3])}")
