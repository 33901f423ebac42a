"""Pair files: those that ship, and the mistakes a user can make in one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.engines.pairs import load_pair, pair_names, pair_summaries, training_copy
from harness.errors import UserError

GOOD = """
summary = "mine"
[F]
id = "org/large"
[G]
id = "org/small"
[encoder]
id = "org/encoder"
"""


def test_shipped_pairs_load():
    assert pair_names() == [
        *("embedded", "llama", "llama-server", "qwen2.5", "qwen3", "qwen3-vllm", "smollm2")
    ]
    for name in pair_names():
        pair = load_pair(name)
        assert pair.name == name
        assert pair.summary
    assert [s["name"] for s in pair_summaries()] == pair_names()
    assert all(s["summary"] for s in pair_summaries())


def test_what_the_shipped_pairs_say():
    qwen = load_pair("qwen3")
    assert (qwen.F.id, qwen.G.id) == ("Qwen/Qwen3-8B", "Qwen/Qwen3-0.6B")
    assert qwen.F.chat_template_args == qwen.G.chat_template_args == {"enable_thinking": False}
    assert qwen.prices is None
    embedded = load_pair("embedded")
    assert embedded.prices is not None
    assert embedded.prices.usd_per_hour == 0.1008
    assert embedded.prices.F is None


def test_a_users_file(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace("org/small", "./small"), "utf-8")
    pair = load_pair(str(path))
    assert pair.name == "mine"
    assert pair.F.id == "org/large"
    assert pair.G.id == str((tmp_path / "small").resolve())


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('summary = "mine"', 'sumary = "mine"', "unknown key 'sumary'; did you mean 'summary'?"),
        ('id = "org/small"', 'id = "org/small"\ndtpye = "auto"', "'G.dtpye'; did you mean 'dtype'"),
        ('id = "org/small"', 'idd = "org/small"', "unknown key 'G.idd'; did you mean 'id'?"),
        ('[G]\nid = "org/small"', "", "key 'G' is missing"),
        ('id = "org/small"', "id = 7", "G.id = 7: input should be a valid string"),
        ('id = "org/small"', 'id = ""', "G.id = '': string should have at least 1 character"),
        (
            'id = "org/small"',
            'id = "a/b"\ndtype = "fp8"',
            "G.dtype = 'fp8': input should be 'auto'",
        ),
        (
            'id = "org/small"',
            'id = "a/b"\nengine = "transformer"',
            "G.engine = 'transformer': unknown engine; did you mean 'transformers'?",
        ),
        ('id = "org/small"', 'id = "a/b"\nchat_template_args = 1', "G.chat_template_args = 1"),
        (
            'id = "org/small"',
            'id = "a/b"\noptions = { prefix_cache_gb = 1 }',
            "options of transformers: unknown key 'prefix_cache_gb'; did you mean 'prefix_cache_gi",
        ),
        (
            'id = "org/small"',
            'id = "a/b"\nengine = "vllm"\noptions = { max_loras = 0 }',
            "options of vllm: max_loras = 0: input should be greater than or equal to 1",
        ),
        (
            'id = "org/small"',
            'id = "a"\nengine = "openai"',
            "options of openai: key 'base_url' is missing",
        ),
        (
            'id = "org/small"',
            'id = "a"\nengine = "openai"\noptions = { base_url = "http://me:secret@host/v1" }',
            "holds a user or password; give the key by api_key_env",
        ),
        (
            'id = "org/small"',
            'id = "a"\nengine = "openai"\noptions = { base_url = "host:8000" }',
            "is no plain http(s) address, e.g. http://127.0.0.1:8000/v1",
        ),
        (
            'id = "org/small"',
            'id = "a"\ntraining = { dtyp = "auto" }',
            "unknown key 'G.training.dtyp'; did you mean 'dtype'?",
        ),
        ('summary = "mine"', 'summary = "mine"\nG = "org/small"', "is not valid TOML"),
        ('summary = "mine"', "encoder = 3", "is not valid TOML"),
        ('summary = "mine"', "prices = 3", "prices = 3: input should be a valid dictionary"),
        ('summary = "mine"', 'name = "mine"', "unknown key 'name'; a pair is named after its file"),
        (
            'id = "org/encoder"',
            'id = "org/encoder"\n[prices]\nsource = "x"',
            "key 'prices.date' is missing",
        ),
        (
            'id = "org/encoder"',
            'id = "org/encoder"\n[prices]\ndate = 2026-01-01\nsource = "x"\nF = { inputs = 1 }',
            "unknown key 'prices.F.inputs'; did you mean 'input'?",
        ),
        (
            'id = "org/encoder"',
            'id = "org/encoder"\n[prices]\ndate = 2026-01-01\nsource = "x"\nusd_per_hour = -1',
            "prices.usd_per_hour = -1: input should be greater than or equal to 0",
        ),
    ],
)
def test_mistakes_are_named_on_one_line(tmp_path: Path, old: str, new: str, expected: str):
    path = tmp_path / "mine.toml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new), "utf-8")
    with pytest.raises(UserError) as caught:
        load_pair(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert expected in message
    assert "\n" not in message


def test_every_folder_of_a_file_is_taken_from_where_it_lies(tmp_path: Path):
    path = tmp_path / "mine.toml"
    served = 'id = "served"\nengine = "openai"\noptions = { base_url = "http://h/v1" }'
    served += '\ntokenizer = "./tokens"\ntraining = { id = "./weights" }'
    path.write_text(GOOD.replace('id = "org/small"', served), "utf-8")
    spec = load_pair(str(path)).G
    assert spec.id == "served"
    assert spec.tokenizer == str(tmp_path / "tokens")
    copy = training_copy(spec)
    assert copy is not None
    assert (copy.id, copy.engine) == (str(tmp_path / "weights"), "transformers")


def test_a_password_in_an_address_is_not_printed(tmp_path: Path):
    path = tmp_path / "mine.toml"
    served = 'id = "a"\nengine = "openai"\noptions = { base_url = "http://me:hunter2@host/v1" }'
    path.write_text(GOOD.replace('id = "org/small"', served), "utf-8")
    with pytest.raises(UserError) as caught:
        load_pair(str(path))
    assert "hunter2" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(UserError, match="did you mean 'embedded'"):
        load_pair("embeded")
    with pytest.raises(UserError, match="cannot be read"):
        load_pair(str(tmp_path / "none.toml"))
    latin = tmp_path / "latin.toml"
    latin.write_bytes('summary = "é"'.encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8 at byte 11"):
        load_pair(str(latin))


def test_declarations_import_nothing_heavy():
    code = (
        "import sys; from harness.engines.pairs import pair_summaries, load_pair; "
        "import harness.engines.load; pair_summaries(); load_pair('embedded'); "
        "print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
