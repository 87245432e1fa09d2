"""What `ecco plugins new` and `ecco models new` write: installed, tested, checked, typed and seen as a user would."""

from __future__ import annotations

import json
import re
import resource
import shlex
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from ecco_core.cli.main import program
from ecco_core.cli.new import TEMPLATES
from ecco_core.errors import ArchitectureError, OptionError, StorageError

ROOT = Path(__file__).parent.parent
KINDS = ("analysis", "renderer", "model")
NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
# Runs commands of `ecco`, and Python, in one process; prints what each said.
RUNNER = """
import contextlib, io, json, sys
from ecco_core.cli.main import main
said = []
for command in json.loads(sys.argv[1]):
    out, code = io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main(command) if isinstance(command, list) else exec(command)
        except SystemExit as end:
            code = end.code or 0
    said.append((code, out.getvalue()))
print(json.dumps(said))
"""


def ecco(*arguments):
    return CliRunner().invoke(program, [str(argument) for argument in arguments])


def check(command, cwd, code=0):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == code, f"{command}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tokenizer):
    """A folder with a model of a type that has no file of ours."""
    from ecco_core.proving.tiny_models import tiny_model
    from ecco_core.registry import lookup

    assert lookup.find("olmo") is None, "take another architecture that has no file yet"
    folder = tmp_path_factory.mktemp("checkpoint") / "my-own-olmo"
    tiny_model("olmo", "causal", {"vocab_size": len(tokenizer), "num_hidden_layers": 3}, seed=3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory, checkpoint):
    """A folder with one plugin of each kind, and a model file; what the program said of each."""
    folder = tmp_path_factory.mktemp("new")
    said = {}
    for kind in KINDS:
        more = ["--model", checkpoint] if kind == "model" else []
        said[kind] = ecco("plugins", "new", f"my-{kind}", "--kind", kind, "--into", folder, *more)
    said["file"] = ecco("models", "new", checkpoint, "--into", folder)
    for result in said.values():
        assert result.exit_code == 0, (result.output, result.exception)
    return folder, {kind: result.output for kind, result in said.items()}


