"""Which number format a model runs in on this device."""

from __future__ import annotations

from pathlib import Path

import torch

_BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The torch dtype for `name`; "auto": bfloat16 where the device has it, else float32."""
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    native = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_bf16()
    return torch.bfloat16 if native else torch.float32


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 natively (AVX512-BF16, AMX, or Arm BF16).

    Without that, torch emulates it, slower than float32. Asked of torch where it can tell, else
    of /proc/cpuinfo; False where neither answers.
    """
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None and any(capabilities().get(flag) for flag in _BF16_FLAGS):
        return True
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return False
    flags = {
        flag
        for line in cpuinfo.read_text("utf-8", errors="replace").splitlines()
        if line.startswith(("flags", "Features"))
        for flag in line.partition(":")[2].split()
    }
    return not flags.isdisjoint(_BF16_FLAGS)
