"""Settings of the vLLM engine, as a pair file's `options` give them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Options(BaseModel):
    """How vLLM is started for one model.

    `max_lora_rank`: the largest rank of an adapter, rounded up to one that vLLM allows; 0 turns
    adapters off; None, 16 for G and none for F. `max_loras`: how many adapters one batch may mix
    on a GPU; on a CPU each of its requests may have its own. `max_cpu_loras`: how many stay
    loaded, at least `max_loras`. `kv_cache_gib`: memory for keys and values on a CPU.
    `gpu_memory_utilization`: the share of a card's memory that vLLM takes for weights, keys and
    values. `max_model_len`: the longest prompt and reply in tokens; None, what the model allows.
    `block_size`: tokens in a block of keys and values, of which only whole ones are used again;
    None, vLLM's own (128 on a CPU). `enforce_eager`: no compiled graphs, a faster start and slower
    steps; None, so on a CPU only. `tensor_parallel_size`: over how many cards the model is spread.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_lora_rank: int | None = Field(default=None, ge=0, le=512)
    max_loras: int = Field(default=8, ge=1, le=1024)
    max_cpu_loras: int = Field(default=64, ge=1, le=4096)
    kv_cache_gib: float = Field(default=1.0, gt=0)
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    max_model_len: int | None = Field(default=None, ge=16)
    block_size: int | None = Field(default=None, ge=8, le=256, multiple_of=8)
    enforce_eager: bool | None = None
    tensor_parallel_size: int = Field(default=1, ge=1, le=64)

    @model_validator(mode="after")
    def _room_for_a_batch(self) -> Options:
        if self.max_cpu_loras < self.max_loras:
            raise ValueError(
                f"max_cpu_loras = {self.max_cpu_loras} is less than max_loras = {self.max_loras}; "
                "a batch's adapters must all be loaded"
            )
        return self
