"""Running out of memory: how it shows, and how to give memory back."""

from __future__ import annotations

import gc

import torch


def is_out_of_memory(error: BaseException) -> bool:
    # The CPU allocator has no exception type of its own.
    on_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return on_cpu or isinstance(error, torch.OutOfMemoryError | MemoryError)


def free_unused() -> None:
    """Return what nothing refers to any more to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
