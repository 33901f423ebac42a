"""Starting vLLM for one model, with its own folder for logs and adapters."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch

from harness.engines.pairs import ModelSpec
from harness.engines.transformers.precision import choose_dtype
from harness.engines.vllm.adapters import AdapterShelf
from harness.engines.vllm.base_slot import take_last_slot
from harness.engines.vllm.card import ModelCard, read_card
from harness.engines.vllm.engine import VllmEngine
from harness.engines.vllm.kv_meter import KvMeter
from harness.engines.vllm.log import EngineLog
from harness.engines.vllm.loop import LoopThread
from harness.engines.vllm.options import Options
from harness.engines.vllm.processes import Processes
from harness.engines.vllm.start import (
    adapter_rank,
    allowed_rank,
    check_sizes,
    engine_arguments,
    find_device,
    start,
)
from harness.session import Role


def load(
    spec: ModelSpec, role: Role, *, offline: bool, batch_size: int, prefix_cache: bool = False
) -> VllmEngine:
    """Start vLLM for `spec`; takes half a minute or more, and blocks.

    No code from the hub runs, no pickled weights are read. Without `prefix_cache` vLLM's is off.
    Its processes begin as copies of the program that runs, which must therefore guard what it
    does with `if __name__ == "__main__"`. Raises UserError when vLLM or the model cannot be had,
    when an option cannot be met, and when vLLM does not start, with its reason.
    """
    options = Options(**spec.options)
    home = Path(tempfile.mkdtemp(prefix="soma-bench-vllm-"))
    log = EngineLog(home)
    try:
        device = find_device(spec, role, log)
        card = read_card(spec, device, choose_dtype(spec.dtype, torch.device(device)), offline)
        return _started(
            card, options, role, home, log, batch_size=batch_size, prefix_cache=prefix_cache
        )
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise


def _started(
    card: ModelCard,
    options: Options,
    role: Role,
    home: Path,
    log: EngineLog,
    *,
    batch_size: int,
    prefix_cache: bool,
) -> VllmEngine:
    """vLLM running, as an engine.

    Apart from `load`, whose frame stays alive with all it holds once it has imported vLLM.
    """
    context = check_sizes(card, options, role)
    rank = allowed_rank(adapter_rank(options, role))
    arguments = engine_arguments(
        card, options, context=context, rank=rank, batch_size=batch_size, cached=prefix_cache
    )
    meter = KvMeter(card.kv_bytes_per_token)
    loop = LoopThread(f"vllm-{role}")
    processes = Processes()
    try:
        with processes.collect():
            llm = start(arguments, card.facts.model, loop, log, meter)
    except BaseException:
        with processes.ending():
            loop.close()
        raise
    shelf = AdapterShelf(
        llm, home / "adapters", place=f"{role}.options.max_lora_rank", max_rank=rank
    )
    engine = VllmEngine(
        llm,
        card,
        role=role,
        loop=loop,
        processes=processes,
        log=log,
        meter=meter,
        shelf=shelf,
        home=home,
        caches=prefix_cache,
        context=context,
    )
    try:
        if rank and card.facts.device == "cpu":
            slots = arguments["max_loras"]
            loop.call(take_last_slot(llm, card.folder, home / "nothing", slots))
    except BaseException:
        engine.stop()
        raise
    return engine
