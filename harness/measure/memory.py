"""Memory in separate columns: weights, key-value cache, process and device peaks."""

from __future__ import annotations

import ctypes
import sys
import threading
from dataclasses import dataclass, field
from types import TracebackType

from harness.method import Adapter, Completion
from harness.record import MemoryRecord


@dataclass
class MemoryMeter:
    """Peaks of one session. `weights` maps a role to its model's bytes, for every loaded model."""

    weights: dict[str, int | None]
    _called: set[str] = field(default_factory=set)
    _kv_formula: int | None = None
    _kv_measured: int | None = None
    _kept_now: dict[str, int] = field(default_factory=dict)
    _kv_kept: int | None = None
    _rss: int = 0
    _adapters: int | None = None
    _adaptation_peak: int | None = None
    _cuda: int | None = None

    def completed(self, completion: Completion) -> None:
        self._called.add(completion.role)
        self._kv_formula = _larger(self._kv_formula, completion.kv_bytes_formula)
        self._kv_measured = _larger(self._kv_measured, completion.kv_bytes_measured)
        if completion.kv_bytes_kept is not None:
            self._kept_now[completion.role] = completion.kv_bytes_kept
            self._kv_kept = _larger(self._kv_kept, sum(self._kept_now.values()))
        self.sample()

    def embedded(self) -> None:
        self._called.add("encoder")
        self.sample()

    def adapted(self, adapter: Adapter) -> None:
        """A call used `adapter`; a session holds one at a time."""
        self._adapters = _larger(self._adapters, adapter.nbytes)

    def worked(self, role: str, peak_bytes: int) -> None:
        """Work on a model's weights added `peak_bytes` to what was there before."""
        self._called.add(role)
        self._adaptation_peak = _larger(self._adaptation_peak, peak_bytes)
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
            adapters=self._adapters,
            kv_formula=self._kv_formula,
            kv_measured=self._kv_measured,
            kv_kept=self._kv_kept,
            adaptation_peak=self._adaptation_peak,
            rss=self._rss,
            cuda_peak=self._cuda,
        )


class PeakWatch:
    """While open, watches how far memory grows: the device's, or the process's resident memory.

    `bytes` is the growth over the level at the start. Resident memory is looked at every few
    milliseconds, and what the process has freed is given back first: reused, it would not show.
    """

    _EVERY_S = 0.005

    def __init__(self, cuda: bool) -> None:
        self._cuda = cuda
        self._stop = threading.Event()

    def __enter__(self) -> PeakWatch:
        if not self._cuda:
            _give_back_freed()
        self._start = self._peak = self._level()
        self._thread = threading.Thread(target=self._watch, name="memory-peak", daemon=True)
        if self._cuda:
            sys.modules["torch"].cuda.reset_peak_memory_stats()
        else:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if not self._cuda:
            self._thread.join()

    @property
    def bytes(self) -> int:
        if self._cuda:
            self._peak = int(sys.modules["torch"].cuda.max_memory_allocated())
        return max(0, self._peak - self._start)

    def _level(self) -> int:
        if self._cuda:
            return int(sys.modules["torch"].cuda.memory_allocated())
        import psutil

        return int(psutil.Process().memory_info().rss)

    def _watch(self) -> None:
        while not self._stop.wait(self._EVERY_S):
            self._peak = max(self._peak, self._level())


def _give_back_freed() -> None:
    """Let the C library return freed memory to the system, where it can (glibc)."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(0)


def reset_device_peaks() -> None:
    """Start the device's peak counters anew; only meaningful while one session is served."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def _larger(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return max(a, b)
