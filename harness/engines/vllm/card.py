"""What a model's folder tells before any weight is read: its tokenizer, its sizes, its ends."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.engines.base import ModelFacts
from harness.engines.chat import bind_template_args
from harness.engines.load import resolve_model
from harness.engines.pairs import ModelSpec
from harness.engines.transformers.kv import kv_bytes_per_token
from harness.engines.turn_end import turn_end_ids
from harness.errors import UserError

_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class ModelCard:
    """A model to be served from `folder`. `facts.context_tokens` is what the model allows."""

    folder: Path
    tokenizer: Any
    stop_ids: frozenset[int]
    facts: ModelFacts
    kv_bytes_per_token: int


def read_card(spec: ModelSpec, device: str, dtype: torch.dtype, offline: bool) -> ModelCard:
    """The card of `spec`'s model, fetched first where it is on a hub. Raises UserError."""
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    folder = _folder(spec.id, spec.revision, offline=offline)
    words = folder
    if spec.tokenizer is not None:
        words = _folder(spec.tokenizer, "main", offline=offline)
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **local)
        tokenizer: Any = AutoTokenizer.from_pretrained(words, **local)
        generation = None
        if (folder / "generation_config.json").is_file():
            generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or ["unknown reason"])[0]
        raise UserError(spec.id, f"cannot be loaded: {reason}") from error
    bind_template_args(tokenizer, spec.chat_template_args)
    text = config.get_text_config()
    kv = kv_bytes_per_token(config, dtype)
    parameters, weights_bytes = _sizes(folder, config, dtype)
    facts = ModelFacts(
        model=spec.id,
        device=device,
        dtype=str(dtype).removeprefix("torch."),
        parameters=parameters,
        weights_bytes=weights_bytes,
        kv_bytes_per_token=kv,
        context_tokens=getattr(text, "max_position_embeddings", None),
    )
    return ModelCard(folder, tokenizer, turn_end_ids(config, generation, tokenizer), facts, kv)


def _folder(model_id: str, revision: str, *, offline: bool) -> Path:
    """The model's folder on this machine. vLLM itself is never let to a hub."""
    source = resolve_model(model_id, offline, revision)
    if isinstance(source, Path):
        return source
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    wanted = ["*.safetensors", "*.json", "*.jinja", "*.txt", "tokenizer*", "*.model"]
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = (str(error).splitlines() or ["unknown reason"])[0]
        raise UserError(model_id, f"cannot be fetched from the hub: {reason}") from error


def _sizes(folder: Path, config: Any, dtype: torch.dtype) -> tuple[int | None, int]:
    """Parameters, and their bytes in `dtype`; of quantized weights only the bytes, as stored."""
    from safetensors import safe_open

    text = config.get_text_config()
    tied = bool(getattr(text, "tie_word_embeddings", False))
    parameters = stored_bytes = 0
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no mapping
                if tied and name.endswith("lm_head.weight"):
                    continue  # the input embeddings once more
                part = tensors.get_slice(name)
                count = math.prod(part.get_shape())
                parameters += count
                stored_bytes += count * _bits(part.get_dtype()) // 8
    if getattr(config, "quantization_config", None) is not None:
        return None, stored_bytes
    return parameters, parameters * dtype.itemsize


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the model; a folder may hold the same weights in another layout too."""
    index = folder / _INDEX
    if index.is_file():
        names = json.loads(index.read_text("utf-8"))["weight_map"].values()
        files = [folder / name for name in sorted(set(names))]
    else:
        files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.safetensors"))
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        what = missing[0] if missing else folder / "model.safetensors"
        raise UserError(what, "is missing; weights are read from safetensors files only")
    return files


def _bits(name: str) -> int:
    """Bits of one number, by the name that safetensors gives its type (e.g. BF16, F8_E4M3)."""
    kind, _, _ = name.partition("_")
    digits = "".join(c for c in kind if c.isdigit())
    return int(digits) if digits else 8
