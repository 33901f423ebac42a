"""Memory in separate columns: weights, key-value cache, process and device peaks."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from harness.method import Completion
from harness.record import MemoryRecord


@dataclass
class MemoryMeter:
    """Peaks of one session. `weights` maps a role to its model's bytes, for every loaded model."""

    weights: dict[str, int | None]
    _called: set[str] = field(default_factory=set)
    _kv_formula: int | None = None
    _kv_measured: int | None = None
    _rss: int = 0
    _cuda: int | None = None

    def completed(self, completion: Completion) -> None:
        self._called.add(completion.role)
        self._kv_formula = _larger(self._kv_formula, completion.kv_bytes_formula)
        self._kv_measured = _larger(self._kv_measured, completion.kv_bytes_measured)
        self.sample()

    def embedded(self) -> None:
        self._called.add("encoder")
        self.sample()

    def sample(self) -> None:
        """Look at the process and the device now."""
        import psutil

        self._rss = max(self._rss, psutil.Process().memory_info().rss)
        # A model on CUDA has imported torch; where nothing has, there is nothing to ask.
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
            self._cuda = _larger(self._cuda, torch.cuda.max_memory_allocated())

    def record(self) -> MemoryRecord:
        return MemoryRecord(
            weights={role: self.weights.get(role) for role in sorted(self._called)},
            adapters=None,
            kv_formula=self._kv_formula,
            kv_measured=self._kv_measured,
            adaptation_peak=None,
            rss=self._rss,
            cuda_peak=self._cuda,
        )


def reset_device_peaks() -> None:
    """Start the device's peak counters anew; only meaningful while one session is served."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def _larger(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return max(a, b)
