"""Settings of the vLLM engine, as a pair file's `options` give them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Options(BaseModel):
    """How vLLM is started for one model.

    `max_lora_rank`: the largest rank of an adapter, rounded up to one that vLLM allows; 0 turns
    adapters off. `max_loras`: how many adapters one batch may mix. `max_cpu_loras`: how many stay
    loaded, at least `max_loras`. `kv_cache_gib`: memory for keys and values on a CPU.
    `gpu_memory_utilization`: the share of a card's memory that vLLM takes for weights, keys and
    values. `max_model_len`: the longest prompt and reply in tokens; None, what the model allows.
    `enforce_eager`: no compiled graphs, a faster start and slower steps; None, so on a CPU only.
    `tensor_parallel_size`: over how many cards the model is spread.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_lora_rank: int = Field(default=16, ge=0, le=512)
    max_loras: int = Field(default=8, ge=1, le=1024)
    max_cpu_loras: int = Field(default=64, ge=1, le=4096)
    kv_cache_gib: float = Field(default=1.0, gt=0)
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    max_model_len: int | None = Field(default=None, ge=16)
    enforce_eager: bool | None = None
    tensor_parallel_size: int = Field(default=1, ge=1, le=64)
