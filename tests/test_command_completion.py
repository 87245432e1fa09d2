"""Completion on the command line: what a shell is offered for what is typed so far."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys

import pytest
from click.shell_completion import get_completion_class

from ecco_core.cli import completion
from ecco_core.cli.main import COMPLETE, main, program
from ecco_core.plugin.manager import plugins


def offered(monkeypatch, *words):
    """What bash is offered for the last of the words after ``ecco``, which it has cut at colons."""
    monkeypatch.setenv(COMPLETE, "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "\n".join(["ecco", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit):
        main([])
    assert err.getvalue() == ""
    return [line for line in out.buffer.getvalue().decode().splitlines() if line]


def test_commands_and_methods_are_completed(monkeypatch):
    commands = offered(monkeypatch, "")
    assert {"plain,run", "plain,report", "plain,compare", "plain,show", "plain,completion"} <= {*commands}
    names = {offer.spec.name for offer in plugins().offers("ecco_analyses")}
    assert {*offered(monkeypatch, "run", "")} == {f"plain,{name}" for name in names}
    assert offered(monkeypatch, "report", "saliency", "logit_l") == ["plain,logit_lens"]
    assert offered(monkeypatch, "compare", "input_x") == ["plain,input_x_gradient"]
    assert offered(monkeypatch, "compare", "logit_l") == []  # it scores no tokens


def test_options_and_their_values_are_completed(monkeypatch):
    assert offered(monkeypatch, "run", "ig", "--n-s") == ["plain,--n-steps"]
    assert offered(monkeypatch, "report", "saliency", "--targets", "3", "ig", "--n-s") == ["plain,--n-steps"]
    assert offered(monkeypatch, "run", "ig", "--score", "log") == ["plain,logprob", "plain,logit"]
    assert offered(monkeypatch, "run", "no_such_method", "--n") == []


def test_models_are_completed_also_after_the_colon_at_which_bash_cuts(monkeypatch):
    assert "plain,tiny:prose" in offered(monkeypatch, "run", "ig", "-m", "ti")
    assert "plain,prose" in offered(monkeypatch, "run", "ig", "-m", "tiny", ":")
    assert offered(monkeypatch, "run", "ig", "-m", "tiny", ":", "pr") == ["plain,prose"]
    assert offered(monkeypatch, "run", "ig", "-m", "mod") == ["dir,mod"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_printed(shell, capsys):
    with contextlib.suppress(SystemExit):
        main(["completion", shell])
    script = capsys.readouterr().out
    assert f"{COMPLETE}={shell}_complete" in script
    assert script == get_completion_class(shell)(program, {}, "ecco", COMPLETE).source()


def test_bash_runs_the_script(capsys, tmp_path):
    with contextlib.suppress(SystemExit):
        main(["completion", "bash"])
    script = tmp_path / "ecco.bash"
    script.write_text(capsys.readouterr().out)
    program_file = tmp_path / "ecco"
    program_file.write_text(f"#!/bin/sh\nexec {sys.executable} -m ecco_core.cli\n")
    program_file.chmod(0o755)
    asked = f"source {script}; COMP_WORDS=(ecco run ig -m tiny : pr) COMP_CWORD=6; _ecco_completion {program_file}"
    done = subprocess.run(["bash", "--norc", "-c", f'{asked}; echo "$COMPREPLY"'], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("prose\n", "")


def test_what_is_pressed_often_imports_no_torch():
    words = [("",), ("run", ""), ("run", "ig", "-m", "ti"), ("report", "saliency", "nm"), ("compare", "s")]
    code = f"""
import sys
from ecco_core.cli.completion import Bash
from ecco_core.cli.main import program
for *before, last in {words}:
    assert Bash(program, {{}}, "ecco", "").get_completions(before, last)
assert not {{"torch", "transformers", "captum"}} & {{*sys.modules}}
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_words_are_joined_only_where_there_is_a_colon(monkeypatch):
    shell = completion.Bash(program, {}, "ecco", COMPLETE)
    for words, args, last in (
        ("ecco run ig -m tiny", ["run", "ig", "-m"], "tiny"),
        ("ecco run ig -m tiny :", ["run", "ig", "-m"], "tiny:"),
        ("ecco run ig -m tiny : pr", ["run", "ig", "-m"], "tiny:pr"),
    ):
        monkeypatch.setenv("COMP_WORDS", words.replace(" ", "\n"))
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        assert shell.get_completion_args() == (args, last)
