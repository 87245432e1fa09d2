"""Wheels and sdists of all distributions: built, installed into clean environments, used from there.

The heavy libraries are not installed again: a ``.pth`` file lends the clean environments those of the one the tests
run in, as a folder of links without our own distributions.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = {
    "ecco-core": ROOT,
    "ecco-captum": ROOT / "plugins/attribution/captum",
    "ecco-attention": ROOT / "plugins/attribution/attention",
    "ecco-lens": ROOT / "plugins/lens/logit",
    "ecco-factorization": ROOT / "plugins/factorization/neurons",
    "ecco-similarity": ROOT / "plugins/similarity/representations",
    "ecco-probing": ROOT / "plugins/probing/linear",
    "ecco-lrp": ROOT / "plugins/attribution/lrp",
    "ecco-faithfulness": ROOT / "plugins/faithfulness/perturbation",
    "ecco-matplotlib": ROOT / "plugins/viz/matplotlib",
    "ecco-html": ROOT / "plugins/viz/html",
    "ecco-terminal": ROOT / "plugins/viz/terminal",
    "ecco-tiny": ROOT / "plugins/models/tiny",
    "ecco-norms": ROOT / "examples/ecco-norms",
}
OURS = ("ecco_", "_ecco", "__editable__", "__pycache__")


def check(command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Wheel of each distribution, built from its sdist, as `build` does by default."""
    out = tmp_path_factory.mktemp("dist")
    for source in SOURCES.values():
        check([sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source])
    return out


@pytest.fixture(scope="session")
def borrowed(tmp_path_factory):
    """A folder with links to every installed package that is not ours."""
    folder = tmp_path_factory.mktemp("borrowed")
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not entry.name.startswith(OURS) and not entry.name.endswith(".pth"):
            (folder / entry.name).symlink_to(entry)
    return folder


class Environment:
    """A clean virtual environment with some of our wheels."""

    def __init__(self, folder, borrowed, built, names):
        check([sys.executable, "-m", "venv", folder])
        self.python = folder / "bin" / "python"
        (site,) = (folder / "lib").glob("python*/site-packages")
        (site / "borrowed.pth").write_text(f"{borrowed}\n")
        check([self.python, "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools"])  # would hide the borrowed one
        check([self.python, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", built, *names])
        self.ecco = folder / "bin" / "ecco"
        self.away = folder  # a working directory without our sources

    def run(self, *command):
        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "ECCO_BLOCK_PLUGINS")}
        return check(command, cwd=self.away, env=env)


@pytest.fixture(scope="session")
def environment(tmp_path_factory, borrowed, built):
    """A function: names of distributions -> a clean environment with them."""
    return lambda *names: Environment(tmp_path_factory.mktemp("env"), borrowed, built, names)


@pytest.fixture(scope="session")
def everything(environment):
    return environment(*SOURCES)


def test_each_distribution_builds_a_wheel_and_an_sdist(built):
    for name in SOURCES:
        stem = name.replace("-", "_")
        (wheel,) = built.glob(f"{stem}-*.whl")
        (sdist,) = built.glob(f"{stem}-*.tar.gz")
        names = zipfile.ZipFile(wheel).namelist()
        tops = {n.split("/")[0] for n in names if ".dist-info" not in n}
        assert tops == {stem}, f"{name} installs {tops}"
        assert any(n.endswith("/py.typed") for n in names) or name == "ecco-norms"
        with tarfile.open(sdist) as archive:
            assert any(m.endswith("pyproject.toml") for m in archive.getnames())


