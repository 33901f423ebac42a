"""The shape of the sources: who may import whom, what generic code must not know, what is unsafe.

Each rule is a function from one parsed module to its breaches. `test_architecture.py` runs them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("harness", "baselines", "soma", "tasks")
OWN = frozenset({*PACKAGES, "run_bench", "tests"})
REGISTRY = "harness/registry.py"

MAY_IMPORT = {
    "harness": {"harness"},
    "baselines": {"baselines", "harness"},
    "soma": {"soma", "harness"},
    "tasks": {"tasks", "harness"},
    "run_bench": {"run_bench", "harness"},
}

# The design's words for the models F and G. As identifiers, and as strings in harness/engines/,
# they mean those models and not the methods of the same names.
VOCABULARY = frozenset({"original", "surrogate"})

FILE_SUFFIX = re.compile(r"\.(jsonl?|toml|csv|parquet|gz|txt|md|py)$")

UNSAFE_MODULES = frozenset(
    {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
)
UNSAFE_CALLS = frozenset(
    {"eval", "exec", "torch.load", "os.system", "os.popen", "pandas.read_pickle", "pd.read_pickle"}
    | {f"yaml.{name}" for name in ("load", "load_all", "unsafe_load", "full_load")}
)
UNSAFE_FLAGS = frozenset({"trust_remote_code", "shell", "allow_pickle"})
REACHING_CALLS = frozenset(
    {
        "__import__",
        "entry_points",
        "importlib.metadata.entry_points",
        "metadata.entry_points",
        "importlib.util.spec_from_file_location",
        "util.spec_from_file_location",
        "spec_from_file_location",
        "runpy.run_path",
        "runpy.run_module",
    }
)
MUTABLE_CALLS = frozenset(
    {"dict", "list", "set", "bytearray", "defaultdict", "deque", "OrderedDict", "Counter"}
)
FREEZERS = frozenset({"MappingProxyType", "tuple", "frozenset"})


@dataclass(frozen=True)
class Module:
    """One source file: its path relative to the root, and its syntax tree."""

    path: str
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.path.split("/")[0].removesuffix(".py")


def snippet(source: str, path: str = "harness/example.py") -> Module:
    return Module(path, ast.parse(source))


def source_paths() -> list[Path]:
    found = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [*found, *ROOT.glob("*.py")]


def modules() -> list[Module]:
    return [snippet(p.read_text("utf-8"), p.relative_to(ROOT).as_posix()) for p in source_paths()]


def at(module: Module, node: ast.AST, problem: str) -> str:
    return f"{module.path}:{getattr(node, 'lineno', 1)}: {problem}"


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or attribute chain; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return ""


def imports(module: Module) -> Iterator[tuple[ast.AST, str]]:
    """Every imported module by absolute name, also those imported inside functions."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folders = module.path.split("/")[:-1]
            base = ".".join(folders[: len(folders) - node.level + 1]) if node.level else ""
            stem = ".".join(part for part in (base, node.module or "") if part)
            yield from ((node, f"{stem}.{alias.name}") for alias in node.names)


# The rules.


def one_way_imports(module: Module) -> list[str]:
    """Dependencies point one way: run_bench → harness ← baselines, soma, tasks."""
    forbidden = OWN - MAY_IMPORT[module.package]
    return [
        at(module, node, f"{module.package} imports {name}")
        for node, name in imports(module)
        if name.split(".")[0] in forbidden
    ]


def reaching(module: Module) -> list[str]:
    """In harness only the registry loads code by name that is not harness's own.

    Elsewhere `import_module` may name harness modules: by a literal, by an f-string that begins
    with "harness.", or through a table. A table is an UPPER_CASE constant of the same file, and
    then every dotted module path written in the file has to begin with "harness.".
    """
    if module.package != "harness" or module.path == REGISTRY:
        return []
    breaches = []
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        if name in REACHING_CALLS:
            breaches.append(at(module, node, f"{name} outside the registry"))
        elif name in ("import_module", "importlib.import_module") and not _names_harness(
            module, node.args[0] if node.args else None
        ):
            breaches.append(at(module, node, "import_module of what is not harness's own"))
    return breaches


def _names_harness(module: Module, argument: ast.expr | None) -> bool:
    if isinstance(argument, ast.JoinedStr):
        argument = argument.values[0]
    if isinstance(argument, ast.Constant):
        return str(argument.value).startswith("harness.")
    tables = [
        statement.value
        for statement in module.tree.body
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None
        for target in _targets(statement)
        if target.isupper()
    ]
    paths = [
        str(node.value)
        for table in tables
        for node in ast.walk(table)
        if isinstance(node, ast.Constant) and re.fullmatch(r"\w+(\.\w+)+(:\w+)?", str(node.value))
    ]
    return bool(paths) and all(path.startswith("harness.") for path in paths)


