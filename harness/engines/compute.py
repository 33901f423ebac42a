"""The thread that computes on the CPU: one for all models of a process.

Every thread that calls torch gets a pool of OpenMP threads of its own. With more of them than
cores, waiting threads go to sleep instead of spinning, and each of the hundreds of small operations
of a decoding step pays for waking them: on two cores a step took 1.4 times as long once a second
model and the encoder had run on threads of their own.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache


@cache
def cpu_thread() -> ThreadPoolExecutor:
    """The executor whose single thread runs all CPU models; lives as long as the process."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="cpu-models")
