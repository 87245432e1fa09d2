"""Arguments made by hypothesis: help and lists, or one line and exit code 2; never a traceback, nor a file."""

from __future__ import annotations

import collections
import contextlib
import io
import sys

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ecco_core.cli.main import COMMANDS, main

METHODS = [
    "saliency",
    "ig",
    "integrated_gradients",
    "occlusion",
    "lrp",
    "logit_lens",
    "cka",
    "nmf",
    "attention",
    "predict",
]
NAMES = [
    "-m",
    "--model",
    "-t",
    "--text",
    "--texts",
    "-n",
    "--max-new-tokens",
    "--output",
    "--task",
    "--save",
    "--targets",
]
NAMES += ["--score", "--contrast", "--n-steps", "--layers", "--json", "--no-json", "--features", "--baseline", "-g"]
NAMES += ["--plain", "--seed", "--position", "--measure", "--", "-", "-x", "---", "--=", "--save=", "--n-steps=x"]
VALUES = [
    "",
    " ",
    "0",
    "-1",
    "3",
    "1e999",
    "nan",
    "9" * 40,
    "x",
    "tiny:nope",
    "nope:prose",
    ":",
    "tiny:",
    "/",
    ".",
    "..",
]
VALUES += [
    "\\n",
    "a\\nb",
    "\\x1b[31m",
    "\\u202e",
    "\\ud800",
    "é",
    "😀",
    "x" * 5000,
    "../../etc/passwd",
    "/dev/null",
    "~",
]
VALUES += [
    "no.txt",
    "no.ecco",
    "no/x.html",
    "x.docx",
    ".",
    "1,2",
    ",",
    "1,x",
    "0:4",
    "{}",
    "[1]",
    "%s",
    "{0}",
    "$(id)",
    "*",
]
WORDS = st.one_of(
    st.sampled_from([*COMMANDS, "list", "show", "check", "detect", "verify", "bash", "--help", "-h", "--version"]),
    st.sampled_from(METHODS),
    st.sampled_from(NAMES),
    st.sampled_from([value.encode().decode("unicode_escape") if "\\" in value else value for value in VALUES]),
    st.text(st.characters(exclude_characters="\0"), max_size=8),  # no program can be given a zero
)
#: Begun as a user would, so that what is behind the first word is reached too; no model of these is there.
BEGINNINGS = [[], ["run"], ["run", "saliency", "-m", "tiny:nope", "-t", "a"], ["report", "-m", "tiny:nope", "-t", "a"]]
BEGINNINGS += [["show"], ["compare", "-m", "tiny:nope"], ["models"], ["models", "show"], ["plugins"], ["completion"]]
BEGINNINGS += [["run", "ig", "--help"], ["models", "-h"], *(["run", method] for method in METHODS)]


@st.composite
def arguments(draw):
    """What is typed behind ``ecco``."""
    return [*draw(st.sampled_from(BEGINNINGS)), *draw(st.lists(WORDS, max_size=5))]


def too_long(typed):
    """Whether it would do its work: that takes long, and is not what is tested."""
    asks = {"--help", "-h", "--version"} & {*typed}
    return not asks and ("demo" in typed or {"verify", "detect"} & {*typed} or typed[:2] == ["plugins", "check"])


def outcome(typed):
    """The exit code; what is no clean end fails here."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b""), encoding="utf-8"))
        try:
            main([*typed])
        except SystemExit as left:
            code = left.code
    told = err.getvalue()
    assert code in (0, 2), (code, told)
    assert "Traceback" not in out.getvalue() + told
    assert not any(character in out.getvalue() + told for character in "\x1b\u202e\x00\ud800")
    if code == 2 and not told.startswith("Usage:"):  # a group without a command shows its help
        assert told.startswith("Error: "), told
        assert told.count("\n") == 1, told
    return code


def fuzzed(count, folder, monkeypatch):
    monkeypatch.chdir(folder)
    codes = collections.Counter()

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(typed=arguments().filter(lambda typed: not too_long(typed)))
    def each(typed):
        codes[outcome(typed)] += 1

    each()
    assert not list(folder.iterdir())
    return codes


def test_whatever_is_typed_ends_in_one_line_or_in_help(tmp_path, monkeypatch):
    codes = fuzzed(200, tmp_path, monkeypatch)
    assert codes[2] > 100
    assert codes[0]  # mostly about 20, seldom as few as 3


@pytest.mark.slow
def test_five_thousand_command_lines(tmp_path, monkeypatch):
    codes = fuzzed(5000, tmp_path, monkeypatch)
    print(f"\n{codes}")
    assert codes[2] > 2500
    assert codes[0] > 100
