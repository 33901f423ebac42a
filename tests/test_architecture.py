"""The sources keep the rules of `source_rules.py`, and the rules find what they should find.

Every rule is run over the source tree, and on small wrong and right snippets: a rule that finds
nothing in the tree is known to work.
"""

from __future__ import annotations

import pytest

from tests.source_rules import (
    REGISTRY,
    ROOT,
    known_names,
    modules,
    mutable_globals,
    one_way_imports,
    reaching,
    registered_names,
    replacing_text,
    snippet,
    source_paths,
    unsafe,
)

MAX_LINES = 400


@pytest.mark.parametrize(
    "rule", [one_way_imports, reaching, unsafe, mutable_globals, replacing_text]
)
def test_sources_keep(rule):
    assert [breach for module in modules() for breach in rule(module)] == []


def test_harness_names_no_method_and_no_dataset():
    names = registered_names()
    assert {"soma", "truncation"} <= names
    assert [breach for module in modules() for breach in known_names(module, names)] == []


def test_modules_are_short():
    paths = [*source_paths(), *(ROOT / "tests").rglob("*.py")]
    lengths = {p.relative_to(ROOT): len(p.read_text("utf-8").splitlines()) for p in paths}
    assert {p.parts[0] for p in lengths} >= {"harness", "baselines", "tests"}
    assert {str(p): n for p, n in lengths.items() if n > MAX_LINES} == {}


# The rules on small sources.


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (replacing_text, "harness/a.py", "c = Console(stderr=True)"),
        (replacing_text, "harness/a.py", "c = rich.console.Console(emoji=True)"),
        (one_way_imports, "harness/a.py", "import baselines"),
        (one_way_imports, "harness/a.py", "from tasks.maths import Maths"),
        (one_way_imports, "harness/a.py", "def f():\n    import soma.gate"),
        (one_way_imports, "harness/a.py", "import run_bench"),
        (one_way_imports, "harness/a/b.py", "from ...soma import gate"),
        (one_way_imports, "soma/a.py", "from baselines import truncation"),
        (one_way_imports, "baselines/a.py", "import soma"),
        (one_way_imports, "tasks/a.py", "from baselines.original import Original"),
        (one_way_imports, "run_bench.py", "import tasks"),
        (one_way_imports, "tasks/a.py", "import tests.helpers"),
        (reaching, "harness/a.py", "importlib.import_module('baselines.x')"),
        (reaching, "harness/a.py", "importlib.import_module('harnessed.x')"),
        (reaching, "harness/a.py", "importlib.import_module(name)"),
        (reaching, "harness/a.py", "import_module(f'{package}.x')"),
        (reaching, "harness/a.py", "T = {'a': 'harness.a', 'b': 'soma.b'}\nimport_module(T[k])"),
        (reaching, "harness/a.py", "__import__('harness.x')"),
        (reaching, "harness/a.py", "importlib.metadata.entry_points(group='g')"),
        (reaching, "harness/a.py", "importlib.util.spec_from_file_location('a', p)"),
        (unsafe, "soma/a.py", "import pickle"),
        (unsafe, "soma/a.py", "from torch import load"),
        (unsafe, "soma/a.py", "torch.load(path, weights_only=True)"),
        (unsafe, "tasks/a.py", "yaml.load(text)"),
        (unsafe, "tasks/a.py", "eval(answer)"),
        (unsafe, "tasks/a.py", "subprocess.run(c, shell=True)"),
        (unsafe, "tasks/a.py", "AutoModel.from_pretrained(d, trust_remote_code=True)"),
        (unsafe, "tasks/a.py", "f(d, trust_remote_code=flag)"),
        (unsafe, "tasks/a.py", "ARGS = {'trust_remote_code': True}"),
        (mutable_globals, "harness/a.py", "CACHE = {}"),
        (mutable_globals, "harness/a.py", "NAMES: list[str] = ['a']"),
        (mutable_globals, "harness/a.py", "if True:\n    SEEN = set()"),
        (mutable_globals, "harness/a.py", "try:\n    X = 1\nexcept E:\n    X = []"),
        (mutable_globals, "harness/a.py", "X = collections.defaultdict(list)"),
        (mutable_globals, "harness/a.py", "X = ('a', [])"),
        (mutable_globals, "harness/a.py", "def f():\n    global x\n    x = 1"),
    ],
)
def test_rule_finds(rule, path, source):
    assert len(rule(snippet(source, path))) == 1


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (one_way_imports, "harness/a.py", "import harness.b, torch, tasksmith"),
        (one_way_imports, "harness/a/b.py", "from ..c import d"),
        (one_way_imports, "soma/a.py", "from harness import method\nfrom soma import gate"),
        (reaching, REGISTRY, "importlib.import_module(name)\nentry_points(group='g')"),
        (reaching, "harness/a.py", "import_module('harness.b')\nimport_module(f'harness.{x}')"),
        (reaching, "harness/a.py", "T = {'a': 'harness.a:b'}\nimport_module(T[k])"),
        (reaching, "harness/a.py", "importlib.util.find_spec('x')"),
        (unsafe, "soma/a.py", "model.eval()\nyaml.safe_load(t)\njson.load(f)"),
        (unsafe, "soma/a.py", "f(d, trust_remote_code=False)\nsubprocess.run(['ls'], shell=False)"),
        (mutable_globals, "harness/a.py", "X = MappingProxyType({'a': 1})\nY = (1, 'a')"),
        (mutable_globals, "harness/a.py", "X = frozenset({1})\nKind = dict[str, int]"),
        (mutable_globals, "harness/a.py", "__all__ = ['a']\nclass A:\n    x = []"),
        (mutable_globals, "soma/a.py", "CACHE = {}"),
    ],
)
def test_rule_passes(rule, path, source):
    assert rule(snippet(source, path)) == []


NAMES = frozenset({"soma", "original", "role_play", "jsonl"})


@pytest.mark.parametrize(
    "source",
    [
        "if method == 'original': pass",
        "title = {'role-play': 1}",
        "Kind = Literal['original']",
        "x = f'soma:{k}=1'",
        "x = Path('baselines/original.py')",
        "x = 'soma.jsonl'",
        "if task == 'jsonl': pass",
        "class RolePlay: pass",
        "def soma(): pass",
        "self.role_play = 1",
        "def f(role_play): pass",
    ],
)
def test_known_names_finds(source):
    assert len(known_names(snippet(source), NAMES)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("harness/a.py", '"""original, soma."""\ndef f():\n    "soma"'),
        ("harness/a.py", "raise ValueError('the original file is gone')"),
        ("harness/a.py", "GROUP = 'soma_bench.methods'\nNAME = 'soma-bench'"),
        ("harness/a.py", "original = read()\ntokenizer(text, role_play=True)"),
        ("harness/a.py", "SCORES = 'scores.jsonl'"),
        ("harness/engines/a.py", "folder = 'original'"),
        ("baselines/a.py", "x = 'original'"),
    ],
)
def test_known_names_passes(path, source):
    assert known_names(snippet(source, path), NAMES) == []


def test_known_names_finds_a_file_name():
    assert len(known_names(snippet("", "harness/report/role_play.py"), NAMES)) == 1
