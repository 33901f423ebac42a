"""Starting vLLM: its settings, its environment, and what to say when it does not start."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_args

from harness.engines.pairs import ModelSpec
from harness.engines.vllm.card import ModelCard
from harness.engines.vllm.kv_meter import KvMeter
from harness.engines.vllm.log import EngineLog
from harness.engines.vllm.loop import LoopThread
from harness.engines.vllm.options import Options
from harness.errors import UserError
from harness.session import Role

GIB = 2**30

ENVIRONMENT = (
    # Forked, a process that has computed anything may hang in its copies of our threads' locks.
    ("VLLM_WORKER_MULTIPROC_METHOD", "spawn"),
    ("VLLM_NO_USAGE_STATS", "1"),
    ("HF_HUB_OFFLINE", "1"),
    ("TRANSFORMERS_OFFLINE", "1"),
    # On a CPU it would override the pair's own setting.
    ("VLLM_CPU_KVCACHE_SPACE", None),
)


def find_device(spec: ModelSpec, role: Role, log: EngineLog) -> str:
    """ "cpu" or "cuda", as the installed vLLM was built. Imports it.

    Raises UserError where it is not installed, or not for the device that `spec` asks for.
    """
    place = f"{role}.engine = 'vllm'"
    if importlib.util.find_spec("vllm") is None:
        problem = (
            "vLLM is not installed; with a GPU `pip install '.[vllm]'`, "
            "on a CPU `make setup-vllm` and .venv-vllm/bin/python"
        )
        raise UserError(place, problem)
    try:
        with environment(log.environment()), log.capture(), _no_warnings():
            from vllm.platforms import current_platform
            from vllm.v1.engine.async_llm import AsyncLLM  # noqa: F401 - whatever it needs
    except ImportError as error:
        reason = log.cause(error)
        raise UserError(place, f"vLLM is installed but cannot be imported: {reason}") from error
    device = str(current_platform.device_type)
    if device not in ("cpu", "cuda"):
        raise UserError(place, "vLLM finds no device; a build for GPUs needs a visible one")
    if spec.device not in ("auto", device):
        asked = f"{role}.device = {spec.device!r}"
        raise UserError(asked, f"this vLLM serves on {device!r}; use 'auto' or {device!r}")
    return device


def adapter_rank(options: Options, role: Role) -> int:
    """The largest rank that is wanted, not rounded yet; 0, no adapters."""
    if options.max_lora_rank is None:
        return 16 if role == "G" else 0
    return options.max_lora_rank


def check_sizes(card: ModelCard, options: Options, role: Role) -> int:
    """The longest prompt and reply, in tokens. Raises UserError for what cannot fit."""
    allowed = card.facts.context_tokens
    wanted = options.max_model_len or allowed
    if wanted is None:
        place = f"{role}.options.max_model_len"
        raise UserError(place, f"{card.facts.model} tells no limit of its own; give one")
    if allowed is not None and wanted > allowed:
        place = f"{role}.options.max_model_len = {wanted}"
        raise UserError(place, f"{card.facts.model} allows {allowed}")
    needed = wanted * card.kv_bytes_per_token / GIB
    if card.facts.device == "cpu" and needed > options.kv_cache_gib:
        raise UserError(
            f"{role}.options.kv_cache_gib = {options.kv_cache_gib:g}",
            f"one request of max_model_len = {wanted} tokens takes {needed:.2g} GiB; give more, "
            "or a smaller max_model_len",
        )
    return wanted


def engine_arguments(
    card: ModelCard, options: Options, *, context: int, rank: int, batch_size: int, cached: bool
) -> dict[str, Any]:
    """What vLLM's AsyncEngineArgs is made of. `rank`: one that vLLM allows; 0, no adapters."""
    on_cpu = card.facts.device == "cpu"
    eager = on_cpu if options.enforce_eager is None else options.enforce_eager
    arguments: dict[str, Any] = {
        "model": str(card.folder),
        "dtype": card.facts.dtype,
        "load_format": "safetensors",
        "trust_remote_code": False,
        # Ids go in and ids come out: chat templates and text are made on our side, for all engines.
        "skip_tokenizer_init": True,
        "max_model_len": context,
        "max_num_seqs": batch_size,
        "block_size": options.block_size,
        "enable_prefix_caching": cached,
        "enforce_eager": eager,
        "tensor_parallel_size": options.tensor_parallel_size,
        "generation_config": "vllm",
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if on_cpu:
        arguments["kv_cache_memory_bytes"] = int(options.kv_cache_gib * GIB)
    else:
        arguments["gpu_memory_utilization"] = options.gpu_memory_utilization
    if rank:
        arguments |= {
            "enable_lora": True,
            "max_lora_rank": rank,
            "max_loras": batch_size + 1 if on_cpu else min(options.max_loras, batch_size),
        }
        # Those in slots are loaded, and so is the one that on a CPU has a slot for good.
        arguments["max_cpu_loras"] = max(options.max_cpu_loras + on_cpu, arguments["max_loras"])
    return arguments


def allowed_rank(wanted: int) -> int:
    """The smallest rank that vLLM allows and that is not below `wanted`; 0 for 0."""
    from vllm.config.lora import MaxLoRARanks

    ranks: tuple[int, ...] = get_args(MaxLoRARanks)
    return min(rank for rank in (0, *ranks) if rank >= wanted)


def start(
    arguments: Mapping[str, Any], model: str, loop: LoopThread, log: EngineLog, meter: KvMeter
) -> Any:
    """A running AsyncLLM that lives in `loop`. Raises UserError with the reason if it fails."""
    try:
        with environment({**dict(ENVIRONMENT), **log.environment()}), log.capture():
            return loop.call(_make(arguments, meter))
    except Exception as error:
        # Whatever went wrong, in any of vLLM's processes, it means that this model is not served.
        raise UserError(model, f"vLLM does not start: {log.cause(error)}{log.kept()}") from error


async def _make(arguments: Mapping[str, Any], meter: KvMeter) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments), stat_loggers=[meter.attach])


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Within it, nothing below an error is logged: vLLM logs before it knows where to."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Within it, variables are set, or unset where None; afterwards all are as they were.

    vLLM, too, sets some in this process while it starts.
    """
    before = dict(os.environ)
    try:
        for name, value in changes.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