def test_the_model_registry_ships_inside_the_core_wheel(built):
    (wheel,) = built.glob("ecco_core-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for file in (ROOT / "model_registry").glob("*.yaml"):
        assert f"ecco_core/_model_registry/{file.name}" in names


def test_the_tiny_models_stay_small(built):
    (wheel,) = built.glob("ecco_tiny-*.whl")
    assert wheel.stat().st_size <= 15_000_000


def test_everything_works_from_wheels(everything, tmp_path):
    out = everything.run(everything.ecco, "plugins", "check")
    assert "6 plugins" not in out
    assert "0 faults" in out
    page = tmp_path / "why.html"
    out = everything.run(everything.ecco, "demo", "--save", page)
    assert "completeness error" in out
    assert page.stat().st_size > 5000
    shown = json.loads(everything.run(everything.ecco, "models", "show", "gpt2", "--json"))
    assert shown["source"] == "ecco-core"
    where = everything.run(everything.python, "-c", "import ecco_core; print(ecco_core.__file__)")
    assert str(ROOT) not in where


def test_core_and_captum_alone_give_plain_text_and_a_word_on_pages(environment):
    alone = environment("ecco-core", "ecco-captum")
    code = """
import ecco_core as ecco, torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from tokenizers import Tokenizer, models, pre_tokenizers, decoders
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
t = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=t, eos_token="!")
config = GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=256, n_positions=32, eos_token_id=0, bos_token_id=0)
lm = ecco.from_pretrained((GPT2LMHeadModel(config), tokenizer))
scores = lm.generate("abc", max_new_tokens=2).analyze("ig", n_steps=4)
print(scores)
assert set(scores._repr_mimebundle_()) == {"text/plain"}
try: scores.save("why.html")
except ecco.RenderError as error: print(error)
try: ecco.from_pretrained("tiny:prose")
except ecco.ModelNotFoundError as error: print(error)
try: lm("a").analyze("norms")
except ecco.AnalysisNotFoundError as error: print(error)
"""
    out = alone.run(alone.python, "-W", "ignore", "-c", code)
    assert "completeness error" in out
    assert "pip install ecco-html" in out
    assert "pip install ecco-tiny" in out
    assert "No analysis is called 'norms'" in out


def test_a_third_party_plugin_runs_through_api_and_command_line(everything):
    out = everything.run(
        everything.ecco, "run", "norms", "-m", "tiny:prose", "-t", "The captain", "-n", "2", "--order", "1"
    )
    assert "norms" in out.lower()
    code = """
import ecco_core as ecco
run = ecco.from_pretrained("tiny:prose").generate("The captain", max_new_tokens=3)
grid = run.analyze("norms", layers=[0, 2])
capture = run.capture("resid_norm", "resid_post", layers=[2])
import torch
torch.testing.assert_close(capture.get("resid_norm", 2), capture.get("resid_post", 2).norm(dim=-1))
print(type(grid).__name__, grid.values.shape == (2, len(run)), grid.provenance.plugin)
"""
    assert everything.run(everything.python, "-W", "ignore", "-c", code).strip() == "TokenGrid True ecco-norms 0.1.0"


def test_the_examples_own_tests_pass_where_it_is_installed(everything, tmp_path):
    shutil.copytree(SOURCES["ecco-norms"], tmp_path / "ecco-norms", ignore=shutil.ignore_patterns("__pycache__"))
    everything.run(everything.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path / "ecco-norms")


def test_the_example_is_at_most_25_lines():
    files = (SOURCES["ecco-norms"] / "src").rglob("*.py")
    code = [line for file in files for line in file.read_text().splitlines() if line.strip()]
    assert len(code) <= 25


def test_the_registry_is_live_in_an_editable_install():
    from ecco_core.registry import lookup

    if (ROOT / "src") not in Path(lookup.__file__).parents:
        pytest.fail("the tests run on an installed copy; make test installs core editable")
    assert lookup.packaged_folder() == ROOT / "model_registry"


def test_versions_move_in_lock_step():
    import tomllib

    import ecco_core

    versions = {
        name: tomllib.loads((path / "pyproject.toml").read_text())["project"]["version"]
        for name, path in SOURCES.items()
        if name != "ecco-norms"
    }
    assert set(versions.values()) == {ecco_core.__version__}
    assert shutil.which("ecco", path=str(Path(sys.executable).parent))
