"""What vLLM is started with, decided without it: sizes, settings, what is refused."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from harness.engines.load import load_engine
from harness.engines.pairs import ModelSpec
from harness.engines.vllm.card import ModelCard, read_card, weight_files
from harness.engines.vllm.options import Options
from harness.engines.vllm.start import (
    adapter_rank,
    check_sizes,
    engine_arguments,
    environment,
)
from harness.errors import UserError


@pytest.fixture(scope="module")
def card(original: Path) -> ModelCard:
    return read_card(ModelSpec(id=str(original)), "cpu", torch.float32, True)


def test_the_card_counts_what_transformers_counts(card: ModelCard, engine: Any) -> None:
    theirs = engine.facts
    assert (card.facts.parameters, card.facts.weights_bytes) == (
        theirs.parameters,
        theirs.weights_bytes,
    )
    assert card.kv_bytes_per_token == card.facts.kv_bytes_per_token == theirs.kv_bytes_per_token
    assert card.facts.context_tokens == theirs.context_tokens
    assert card.stop_ids == engine.stop_ids


def test_the_weights_bytes_are_those_of_the_dtype_that_runs(original: Path) -> None:
    half = read_card(ModelSpec(id=str(original)), "cpu", torch.bfloat16, True)
    assert half.facts.parameters is not None
    assert half.facts.weights_bytes == 2 * half.facts.parameters


def test_template_arguments_go_with_the_tokenizer(original: Path) -> None:
    from harness.engines.chat import template_args

    spec = ModelSpec(id=str(original), chat_template_args={"enable_thinking": False})
    tokenizer = read_card(spec, "cpu", torch.float32, True).tokenizer
    assert template_args(tokenizer) == {"enable_thinking": False}


def test_a_tied_output_matrix_counts_once(original: Path, tmp_path: Path, card: ModelCard) -> None:
    from safetensors.torch import load_file, save_file

    _copy_without_weights(original, tmp_path)
    tensors = load_file(original / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    again = read_card(ModelSpec(id=str(tmp_path)), "cpu", torch.float32, True)
    assert again.facts.parameters == card.facts.parameters


def test_quantized_weights_count_as_they_are_stored(original: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    _copy_without_weights(original, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    parts = {"a": torch.zeros(3, 4, dtype=torch.int32), "b": torch.zeros(5, dtype=torch.float16)}
    save_file(parts, tmp_path / "model.safetensors")
    facts = read_card(ModelSpec(id=str(tmp_path)), "cpu", torch.bfloat16, True).facts
    assert (facts.parameters, facts.weights_bytes) == (None, 3 * 4 * 4 + 5 * 2)


def test_only_the_files_of_the_index_are_weights(tmp_path: Path) -> None:
    names = ("model-1.safetensors", "model-2.safetensors", "consolidated.safetensors")
    for name in names:
        (tmp_path / name).touch()
    index = {"weight_map": {"a": names[0], "b": names[1], "c": names[0]}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    assert [p.name for p in weight_files(tmp_path)] == list(names[:2])
    (tmp_path / names[1]).unlink()
    with pytest.raises(UserError, match=r"model-2\.safetensors: is missing"):
        weight_files(tmp_path)


def test_pickled_weights_are_no_weights(original: Path, tmp_path: Path) -> None:
    _copy_without_weights(original, tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(UserError, match="safetensors files only"):
        read_card(ModelSpec(id=str(tmp_path)), "cpu", torch.float32, True)


def _copy_without_weights(model: Path, to: Path) -> None:
    for file in model.iterdir():
        if file.suffix == ".json":
            (to / file.name).write_bytes(file.read_bytes())


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_user_is_told_what_to_install() -> None:
    spec = ModelSpec(id="embedded:G", engine="vllm")
    with pytest.raises(UserError) as raised:
        load_engine(spec, "G", offline=True, batch_size=1)
    assert raised.value.place == "G.engine = 'vllm'"
    assert "pip install '.[vllm]'" in raised.value.problem
    assert "make setup-vllm" in raised.value.problem


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"max_loras": 8, "max_cpu_loras": 4}, "max_cpu_loras = 4 is less than max_loras = 8"),
        ({"max_lora_ranks": 8}, "max_lora_rank"),
        ({"block_size": 20}, "multiple of 8"),
        ({"gpu_memory_utilization": 1.5}, "less than or equal to 1"),
    ],
)
def test_an_option_that_cannot_be_is_named(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        ModelSpec(id="embedded:G", engine="vllm", options=options)


def test_adapters_are_for_g_unless_they_are_asked_for() -> None:
    assert [adapter_rank(Options(), role) for role in ("F", "G")] == [0, 16]
    assert [adapter_rank(Options(max_lora_rank=32), role) for role in ("F", "G")] == [32, 32]
    assert adapter_rank(Options(max_lora_rank=0), "G") == 0


@pytest.mark.parametrize(
    ("options", "place", "problem"),
    [
        ({"max_model_len": 8193}, "G.options.max_model_len = 8193", "allows 8192"),
        ({"kv_cache_gib": 0.25}, "G.options.kv_cache_gib = 0.25", "8192 tokens takes 0.35 GiB"),
    ],
)
def test_what_cannot_fit_is_the_user_s_to_mend(
    card: ModelCard, options: dict[str, Any], place: str, problem: str
) -> None:
    with pytest.raises(UserError, match=problem) as raised:
        check_sizes(card, Options(**options), "G")
    assert raised.value.place == place


def test_the_longest_request_is_the_option_s_or_the_model_s(card: ModelCard) -> None:
    assert check_sizes(card, Options(), "G") == 8192
    assert check_sizes(card, Options(max_model_len=512, kv_cache_gib=0.1), "G") == 512
    boundless = replace(card, facts=replace(card.facts, context_tokens=None))
    assert check_sizes(boundless, Options(max_model_len=512), "G") == 512
    with pytest.raises(UserError, match="tells no limit of its own"):
        check_sizes(boundless, Options(), "G")


def arguments(card: ModelCard, device: str, rank: int, **options: Any) -> dict[str, Any]:
    on = replace(card, facts=replace(card.facts, device=device))
    return engine_arguments(
        on, Options(**options), context=512, rank=rank, batch_size=4, cached=False
    )


def test_what_vllm_is_started_with_on_a_cpu(card: ModelCard) -> None:
    found = arguments(card, "cpu", 16, kv_cache_gib=0.5, block_size=32)
    assert found["model"] == str(card.folder)
    assert (found["dtype"], found["load_format"]) == ("float32", "safetensors")
    assert (found["max_num_seqs"], found["max_model_len"], found["block_size"]) == (4, 512, 32)
    assert found["trust_remote_code"] is found["enable_prefix_caching"] is False
    assert found["enforce_eager"] is True
    assert found["kv_cache_memory_bytes"] == 2**29
    assert "gpu_memory_utilization" not in found
    # One slot for each request of a batch, and the one that is never free.
    assert (found["max_loras"], found["max_lora_rank"]) == (5, 16)
    assert found["max_cpu_loras"] == 65


def test_what_vllm_is_started_with_on_a_gpu(card: ModelCard) -> None:
    found = arguments(card, "cuda", 16, gpu_memory_utilization=0.4, max_loras=2, max_cpu_loras=3)
    assert (found["gpu_memory_utilization"], found["enforce_eager"]) == (0.4, False)
    assert "kv_cache_memory_bytes" not in found
    assert (found["max_loras"], found["max_cpu_loras"]) == (2, 3)
    assert arguments(card, "cuda", 16, enforce_eager=True)["enforce_eager"] is True
    assert "enable_lora" not in arguments(card, "cuda", 0)


def test_the_environment_is_as_it_was_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "7")
    before = dict(os.environ)
    with environment({"VLLM_CPU_KVCACHE_SPACE": None, "NEW_ONE": "1"}):
        assert "VLLM_CPU_KVCACHE_SPACE" not in os.environ
        assert os.environ["NEW_ONE"] == "1"
        os.environ["SET_BY_VLLM"] = "1"
    assert dict(os.environ) == before
