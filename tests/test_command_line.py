"""The ``ecco`` program as a stranger meets it: output, exit codes, one line per mistake."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import ecco_core as ecco
from ecco_core.cli.main import main

BROKEN = Path(__file__).parent / "data" / "plugins"
PROMPT = "The captain is called Nora. The cook is called"


def run_ecco(*arguments, stdin=b"", plugins=(), **environment):
    """Run the program, in a process of its own where plugins or variables are given; (exit code, stdout, stderr)."""
    if plugins or environment:
        path = os.pathsep.join(str(BROKEN / p) for p in plugins)
        env = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "COLUMNS": "100", **environment}
        done = subprocess.run(
            [sys.executable, "-m", "ecco_core.cli", *arguments], capture_output=True, text=True, env=env, timeout=300
        )
        return done.returncode, done.stdout, done.stderr
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        try:
            main([*arguments])
        except SystemExit as left:
            code = left.code
    return code, out.getvalue(), err.getvalue()


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


def test_an_interrupt_ends_with_130(monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ecco_core.session.opening.from_pretrained", stop)
    code, out, err = run_ecco("run", "saliency", "-m", "x", "-t", "y")
    assert (code, out, err.strip()) == (130, "", "Interrupted.")


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
        (["saliency"], "There is no text: give one with -t, or a file of texts with --texts."),
        (["probe", "--texts", "{blank}"], "blank.txt': it has one on each line that is not blank."),
        (["probe", "--texts", "{missing}"], "No such file"),
        (["probe", "--texts", "{binary}"], "binary.txt' is not UTF-8 text: invalid start byte at byte 1."),
        (["saliency", "-t", "-"], "The prompt is empty"),
        (
            ["saliency", "-t", "One", "-t", "two " * 600],
            "'two two two two two two two two two two…': The prompt has 60",
        ),
        (["saliency", "-t", "a", "-g", "temperature"], "'temperature' is not written as name=value"),
        (["saliency", "-t", "a", "-g", "text=b"], "text is given with -t."),
        (["saliency", "-t", "a", "-g", "no_such=1"], "no_such"),
        (["saliency", "-t", "a", "-n", "-1"], "-1 is not in the range x>=0"),
        (["saliency", "-t", "a", "--device", "abacus"], "cannot be put on the device 'abacus'"),
        (["apply_probe", "-t", "a", "--fitted", "{binary}"], "binary.txt' "),
    ],
)
def test_texts_and_generation_that_do_not_fit_are_said(tmp_path, arguments, told):
    (tmp_path / "blank.txt").write_text(" \n\n")
    (tmp_path / "binary.txt").write_bytes(b"a\xff\xfeb")
    files = {name: str(tmp_path / f"{name}.txt") for name in ("blank", "missing", "binary")}
    name, *rest = (argument.format(**files) for argument in arguments)
    code, out, err = run_ecco("run", name, "-m", "tiny:prose", *rest)
    assert (code, out) == (2, "")
    assert told in err
    assert len(err.strip().splitlines()) == 1


def scores_of(text, model="tiny:prose", **options):
    """What the library says of a text, as JSON has it."""
    lm = ecco.from_pretrained(model)
    return json.loads(json.dumps(lm(text).analyze("saliency", **options).values.values.tolist()))


def test_json_is_one_document_and_nothing_else_is_on_standard_output():
    asked = ("run", "saliency", "-m", "tiny:prose", "-n", "0", "--targets=-1", "--json")
    code, out, err = run_ecco(*asked, "-t", PROMPT, "--stream")
    assert (code, err) == (0, "")
    one = json.loads(out, parse_constant=pytest.fail)
    assert one["kinds"] == ["TokenScores", "Result"]
    assert one["values"]["values"] == scores_of(PROMPT, targets=[-1])
    code, out, _ = run_ecco(*asked, "-t", PROMPT, "-t", "The cook is called Felix.")
    several = json.loads(out)
    assert [result["values"]["values"] for result in several] == [
        scores_of(text, targets=[-1]) for text in (PROMPT, "The cook is called Felix.")
    ]
    assert several[1]["title"].endswith(": 'The cook is called Felix.'")


def test_standard_input_and_files_give_the_texts_that_arguments_give(tmp_path):
    asked = ("run", "predict", "-m", "tiny:prose", "-n", "0")
    texts = ["Él llamó: «¡café!»", "The captain is"]
    (tmp_path / "texts.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(texts).encode())
    expected = run_ecco(*asked, "-t", texts[0], "-t", texts[1])
    assert expected[0] == 0
    assert run_ecco(*asked, "--texts", str(tmp_path / "texts.txt")) == expected
    assert run_ecco(*asked, "--texts", "-", stdin="\n".join(texts).encode()) == expected
    assert run_ecco(*asked, "-t", "-", "-t", texts[1], stdin=texts[0].encode() + b"\n") == expected


def test_an_answer_is_generated_as_asked_and_streamed_to_standard_error():
    lm = ecco.from_pretrained("tiny:prose")
    sampled = lm.generate(PROMPT, 4, do_sample=True, temperature=3.0, seed=7)
    assert sampled.output_text != lm.generate(PROMPT, 4).output_text
    options = [word for one in ("do_sample=True", "temperature=3", "seed=7") for word in ("-g", one)]
    asked = ("run", "raw_attention", "-m", "tiny:prose", "-t", PROMPT, "-n", "4", "--json", "--stream", *options)
    code, out, err = run_ecco(*asked)
    assert code == 0, err
    assert json.loads(out)["tokens"]["decoder"]["ids"] == list(map(int, sampled.tokens.ids))
    assert err == f"{sampled.output_text}\n"


def test_models_are_opened_in_the_numbers_asked_for():
    code, out, _ = run_ecco("run", "predict", "-m", "tiny:prose", "-t", "a", "--dtype", "bfloat16", "--json")
    assert code == 0
    assert json.loads(out)["provenance"]["precision"] == "bfloat16"


def test_two_models_answer_one_by_one_or_are_compared():
    models, text = ("-m", "tiny:prose", "-m", "tiny:masked"), "the captain is called nora and the cook felix."
    code, out, _ = run_ecco("run", "cka", *models, "-t", text, "--bootstrap", "0", "--permutations", "0", "--json")
    assert code == 0
    lms = [ecco.from_pretrained(name) for name in models[1::2]]
    expected = ecco.analyze("cka", [lm(text) for lm in lms], bootstrap=0, permutations=0)
    assert json.loads(out)["values"]["values"] == expected.values.values.tolist()
    code, out, err = run_ecco("run", "predict", *models, "-t", "The captain is", "-n", "0", "--json")
    assert code == 2
    assert "by tiny:masked" in err
    code, out, _ = run_ecco("run", "attention", *models, "-t", "the captain", "-n", "0", "--json")
    assert [one["title"].rpartition(" by ")[2] for one in json.loads(out)] == list(models[1::2])
    code, _, err = run_ecco("compare", *models, "-t", text)
    assert code == 2
    assert "ecco run cka -m MODEL -m OTHER" in err


def test_a_saved_result_is_an_option(tmp_path):
    lm = ecco.from_pretrained("tiny:prose")
    probe = lm(PROMPT).analyze("fit_probe", labels=["a", "b"] * 5, layers=2).save(tmp_path / "probe.ecco")
    given = ("-m", "tiny:prose", "-t", PROMPT, "-n", "0")
    code, out, err = run_ecco("run", "apply_probe", *given, "--fitted", str(probe), "--json")
    assert code == 0, err
    assert json.loads(out)["values"]["values"]
    grid = str(lm(PROMPT).analyze("logit_lens").save(tmp_path / "lens.ecco"))
    code, _, err = run_ecco("run", "apply_probe", *given, "--fitted", grid)
    assert code == 2
    assert "holds a TokenGrid, not a Fitted" in err


def test_a_report_is_made_of_methods_with_their_options(tmp_path):
    saved = str(tmp_path / "all.ecco")
    methods = ("saliency", "--targets=-1", "--save", saved, "nmf", "--n-components", "2", "-n", "0", "saliency")
    code, out, err = run_ecco("report", "-m", "tiny:prose", *methods, "--contrast", " Nora", "-t", PROMPT)
    assert (code, out) == (0, ""), err
    results = ecco.load(saved).results
    assert [one.provenance.analysis for one in results] == ["saliency", "nmf", "saliency"]
    assert len(results[0].targets) == 1
    assert results[1].values.size("component") == 2
    assert results[2].targets[0].contrast_text == " Nora"
    page = tmp_path / "page.html"
    code, out, _ = run_ecco("report", saved, "--save", str(page))
    assert (code, out) == (0, "")
    assert page.read_text(encoding="utf-8").count("NMF: 2 components") >= 1


def test_a_report_without_methods_has_the_usual_ones_that_fit():
    code, out, err = run_ecco("report", "-m", "tiny:classifier", "-t", "Wonderful acting.", "--json")
    assert code == 0
    analyses = [one["provenance"]["analysis"] for one in json.loads(out)]
    assert analyses == ["integrated_gradients", "attention", "nmf"]
    assert err.startswith("logit_lens is left out: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["report"], "Missing option '-m'"),
        (["report", "saliency", "-t", "a"], "Missing option '-m'"),
        (["report", "salency", "-m", "tiny:prose", "-t", "a"], "Did you mean 'saliency'?"),
        (["report", "no.ecco"], "No file 'no.ecco'"),
        (["report", "why.html"], "No file 'why.html'"),
        (["report", "no.ecco", "-t", "a"], "Saved results need no model"),
        (["report", "-m", "tiny:prose", "-t", "a", "saliency", "--n-components", "3"], "No such option"),
        (["show"], "Missing argument 'FILE...'"),
        (["show", "\x1b[31m.ecco"], "No file '\\x1b[31m.ecco'"),
        (["compare", "nmf", "-m", "tiny:prose", "-t", "a b"], "'nmf' scores no tokens"),
        (["compare", "saliency", "-t", "a"], "Missing option '-m'"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
    ],
)
def test_mistakes_of_reports_and_comparisons_are_one_line(arguments, told):
    code, out, err = run_ecco(*arguments)
    assert (code, out) == (2, "")
    assert told in err
    assert len(err.strip().splitlines()) == 1


def test_methods_are_compared_by_their_faithfulness(tmp_path):
    saved = str(tmp_path / "compared.ecco")
    given = ("-m", "tiny:classifier", "-t", "The acting was wonderful.", "--metrics", "deletion", "--save", saved)
    code, out, err = run_ecco("compare", "saliency", "lrp", *given)
    assert code == 0, err
    assert "Which explanation to believe: 2 methods" in out
    lm = ecco.from_pretrained("tiny:classifier")
    expected = lm("The acting was wonderful.").analyze(
        "faithfulness", methods=["saliency", "lrp"], metrics=["deletion"]
    )
    assert ecco.load(saved).rows == expected.rows
    code, out, _ = run_ecco("compare", *given)
    assert "Which explanation to believe: 3 methods" in out
    shown = run_ecco("show", saved)
    assert shown == (0, out, "")


def test_a_comparison_without_its_plugin_is_told_the_install():
    code, _, err = run_ecco("compare", "-m", "x", "-t", "y", ECCO_BLOCK_PLUGINS="ecco-faithfulness")
    assert code == 2
    assert "pip install ecco-faithfulness" in err


def test_a_saved_result_is_shown_and_written_as_something_else(tmp_path):
    result = ecco.from_pretrained("tiny:prose")(PROMPT).analyze("logit_lens", positions=[3, 4])
    saved, text = str(result.save(tmp_path / "lens.ecco")), tmp_path / "lens.txt"
    code, out, err = run_ecco("show", saved, "--save", str(text))
    assert (code, out.rstrip("\n")) == (0, result.to_text())
    assert text.read_text(encoding="utf-8").rstrip("\n") == result.to_text()
    assert str(text) in err
    two = json.loads(run_ecco("show", saved, saved, "--json")[1])
    assert two[0] == two[1] == json.loads(result.save(tmp_path / "lens.json").read_text(encoding="utf-8"))


def test_a_warning_is_one_line(monkeypatch):
    real = ecco.from_pretrained("tiny:prose")
    monkeypatch.setattr(
        "ecco_core.session.opening.from_pretrained",
        lambda *_, **__: warnings.warn("its\nweights", stacklevel=1) or real,
    )
    code, _, err = run_ecco("run", "predict", "-m", "x", "-t", "a", "-n", "0")
    assert (code, err) == (0, "Warning: its weights\n")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["models", "list"]])
def test_a_closed_pipe_is_quiet(arguments):
    read, write = os.pipe()
    os.close(read)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-m", "ecco_core.cli", *arguments], stdout=write, stderr=subprocess.PIPE, env=env
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("columns", ["60", "80", "120"])
def test_help_keeps_to_the_width_and_tells_every_option(monkeypatch, columns):
    from ecco_core.plugin.manager import plugins

    monkeypatch.setenv("COLUMNS", columns)
    listing = run_ecco("run", "--help")[1]
    for offer in plugins().offers("ecco_analyses"):
        assert f"  {offer.spec.name} " in listing or f"  {offer.spec.name}\n" in listing
    for command in (["--help"], ["run", "--help"], ["run", "saliency", "--help"], ["compare", "--help"]):
        code, out, _ = run_ecco(*command)
        assert code == 0
        whole = ("[", "--score [", "--replacement [", "ecco ")  # a choice is one word, an example one line
        long = [line for line in out.splitlines() if len(line) > min(int(columns), 100)]
        assert not [line for line in long if not line.strip().startswith(whole)]


def test_help_of_a_method_has_its_options_its_other_names_and_its_paper():
    code, out, _ = run_ecco("run", "ig", "--help")
    assert code == 0
    for word in (
        "Also called integrated_gradients.",
        "Sundararajan",
        "Options of integrated_gradients:",
        "--n-steps INT",
    ):
        assert word in out
    assert out.index("--n-steps") < out.index("Model, texts and output:") < out.index("--generation")


def test_the_page_about_the_command_line_shows_what_is_printed(tmp_path, monkeypatch):
    page = (Path(__file__).parent.parent / "docs" / "command-line.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\$ ecco (.+)\n((?:(?![$`]).*\n)+)", page, re.MULTILINE)
    assert len(shown) >= 9
    monkeypatch.chdir(tmp_path)
    for command, told in shown:
        code, out, err = run_ecco(*shlex.split(command))
        printed = (out + err).splitlines()
        assert (code, len(printed) >= len(told.splitlines())) == (0, True), command
        for line, real in zip(told.splitlines(), printed):
            start, cut, _ = line.partition("...")  # long ones are cut on the page
            assert numberless(real)[: len(numberless(start))] == numberless(start)
            assert cut or numberless(real) == numberless(line)


def numberless(text):
    """A line without its numbers, which differ a little from machine to machine, and the blanks that align them."""
    return re.sub(r"[\s\d.e+-]+", " ", text).strip()


def test_a_mark_of_the_byte_order_is_no_part_of_the_text():
    given = ("run", "saliency", "-m", "tiny:prose", "-n", "1", "--json", "-t", "-")
    plain, marked = (run_ecco(*given, stdin=begun + b"The captain")[1] for begun in (b"", b"\xef\xbb\xbf"))
    assert json.loads(plain)["tokens"] == json.loads(marked)["tokens"]


@pytest.mark.parametrize(
    ("option", "value", "told"), [("--dtype", "float17", "No dtype 'float17'"), ("-n", "-1", "x>=0")]
)
def test_a_number_that_there_is_not_is_said(option, value, told):
    code, out, err = run_ecco("run", "saliency", "-m", "tiny:prose", "-t", "The captain", option, value)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err
