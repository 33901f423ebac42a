"""How much of vLLM's pool of keys and values is in use. The pool itself is no use of memory."""

from __future__ import annotations

from typing import Any


class KvMeter:
    """A stat logger of vLLM's: after each step of the engine, the memory of the blocks in use.

    A block that only the prefix cache still knows is not in use. vLLM counts blocks over all
    requests, so `share` is those in use divided by the requests that run: exact for a request
    that runs alone.
    """

    def __init__(self, bytes_per_token: int) -> None:
        self._bytes_per_token = bytes_per_token
        self._config: Any = None
        self._usable_blocks = 0
        self._block_bytes: int | None = None
        self.share: int | None = None

    def attach(self, vllm_config: Any, engine_index: int = 0) -> KvMeter:
        """What vLLM calls to make its logger."""
        self._config = vllm_config.cache_config
        return self

    def log_engine_initialized(self) -> None:
        """Read the pool's size, which is known now.

        Where layers differ (sliding windows, recurrent states) a block does not stand for the
        keys and values of so many tokens, and nothing is measured.
        """
        blocks, size = self._config.num_gpu_blocks, self._config.block_size
        if blocks and size and self._config.kv_cache_size_tokens == blocks * size:
            self._usable_blocks = blocks - 1  # one stands for "no block"
            self._block_bytes = size * self._bytes_per_token

    def record(self, scheduler_stats: Any, *_: Any, **__: Any) -> None:
        """Take the figures of one step."""
        if scheduler_stats is None or self._block_bytes is None:
            return
        running = scheduler_stats.num_running_reqs
        used = round(scheduler_stats.kv_cache_usage * self._usable_blocks)
        self.share = used * self._block_bytes // running if running else None

    def log(self) -> None:
        """Nothing is written."""

    def record_sleep_state(self, *_: Any) -> None:
        """The engine is never put to sleep."""
