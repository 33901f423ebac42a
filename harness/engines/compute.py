"""The thread that computes on the CPU: one for all models of a process.

Every thread that calls torch gets a pool of OpenMP threads of its own. With more of them than
cores, waiting threads go to sleep instead of spinning, and each of the hundreds of small operations
of a decoding step pays for waking them: on two cores a step took 1.4 times as long once a second
model and the encoder had run on threads of their own.
"""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from functools import cache


@cache
def cpu_thread() -> ThreadPoolExecutor:
    """The executor whose single thread runs all CPU models; lives as long as the process."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="cpu-models")


@cache
def keep_freed_memory() -> bool:
    """Let the C library reuse large blocks instead of returning each to the system at once.

    The system clears every fresh page, which logits and their gradients, made anew at each step,
    would otherwise pay for each time. Returns whether it could be set (glibc only); acts once per
    process.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    arenas = mallopt(_ARENAS, 1)
    trim = mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    large = mallopt(_MMAP_THRESHOLD, 32 << 20)
    return bool(arenas and trim and large)


_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENAS = -1, -3, -8
"""Names of glibc's malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD (32 MiB at most), M_ARENA_MAX."""