def replacing_text(module: Module) -> list[str]:
    """A console that replaces `:name:` by a symbol would change methods' names and models' text."""
    return [
        at(module, node, "Console without emoji=False")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and dotted(node.func).split(".")[-1] == "Console"
        and not any(k.arg == "emoji" and ast.unparse(k.value) == "False" for k in node.keywords)
    ]


def known_names(module: Module, names: frozenset[str]) -> list[str]:
    """No method or dataset name in harness: not as a string or part of a path, nor as a definition.

    Docstrings and prose may use such words: they change nothing. So may the keyword arguments of
    other libraries' functions.
    """
    if module.package != "harness":
        return []
    in_engines = module.path.startswith("harness/engines/")
    in_strings = names - VOCABULARY if in_engines else names
    in_code = {name.replace("_", "") for name in names - VOCABULARY}
    docstrings = _docstrings(module.tree)
    breaches = []
    stem = Path(module.path).stem
    if stem.replace("_", "") in in_code:
        breaches.append(at(module, module.tree, f"the file is named after {stem!r}"))
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in docstrings and (word := _name_in(node.value, in_strings)):
                breaches.append(at(module, node, f"the string {node.value!r} names {word!r}"))
        elif (defined := _defines(node)).replace("_", "").lower() in in_code:
            breaches.append(at(module, node, f"the identifier {defined!r} is a registered name"))
    return breaches


def _name_in(text: str, names: frozenset[str]) -> str | None:
    """The name that a string is, or holds as a part of a path, a list or a `name:key=value`.

    A file's suffix is a format, also where a task reads that format and is called after it.
    """
    if re.search(r"\S\s+\S", text):
        return None
    bare = FILE_SUFFIX.sub("", text.strip().lower())
    parts = re.split(r"[./:,=\s]+", bare.replace("-", "_"))
    return next((part for part in parts if part in names), None)


def _docstrings(tree: ast.Module) -> set[int]:
    """Ids of the string nodes that stand alone as a statement."""
    return {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def _defines(node: ast.AST) -> str:
    """The identifier that a node brings into being; empty when none."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.arg):
        return node.arg
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        return node.attr
    return ""


def unsafe(module: Module) -> list[str]:
    """Nothing that runs code out of data: pickles, yaml.load, eval, a shell, remote code."""
    breaches = [
        at(module, node, f"imports {name}")
        for node, name in imports(module)
        if name.split(".")[0] in UNSAFE_MODULES or name in UNSAFE_CALLS
    ]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            if dotted(node.func) in UNSAFE_CALLS:
                breaches.append(at(module, node, f"calls {dotted(node.func)}"))
            breaches += [
                at(module, node, f"{word.arg} is not False")
                for word in node.keywords
                if word.arg in UNSAFE_FLAGS and not _is_false(word.value)
            ]
        elif isinstance(node, ast.Dict):
            breaches += [
                at(module, node, f"{key.value!r} is not False")
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant)
                and key.value in UNSAFE_FLAGS
                and not _is_false(value)
            ]
    return breaches


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def mutable_globals(module: Module) -> list[str]:
    """No state at module level in harness: containers are frozen, and nothing rebinds a global."""
    if module.package != "harness":
        return []
    breaches = [
        at(module, node, f"rebinds the global {', '.join(node.names)}")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Global)
    ]
    for statement in _module_level(module.tree.body):
        if isinstance(statement, ast.AugAssign):
            breaches.append(at(module, statement, "changes a global in place"))
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            names = _targets(statement)
            if names != ["__all__"] and _is_mutable(statement.value):
                held = ", ".join(names)
                breaches.append(
                    at(module, statement, f"{held} is mutable: use {', '.join(sorted(FREEZERS))}")
                )
    return breaches


def _module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements run at import, those under `if`, `try`, `with` and loops included."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        yield statement
        for field in ("body", "orelse", "finalbody"):
            yield from _module_level(getattr(statement, field, []))
        for handler in getattr(statement, "handlers", []):
            yield from _module_level(handler.body)


def _targets(statement: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return [ast.unparse(target) for target in targets]


def _is_mutable(node: ast.expr) -> bool:
    if isinstance(node, ast.Tuple):
        return any(_is_mutable(part) for part in node.elts)
    if isinstance(node, ast.BinOp):
        return _is_mutable(node.left) or _is_mutable(node.right)
    if isinstance(node, ast.Call):
        return dotted(node.func).rsplit(".", 1)[-1] in MUTABLE_CALLS
    return isinstance(
        node, ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp
    )


# The names that harness must not know.


def registered_names() -> frozenset[str]:
    """Names by the registry's rule: a public file that defines the class its name announces.

    SOMA counts by its package: its files are parts of it (gate, drift), words of the vocabulary.
    """
    names = {"soma"}
    for package in ("baselines", "tasks"):
        for path in (ROOT / package).glob("[!_]*.py"):
            announced = path.stem.replace("_", "").lower()
            tree = ast.parse(path.read_text("utf-8"))
            if any(isinstance(n, ast.ClassDef) and n.name.lower() == announced for n in tree.body):
                names.add(path.stem)
    return frozenset(names)
