"""Memory that runs out, two processes on one file, models that bring code: refused or survived, and said."""

from __future__ import annotations

import ast
import json
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import ecco_core as ecco
from ecco_core.registry.yaml_source import read_yaml

ROOT = Path(__file__).parent.parent
TEXT = "The captain is called Nora. The cook is called Felix. Everyone thanked the captain"
ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:121] . can't allocate memory"),
}


class Memory(TorchDispatchMode):
    """Memory for so many numbers in one tensor: every operation whose result is larger fails, backwards too."""

    def __init__(self, numbers=10**12, error="cuda"):
        super().__init__()
        self.numbers, self.error, self.largest, self.refused = numbers, ERRORS[error], 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if isinstance(output, torch.Tensor) and not any(made.alias_info for made in func._schema.returns):  # no view
            if output.numel() > self.numbers:
                self.refused += 1
                raise self.error
            self.largest = max(self.largest, output.numel())
        return output


@pytest.fixture(scope="module")
def run(make_lm):
    return make_lm("gpt2")(TEXT)


METHODS = {
    "saliency": {},
    "occlusion": {},
    "kernel_shap": {"n_samples": 64},
    "deep_lift": {},
    "lrp": {"score": "logit"},
    "gradient_shap": {"n_samples": 4},
    "integrated_gradients": {"n_steps": 5},
    "layer_conductance": {"n_steps": 4},
    "neuron_conductance": {"n_steps": 4, "unit": 3, "layer": 0},
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("method", METHODS)
def test_half_of_the_memory_gives_the_same_numbers(run, method, error):
    def values():
        result = run.analyze(method, targets=list(range(2, len(run))), **METHODS[method])
        return result.values.values

    with Memory() as enough:
        expected = values()
    with Memory(enough.largest // 2, error) as half:
        found = values()
    assert half.refused
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())  # float32 rounds by the batch


def test_several_texts_are_read_in_smaller_batches(run):
    texts = ["The captain is called", "The cook", "Nora thanked Felix", "Everyone is here now"]
    expected = [one.get("mlp_post", 1) for one in run.lm(texts).capture("mlp_post")]
    with Memory() as enough:
        run.lm(texts).capture("mlp_post")
    with Memory(enough.largest // 2) as half:
        found = [one.get("mlp_post", 1) for one in run.lm(texts).capture("mlp_post")]
    assert half.refused
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("method", METHODS)
def test_memory_that_is_not_enough_for_one_is_said(run, method):
    with Memory(20), pytest.raises(ecco.EccoError, match=r"OutOfMemoryError: CUDA out of memory\. Tried"):
        run.analyze(method, **METHODS[method], targets=[3, 4])
    with Memory(20), pytest.raises(torch.OutOfMemoryError):
        run.lm(["The captain", "The cook"]).capture("mlp_post")
    assert run.analyze(method, **METHODS[method], targets=[3, 4]).values.shape[0] == 2


SAVES = """
import sys
import ecco_core as ecco
rows = [[sys.argv[2], n] for n in range(int(sys.argv[3]))]
table = ecco.Table(title=sys.argv[2], columns=["who", "n"], rows=rows)
table.save(sys.argv[1])
print("begun", flush=True)
while True:
    table.save(sys.argv[1])
"""


def test_two_processes_that_save_to_one_path_leave_a_whole_file_also_when_they_are_killed(tmp_path):
    path, sizes = tmp_path / "x.ecco", {"first": 10, "second": 3000}
    commands = [[sys.executable, "-c", SAVES, path, who, str(size)] for who, size in sizes.items()]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    try:
        for writer in writers:
            assert writer.stdout.readline() == "begun\n"
        seen, until = [], time.monotonic() + 20
        while (len(seen) < 100 or len(set(seen)) < 2) and time.monotonic() < until:
            table = ecco.load(path)
            assert [list(row) for row in table.rows] == [[table.title, n] for n in range(sizes[table.title])]
            seen.append(table.title)
        assert set(seen) == {*sizes}
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
    assert ecco.load(path).title in sizes
    left = [other.name for other in tmp_path.iterdir() if other != path]  # of those that were killed while writing
    assert len(left) <= len(writers)
    assert all(name.startswith(".") and name.endswith(".part") for name in left)


EVIL = """
from pathlib import Path
Path({marker!r}).write_text("run")
from transformers import GPT2Config, GPT2LMHeadModel
class EvilConfig(GPT2Config):
    model_type = {model_type!r}
class EvilModel(GPT2LMHeadModel):
    config_class = EvilConfig
"""


@pytest.fixture
def evil(make_lm, tmp_path, monkeypatch):
    """A function: model type -> a folder whose checkpoint brings code, and the file that the code writes if it runs."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, marker = tmp_path / "checkpoint", tmp_path / "marker"

    def make(model_type):
        lm = make_lm("gpt2")
        lm.model.save_pretrained(folder)
        lm.tokenizer.save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        config |= {"model_type": model_type, "architectures": ["EvilModel"]}
        config["auto_map"] = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel"}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "evil.py").write_text(EVIL.format(marker=str(marker), model_type=model_type))
        return folder, marker

    return make


def test_code_that_comes_with_a_model_is_run_by_the_users_word_only(evil):
    folder, marker = evil("evil")
    with pytest.raises(ecco.ArchitectureError, match=r"brings code of its own.*trust_remote_code=True") as caught:
        ecco.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    assert not marker.exists()
    assert ecco.from_pretrained(folder, trust_remote_code=True, task="causal")("The captain").logits().shape[0] > 1
    assert marker.exists()  # so that the test above could have failed


def test_code_of_a_model_that_transformers_knows_is_not_run_either(evil):
    folder, marker = evil("gpt2")
    assert ecco.from_pretrained(folder, task="causal")("The captain").logits().shape[0] > 1
    assert not marker.exists()


class Payload:
    """What writes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.write_text, (self.marker, "run")


def test_weights_that_are_a_pickle_with_code_are_refused(make_lm, tmp_path):
    folder, marker = tmp_path / "checkpoint", tmp_path / "marker"
    lm = make_lm("gpt2")
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    weights = {**lm.model.state_dict(), "transformer.wte.weight": Payload(marker)}
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(ecco.EccoError) as caught:
        ecco.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists()


def test_a_saved_result_that_is_a_pickle_is_refused_and_not_run(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "x.ecco"
    for content in (pickle.dumps(Payload(marker)), b"PK\x03\x04" + pickle.dumps(Payload(marker))):
        path.write_bytes(content)
        with pytest.raises(ecco.StorageError):
            ecco.load(path)
    torch.save({"a": Payload(marker)}, path)
    with pytest.raises(ecco.StorageError):
        ecco.load(path)
    assert not marker.exists()


#: Modules that run what they read, and functions that run a text.
CODE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "code", "codeop"}
NETWORK = {"socket", "urllib", "http", "requests", "httpx", "aiohttp", "ftplib", "ssl"}
RUNS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "np.load", "numpy.load"}
RUNS |= {"torch.jit.load", "pandas.read_pickle", "importlib.util.spec_from_file_location", "runpy.run_path"}
SOURCES = [*ROOT.glob("src/**/*.py"), *ROOT.glob("plugins/*/*/src/**/*.py"), *ROOT.glob("examples/*/src/**/*.py")]
SOURCES = [path for path in SOURCES if "testing" not in path.parts]  # these are tests


def offences(text):
    """What a source does that would make data into code, or reach for a network."""
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        yield from (name for name in names if name.split(".")[0] in CODE | NETWORK)
        if isinstance(node, ast.Call):
            name, options = ast.unparse(node.func), {option.arg for option in node.keywords}
            yield from ([name] if name in RUNS or "allow_pickle" in options else [])
            if name == "YAML" and not any(option.arg == "pure" for option in node.keywords):
                yield name


def test_no_source_makes_data_into_code_or_reaches_for_a_network():
    assert len(SOURCES) > 100
    found = {str(path.relative_to(ROOT)): [*offences(path.read_text(encoding="utf-8"))] for path in SOURCES}
    assert {path: what for path, what in found.items() if what} == {}
    planted = (
        "import pickle\nfrom urllib import request\neval('1')\ntorch.load(f)\nnp.loadtxt(f, allow_pickle=True)\nYAML()"
    )
    assert [*offences(planted)] == ["pickle", "urllib", "eval", "torch.load", "np.loadtxt", "YAML"]


@pytest.mark.slow
def test_wheels_built_twice_are_the_same_bytes(tmp_path):
    """From two copies of the sources, in other folders and with other dates."""
    built, other = [], shutil.ignore_patterns(".*", "__pycache__", "site", "dist", "docs", "tests", "jupyter_execute")
    for copied, folder in ((ROOT, tmp_path / "one"), (tmp_path / "one", tmp_path / "two")):
        shutil.copytree(copied, folder, ignore=other, copy_function=shutil.copy)
        sources = [folder, *(path.parent for path in folder.glob("plugins/*/*/pyproject.toml"))]
        for source in sources:
            command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", source]
            subprocess.run(command, check=True, capture_output=True)
        built.append({path.name: path.read_bytes() for path in folder.glob("dist/*.whl")})
        assert len(built[-1]) == len(sources) > 10
    assert {name for name in built[0] if built[0][name] != built[1][name]} == set()
    wheels = [zipfile.ZipFile(path) for path in folder.glob("dist/*.whl")]
    assert {info.date_time for wheel in wheels for info in wheel.infolist()} == {(2020, 2, 2, 0, 0, 0)}


def broken_model_files():
    """What may stand where a model file is expected, by name."""
    good = (ROOT / "model_registry" / "gpt2.yaml").read_bytes()
    yield "not UTF-8", b"\xff\xfe" + good, "is not UTF-8 text"
    yield "UTF-16", good.decode().encode("utf-16"), "is not UTF-8 text"
    yield "half of a character", good + "é".encode()[:1], "is not UTF-8 text"
    yield "zeros", b"\x00" * 99, "special characters are not allowed"
    yield "too large", good + b"#" * 100_000, "at most 100,000 bytes"
    yield "empty", b"", "expected a mapping of keys to values, found nothing"
    yield "a picture", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "is not UTF-8 text"


@pytest.mark.parametrize(("content", "message"), [pytest.param(*rest, id=name) for name, *rest in broken_model_files()])
def test_a_model_file_of_other_bytes_is_one_located_sentence(tmp_path, content, message):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ecco.RegistryError, match=r"x\.yaml:1:\d+: .*" + message) as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


