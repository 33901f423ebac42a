"""On a CPU, a slot for the requests that use no adapter.

vLLM marks their tokens with slot -1. Its GPU kernels skip those; its CPU code takes -1 for the last
slot, and adds what lies there to every such token that shares a batch with an adapter's
(vllm-project/vllm, pull request 48421; so in 0.32.0). So the last slot is taken, for good, by an
adapter that adds nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.engines.transformers.adapters import INPUTS, write_peft
from harness.engines.vllm.card import weight_files
from harness.errors import UserError

FIRST_NUMBER = 2**30
"""Numbers of these adapters begin here, far from those of sessions."""


async def take_last_slot(llm: Any, model: Path, folder: Path, slots: int) -> None:
    """Fill all `slots` of a fresh engine in order, pin the last, and free the others.

    `model`: the folder of its weights, `folder`: where the adapter is written. Raises UserError
    for a model without any projection that adapters act on.
    """
    from vllm.lora.request import LoRARequest

    _write_nothing(model, folder)
    numbers = [FIRST_NUMBER + slot for slot in range(slots)]
    for number in numbers:
        await llm.add_lora(LoRARequest(f"nothing-{number}", number, str(folder)))
    await llm.pin_lora(numbers[-1])
    for number in numbers[:-1]:
        await llm.remove_lora(number)


def _write_nothing(model: Path, folder: Path) -> None:
    """An adapter whose one matrix B is zero; vLLM takes none without any."""
    import torch
    from safetensors import safe_open

    names = tuple(f".{name}.weight" for group in INPUTS for name in group)
    for file in weight_files(model):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no mapping
                if not name.endswith(names):
                    continue
                outputs, inputs = tensors.get_slice(name).get_shape()
                path = "base_model.model." + name.removesuffix(".weight")
                parts = {
                    f"{path}.lora_A.weight": torch.zeros(1, inputs),
                    f"{path}.lora_B.weight": torch.zeros(outputs, 1),
                }
                write_peft(folder, parts, rank=1, alpha=1.0, targets={name.split(".")[-2]})
                return
    raise UserError(model, "has no projection that adapters act on; set options.max_lora_rank = 0")