@pytest.fixture(scope="module")
def python(tmp_path_factory, written):
    """The Python of a clean environment with the three; what else is installed is lent by the one of these tests."""
    folder = tmp_path_factory.mktemp("environment")
    check([sys.executable, "-m", "venv", "--without-pip", folder], folder)
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "lent.pth").write_text(f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n")
    install = ["install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    plugins = [written[0] / f"ecco-my-{kind}" for kind in KINDS]
    check([sys.executable, "-m", "pip", "--python", folder / "bin" / "python", *install, *plugins], folder)
    return folder / "bin" / "python"


def test_what_is_written_is_said_and_what_to_type_next(written):
    folder, said = written
    for kind in KINDS:
        plugin = folder / f"ecco-my-{kind}"
        lines = said[kind].splitlines()
        files = {path.relative_to(plugin).as_posix() for path in plugin.rglob("*") if path.is_file()}
        next_ = lines.index("Next:")
        assert lines[0] == f"Wrote {plugin}:"
        assert {line.strip() for line in lines[1:next_]} == files - {f"src/ecco_my_{kind}/__pycache__"}
        assert {"pyproject.toml", "README.md", "LICENSE", ".gitignore", ".github/workflows/test.yml"} <= files
        assert lines[next_ + 1 :][:3] == [f"    cd {plugin}", "    pip install -e '.[test]'", "    pytest"]
    assert f"ECCO_MODEL_REGISTRY={folder}/olmo-file ecco models verify olmo" in said["file"]
    assert not list(folder.glob(".*"))


def test_their_tests_pass_and_the_proof_of_a_wrong_file_fails(written, python):
    folder, _ = written
    wrong = folder / "wrong"
    wrong.mkdir()
    text = (folder / "olmo-file" / "olmo.yaml").read_text()
    (wrong / "olmo.yaml").write_text(text.replace("> mlp.down_proj", "> mlp.up_proj"))
    (wrong / "test_wrong.py").write_text((folder / "olmo-file" / "test_olmo.py").read_text())
    folders = [*(f"ecco-my-{kind}" for kind in KINDS), "olmo-file", "wrong"]
    out = check([python, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *folders], folder, code=1)
    outcomes = re.findall(r"^(PASSED|FAILED|SKIPPED|ERROR|XFAIL|XPASS) (\S+)", out, re.MULTILINE)
    failed = [name for outcome, name in outcomes if outcome != "PASSED"]
    assert [name.split("::", 1)[1] for name in failed] == ["TestModelFile::test_proven[olmo]"], out[-3000:]
    assert "wrong" in failed[0]
    tested = {name.split("::")[0].rsplit("/", 1)[-1] for _, name in outcomes}
    own = {f"test_my_{kind}.py" for kind in KINDS}
    assert tested == {*own, "test_olmo.py", "test_wrong.py"}
    assert len(outcomes) > 30


def test_their_ci_runs_what_was_run_here(written):
    from ruamel.yaml import YAML

    for kind in KINDS:
        workflow = YAML(typ="safe").load(written[0] / f"ecco-my-{kind}" / ".github" / "workflows" / "test.yml")
        runs = [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step]
        assert runs == ["pip install -e '.[test]'", "ecco plugins check", "pytest"]
        assert workflow["jobs"]["test"]["steps"][1]["with"] == {"python-version": "${{ matrix.python }}"}


def told(readme):
    """The commands of a README with what they print, and its Python."""
    blocks = re.findall(r"```console\n(.*?)```", readme, re.DOTALL)
    commands = [part.partition("\n") for block in blocks for part in block.split("$ ")[1:]]
    return [(command, output) for command, _, output in commands], re.findall(r"```python\n(.*?)```", readme, re.DOTALL)


def test_they_show_up_are_found_good_and_do_what_their_readmes_say(written, python, tmp_path):
    readmes = [told((written[0] / f"ecco-my-{kind}" / "README.md").read_text()) for kind in KINDS]
    shown = [pair for commands, _ in readmes for pair in commands if not pair[0].startswith("cat ")]
    typed = [shlex.split(command.partition(" | ")[0])[1:] for command, _ in shown]
    code = [code for _, codes in readmes for code in codes]
    commands = [["plugins", "list"], ["plugins", "check"], *typed, *code]
    said = json.loads(check([python, "-W", "ignore", "-c", RUNNER, json.dumps(commands)], tmp_path).splitlines()[-1])
    assert [code for code, _ in said] == [0] * len(commands)
    for kind, brings in zip(KINDS, ("analysis      my_analysis", "renderer      my_renderer", "model file")):
        assert re.search(rf"^ecco-my-{kind} 0.1.0  loaded\n    {brings}", said[0][1], re.MULTILINE), said[0][1]
    assert said[1][1].endswith(" 0 faults.\n")
    for (command, expected), (_, output) in zip(shown, said[2:]):
        wanted = command.partition(" | grep ")[2]
        same(expected, "".join(line for line in output.splitlines(True) if wanted in line))
    ((_, expected),) = [pair for commands, _ in readmes for pair in commands if pair[0] == "cat why.md"]
    same(expected, (tmp_path / "why.md").read_text())
    assert len(shown) == len(KINDS)


def same(expected, found):
    """The same words; numbers to the digits that processors agree on."""
    assert NUMBER.sub("#", expected).split() == NUMBER.sub("#", found).split()
    assert [float(n) for n in NUMBER.findall(found)] == pytest.approx(
        [float(n) for n in NUMBER.findall(expected)], 5e-3
    )


def test_they_are_clean_code(written):
    folder = written[0]
    ruff, strict = [Path(sys.executable).with_name("ruff")], ["--no-cache", "--config", ROOT / "pyproject.toml", "."]
    for name in (*(f"ecco-my-{kind}" for kind in KINDS), "olmo-file"):
        check([*ruff, "check", *strict], folder / name)
        check([*ruff, "format", "--check", *strict], folder / name)
    sources = [folder / f"ecco-my-{kind}" / part for kind in KINDS for part in ("src", "tests")]
    check([sys.executable, "-m", "mypy", *sources], ROOT)  # its configuration is strict, and knows our sources


def test_every_template_is_in_the_wheel(tmp_path):
    check([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    templates = {f"ecco_core/cli/templates/{p.relative_to(TEMPLATES).as_posix()}" for p in TEMPLATES.rglob("*.in")}
    assert len(templates) > 15
    assert templates <= names


def test_a_model_file_says_what_was_proven_how_exactly_and_on_what(written):
    text = (written[0] / "olmo-file" / "olmo.yaml").read_text()
    head = re.findall(r"^# (.*)", text, re.MULTILINE)
    assert head[1] == "my-own-olmo (causal), and proven there and on small random models:"
    assert head[2] == "causal, sequence_classification, backbone."
    rows = dict(re.findall(r"^#     decoder (\w+) +(\S+e-?\S+)  \w", text, re.MULTILINE))
    declared = re.findall(r'^      (\w+): "', text, re.MULTILINE)
    assert {*declared, "embedding", "resid_pre", "resid_post", "q", "k", "v", "pattern", "logits"} == set(rows)
    assert 0 < max(map(float, rows.values())) < 1e-5
    assert str(written[0].parent) not in text


def test_what_is_not_proven_is_said_and_stands_in_the_file(tmp_path):
    result = ecco("models", "new", "gpt_neo", "--into", tmp_path)
    text = (tmp_path / "gpt_neo-file" / "gpt_neo.yaml").read_text()
    assert "gpt_neo has a file from ecco-core; the new one goes before it.\nNot proven, or not there:" in result.stderr
    assert "\n# Not proven, or not there:\n" in text
    for note in ("pattern is not proven: the model reports it", "q, k, v are not there: its attention does not run"):
        assert f"\n    decoder: {note}" in result.stderr
        assert f"#     decoder: {note}" in text


def test_the_heads_of_other_tasks_are_added_where_the_layout_is_the_same(tmp_path):
    assert ecco("models", "new", "bert", "--into", tmp_path).exit_code == 0
    assert "heads: {causal: cls, masked: cls}\n" in (tmp_path / "bert-file" / "bert.yaml").read_text()
    said = ecco("models", "new", "bart", "--into", tmp_path)
    assert "the head for causal: bart models for it are laid out differently." in said.stderr
    assert "heads: {seq2seq: lm_head}\n" in (tmp_path / "bart-file" / "bart.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["My Probe!"], OptionError, "as in my-probe; found 'My Probe!'"),
        (["2-probes"], OptionError, "a letter first"),
        (["../probe"], OptionError, "found '../probe'"),
        (["p" * 41], OptionError, "40 at most"),
        (["HTML"], OptionError, "ecco-html is one of Ecco's own plugins"),
        (["ecco-core"], OptionError, "ecco-core is one of"),
        (["cka"], OptionError, "'cka' is taken: ecco-similarity offers an analysis of that name"),
        (["sample", "--into", "nowhere"], StorageError, "the folder 'nowhere' does not exist"),
    ],
)
def test_names_that_cannot_be_are_refused(arguments, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = ecco("plugins", "new", "--kind", "analysis", *arguments)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_a_model_goes_with_its_kind_and_with_no_other(tmp_path):
    said = {
        "--kind model needs --model MODEL": ["model"],
        "--kind analysis takes no --model": ["analysis", "--model", "olmo"],
    }
    for message, arguments in said.items():
        result = ecco("plugins", "new", "sample", "--into", tmp_path, "--kind", *arguments)
        assert result.exit_code == 2
        assert message in result.output


def test_a_layout_that_is_not_proven_again_is_refused_and_nothing_is_written(tmp_path):
    for model, message in (("mamba2", "A small random mamba2 model for causal cannot be built"), ("ctrl", "embedding")):
        result = ecco("models", "new", model, "--into", tmp_path)
        assert isinstance(result.exception, ArchitectureError)
        assert message in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays_and_an_empty_folder_is_filled(tmp_path):
    there = tmp_path / "ecco-sample"
    there.mkdir()
    assert ecco("plugins", "new", "sample", "--kind", "renderer", "--into", tmp_path).exit_code == 0
    (there / "README.md").write_text("mine")
    again = ecco("plugins", "new", "sample", "--kind", "analysis", "--into", tmp_path)
    assert isinstance(again.exception, StorageError)
    assert "it is there, and no empty folder" in str(again.exception)
    assert (there / "README.md").read_text() == "mine"
    (tmp_path / "ecco-link").symlink_to(tmp_path / "elsewhere")
    assert isinstance(ecco("plugins", "new", "link", "--kind", "analysis", "--into", tmp_path).exception, StorageError)
    assert not (tmp_path / "elsewhere").exists()


def test_a_write_that_fails_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the licence is longer
    try:
        result = ecco("plugins", "new", "sample", "--kind", "analysis", "--into", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(result.exception, StorageError)
    assert "File too large" in str(result.exception)
    assert not list(tmp_path.iterdir())
