"""The ``ecco`` program as a stranger meets it: output, exit codes, one line per mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ecco_core as ecco

BROKEN = Path(__file__).parent / "data" / "plugins"


def run_ecco(*arguments, plugins=(), **environment):
    """Run the program in a process of its own; returns (exit code, stdout, stderr)."""
    path = os.pathsep.join(str(BROKEN / p) for p in plugins)
    env = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "COLUMNS": "100", **environment}
    done = subprocess.run(
        [sys.executable, "-m", "ecco_core.cli", *arguments], capture_output=True, text=True, env=env, timeout=300
    )
    return done.returncode, done.stdout, done.stderr


def test_plugins_list_names_plugins_and_what_they_bring():
    code, out, err = run_ecco("plugins", "list")
    assert (code, err) == (0, "")
    for word in ("ecco-captum", "integrated_gradients", "ecco-html", "ecco-terminal", "ecco-tiny", "loaded"):
        assert word in out


def test_plugins_list_as_json():
    code, out, _ = run_ecco("plugins", "list", "--json")
    plugins = {p["plugin"]: p for p in json.loads(out)}
    assert code == 0
    assert "saliency" in plugins["ecco-captum"]["provides"]["ecco_analyses"]


def test_plugins_check_is_content_with_our_own():
    code, out, err = run_ecco("plugins", "check")
    assert code == 0, out + err
    assert "0 faults" in out


def test_plugins_check_names_each_broken_plugin_and_exits_with_1():
    broken = ["import_error", "raising_hook", "wrong_type", "too_new_core", "system_exit", "unknown_hook", "wrapper"]
    code, out, err = run_ecco("plugins", "check", plugins=[*broken, "name_clash_a", "name_clash_b", "good"])
    assert code == 1
    assert err == ""
    for name in broken:
        assert f"fake-{name.replace('_', '-')}" in out
    assert "both offer the analysis 'norms_clash'" in out
    assert "fake-good" not in out
    assert "Traceback" not in out
    assert out.count("to mend it:") == len(broken) + 1


def test_broken_plugins_do_not_stop_the_others():
    folders = [f.name for f in BROKEN.iterdir() if f.is_dir() and f.name != "name_clash_core"]
    code, out, err = run_ecco("run", "saliency", "--help", plugins=folders)
    assert code == 0
    assert "--targets" in out
    assert "Traceback" not in err


def test_a_blocked_plugin_is_missing_with_its_reason():
    code, _, err = run_ecco("run", "ig", "-m", "x", "-t", "y", ECCO_BLOCK_PLUGINS="ecco-captum")
    assert code == 2
    assert "pip install ecco-captum" in err
    assert "blocked" in err


def test_a_classifier_is_explained_as_it_stands():
    text = "The acting was wonderful."
    code, out, err = run_ecco("run", "ig", "-m", "tiny:classifier", "-t", text, "--n-steps", "8")
    assert code == 0, err
    assert "log-probability of class 'positive'" in out
    code, out, err = run_ecco("run", "ig", "-m", "tiny:classifier", "-t", text, "--targets", "negative")
    assert "log-probability of class 'negative'" in out
    code, _, err = run_ecco("run", "ig", "-m", "tiny:classifier", "-t", text, "-n", "3")
    assert code == 2
    assert "does not generate" in err


def test_a_given_answer_is_explained():
    given = ["-m", "tiny:prose", "-t", "The captain is called", "--output", " Nora."]
    code, out, err = run_ecco("run", "saliency", *given)
    assert code == 0, err
    assert "' Nora'" in out
    assert "of '.'" in out
    code, _, err = run_ecco("run", "saliency", *given, "-n", "3")
    assert code == 2
    assert "nothing is generated" in err


def test_a_model_is_opened_for_another_task():
    code, _, err = run_ecco("run", "saliency", "-m", "tiny:classifier", "--task", "backbone", "-t", "The acting.")
    assert code == 2
    assert "A backbone model predicts nothing that could be explained" in err


def test_a_run_prints_and_saves(tmp_path):
    places = [str(tmp_path / name) for name in ("why.ecco", "why.html", "why.txt", "why.ansi")]
    save = [word for place in places for word in ("--save", place)]
    code, out, err = run_ecco(
        "run",
        "ig",
        "-m",
        "tiny:prose",
        "-t",
        "The captain is called",
        "-n",
        "2",
        "--targets=-1",
        "--n-steps",
        "8",
        *save,
    )
    assert code == 0, err
    assert "integrated gradients" in out
    assert "completeness error" in out
    assert "\x1b" not in out
    assert err.count("Wrote ") == 4
    result = ecco.load(places[0])
    assert result.provenance.options["n_steps"] == 8
    assert len(result.targets) == 1
    assert "<!doctype html>" in Path(places[1]).read_text().lower()
    assert "\x1b[" in Path(places[3]).read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], "No such command 'rum'. Did you mean 'run'?"),
        (["run", "integrated_gradient", "-m", "x", "-t", "y"], "Did you mean 'integrated_gradients'?"),
        (["run", "saliency", "-t", "y"], "Missing option '-m'"),
        (["run", "saliency", "-m", "tiny:prose", "-t", ""], "The prompt is empty"),
        (["run", "saliency", "-m", "tiny:prose", "-t", "a " * 600], "this model's context holds"),
        (["run", "saliency", "-m", "tiny:prose", "-t", "a", "--targets", "99"], "Target 99 is not in the run"),
        (["run", "saliency", "-m", "tiny:prose", "-t", "a", "--targets", "x"], "the position of a token, found 'x'"),
        (["run", "saliency", "-m", "tiny:prose", "-t", "a", "--contrast", "no such token"], "not one"),
        (["run", "saliency", "-m", "tiny:prose", "-t", "a", "--score", "logits"], "is not one of"),
        (["run", "saliency", "-m", "tiny:prose", "-t", "a", "--steps", "3"], "No such option"),
        (["run", "saliency", "-m", "tiny:rose", "-t", "a"], "prose"),
        (["run", "saliency", "-m", "no-such-model", "-t", "a"], "No model 'no-such-model'"),
        (["run", "saliency", "-m", "tiny:prose", "-t", "a", "--save", "x.docx"], "the suffix '.docx'"),
        (["run", "saliency", "-m", "tiny:prose", "-t", "a", "--save", "/no/such/x.html"], "does not exist"),
        (["models", "show", "gtp2"], "Did you mean 'gpt2'?"),
        (["demo", "--save", "x.docx"], "the suffix '.docx'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message):
    code, out, err = run_ecco(*arguments)
    assert code == 2, out + err
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err
    assert out == ""


def test_hostile_names_do_not_reach_the_terminal():
    _, _, err = run_ecco("run", "saliency", "-m", "\x1b[31mred\u202e", "-t", "a")
    assert "\x1b" not in err
    assert "\u202e" not in err


def test_a_malformed_model_file_is_located(tmp_path):
    (tmp_path / "mine.yaml").write_text("schema: 1\nmodel_types: [x]\nstacks:\n  decoder: {block: h}\n")
    code, _, err = run_ecco("models", "list", ECCO_MODEL_REGISTRY=str(tmp_path))
    assert code == 2
    assert "mine.yaml:4:" in err


def test_models_list_and_show():
    code, out, _ = run_ecco("models", "list", "--json")
    listed = json.loads(out)
    assert code == 0
    assert "tiny:prose" in listed["offline"]
    assert {"gpt2", "llama", "gpt_neox"} <= {a["model_type"] for a in listed["architectures"]}
    code, out, _ = run_ecco("models", "show", "llama")
    assert code == 0
    assert "> mlp.down_proj" in out


def test_the_demo_explains_a_copied_token_and_writes_a_page(tmp_path):
    page = tmp_path / "demo.html"
    code, out, err = run_ecco("demo", "--save", str(page))
    assert code == 0, err
    for word in ("completeness error", "integrated gradients", "log-probability", "baseline", str(page)):
        assert word in out
    for question in ("Why ' Nora'?", "And why ' Nora' rather than ' Felix'?"):
        answer = out[out.index(question) :].splitlines()
        strongest = next(line for line in answer if line.startswith("  "))
        assert strongest.endswith("' Nora'")
    text = page.read_text(encoding="utf-8")
    assert "http://" not in text
    assert "https://" not in text
    assert "Traceback" not in err


def test_an_interrupt_ends_with_130(tmp_path):
    code = (
        "import ecco_core.session.opening as m\n"
        "from ecco_core.cli.main import main\n"
        "def stop(*a, **k): raise KeyboardInterrupt\n"
        "m.from_pretrained = stop\n"
        "main(['run', 'saliency', '-m', 'x', '-t', 'y'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.strip() == "Interrupted."


def test_lists_keep_the_blanks_of_tokens_and_none_that_numbers_have():
    text = ("-m", "tiny:prose", "-t", "The captain is called Nora", "-n", "0")
    code, out, err = run_ecco("run", "rankings_watch", *text, "--watch", " Nora, Felix")
    assert code == 0, err
    assert " Nora   Felix" in out
    code, out, err = run_ecco("run", "saliency", *text, "--targets", "3, 4", "--features", "0:2, 2:4")
    assert code == 0, err
    assert out.count("position ") == 2


def test_methods_of_several_texts_take_them_one_by_one_or_from_a_file(tmp_path):
    lines = tmp_path / "texts.txt"
    lines.write_text("Once upon a time there was a dog.\r\n\nThe dog was very happy that day.\n", encoding="utf-8")
    from_file = run_ecco("run", "rsa", "-m", "tiny:prose", "--texts", str(lines), "--layers", "0,1", "--bootstrap", "0")
    each = [part for line in lines.read_text().splitlines() if line for part in ("-t", line)]
    one_by_one = run_ecco("run", "rsa", "-m", "tiny:prose", *each, "--layers", "0,1", "--bootstrap", "0")
    assert from_file[0] == 0, from_file
    assert from_file[1:] == one_by_one[1:]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["saliency"], "saliency works on one text, found 0. Give each with -t, or a file with --texts."),
        (["saliency", "-t", "One", "-t", "Two"], "saliency works on one text, found 2."),
        (["probe", "--labels", "a,b"], "probe works on one text or more, found 0."),
        (["probe", "--texts", "{blank}"], "blank.txt': it has one on each line that is not blank."),
        (["probe", "--texts", "{missing}"], "No such file"),
    ],
)
def test_a_wrong_number_of_texts_is_said(tmp_path, arguments, told):
    (tmp_path / "blank.txt").write_text(" \n\n")
    files = {name: str(tmp_path / f"{name}.txt") for name in ("blank", "missing")}
    name, *rest = (argument.format(**files) for argument in arguments)
    code, out, err = run_ecco("run", name, "-m", "tiny:prose", *rest)
    assert (code, out) == (2, "")
    assert told in err
    assert "Traceback" not in err