def test_model_files_with_flipped_bits_are_structures_or_located_errors(tmp_path):
    rng, files, errors = random.Random(0), sorted((ROOT / "model_registry").glob("*.yaml")), 0
    path = tmp_path / "x.yaml"
    for n in range(300):
        content = bytearray(files[n % len(files)].read_bytes())
        for _ in range(rng.randint(1, 3)):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        try:
            assert read_yaml(path).model_types
        except ecco.RegistryError as error:
            located = re.match(r".*x\.yaml:\d+:\d+: [^\n]+$", str(error))
            errors += located is not None
            if not located:
                raise
    assert 50 < errors < 300


@pytest.mark.parametrize("page", ["docs/threat-model.md", "docs/reliability.md"])
def test_the_tests_that_a_page_names_are_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    files = [*ROOT.glob("tests/test_*.py"), *ROOT.glob("plugins/*/*/tests/test_*.py")]
    there = {path.stem for path in files} | set(
        re.findall(r"^def (test_\w+)", "".join(path.read_text(encoding="utf-8") for path in files), re.MULTILINE)
    )
    named = re.findall(r"\b(test_\w+\*?)", text)
    assert len(named) > 4
    missing = [name for name in named if not any(one.startswith(name.removesuffix("*")) for one in there)]
    assert not missing
