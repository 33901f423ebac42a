"""Loading a causal language model and its tokenizer onto the device it will run on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from harness.engines.chat import bind_template_args
from harness.engines.compute import keep_freed_memory
from harness.engines.hub import is_offline, quiet
from harness.engines.load import resolve_model
from harness.engines.pairs import ModelSpec
from harness.engines.transformers.attention import register
from harness.engines.transformers.engine import TransformersEngine
from harness.engines.transformers.options import Options
from harness.engines.transformers.precision import choose_dtype
from harness.errors import UserError
from harness.session import Role


def load(
    spec: ModelSpec, role: Role, *, offline: bool, batch_size: int, prefix_cache: bool = False
) -> TransformersEngine:
    """Load `spec` and start its thread. No code from the hub runs, no pickled weights are read.

    `prefix_cache` changes nothing here: what is kept is decided request by request.

    Raises UserError when the model cannot be had, or asks for a GPU that is not there.
    """
    device = _device(spec, role)
    if device.type == "cpu":
        keep_freed_memory()
    source = resolve_model(spec.id, offline, spec.revision)
    try:
        with quiet():
            model, tokenizer = load_model(source, spec, device, offline=offline)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or ["unknown reason"])[0]
        raise UserError(spec.id, f"cannot be loaded: {reason}") from error
    bind_template_args(tokenizer, spec.chat_template_args)
    options = Options(**spec.options)
    return TransformersEngine(
        model,
        tokenizer,
        model_id=spec.id,
        role=role,
        batch_size=batch_size,
        prefix_cache_bytes=int(options.prefix_cache_gib * 2**30),
    )


def load_model(
    source: Path | str, spec: ModelSpec, device: torch.device, *, offline: bool
) -> tuple[Any, Any]:
    """The model, in evaluation mode and without gradients, and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {
        "local_files_only": isinstance(source, Path) or is_offline(offline),
        "trust_remote_code": False,
    }
    if isinstance(source, str):
        where["revision"] = spec.revision
    # A model too large for one card is spread over all of them.
    several = device.type == "cuda" and torch.cuda.device_count() > 1
    model: Any = AutoModelForCausalLM.from_pretrained(
        source,
        dtype=choose_dtype(spec.dtype, device),
        attn_implementation="sdpa" if device.type == "cuda" else register(),
        use_safetensors=True,
        device_map="auto" if several else None,
        **where,
    )
    if not several:
        model = model.to(device)
    model.get_output_embeddings().register_forward_pre_hook(_contiguous)
    return model.eval().requires_grad_(False), AutoTokenizer.from_pretrained(source, **where)


def _contiguous(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    """For a slice of the hidden states, torch would copy the whole output matrix at every use.

    It goes by strides, which `contiguous()` leaves alone where a dimension has size one.
    """
    return (inputs[0].clone(memory_format=torch.contiguous_format),)


def _device(spec: ModelSpec, role: Role) -> torch.device:
    if spec.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if spec.device == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{role}.device = 'cuda'", "no GPU is visible; use 'auto' or 'cpu'")
    return torch.device(spec.device)
