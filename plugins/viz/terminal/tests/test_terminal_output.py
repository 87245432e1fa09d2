"""What reaches the terminal: every kind, every width, hostile texts, with and without colours."""

import re
import subprocess
import sys
import unicodedata

import ecco_terminal
import numpy as np
import pytest
from ecco_terminal import blocks, report, token_scores as scores_view
from hypothesis import given, settings, strategies as st
from rich.cells import cell_len
from terminal_examples import every_kind, token_scores

from ecco_core import Heat, LabelledArray, OptionError, Report, Result, Rows, Table, TokenGrid, TokenScores
from ecco_core.data.results import RESULT_KINDS

SGR = re.compile(r"\x1b\[[0-9;]*m")
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")
SYSTEMS = ("truecolor", "256", "16", "none")
hostile = st.text(st.characters(codec=None) | st.sampled_from("\x1b\x9b\u202e\ud800\u200d\ufe0f[]/ \n\r"), max_size=12)


def render(result, **options):
    view = {TokenScores: scores_view, Report: report}.get(type(result), blocks)
    return view.render(result, **options)


def check(text, width):
    """The output's promises: our own codes only, encodable, never wider than asked."""
    text.encode("utf-8")
    bare = SGR.sub("", text)
    bad = {c for c in bare if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert not bad - {"\u200c", "\u200d"}, f"{bad!r}"
    for line in bare.split("\n"):
        assert cell_len(line) <= width, (cell_len(line), line)
    return bare


def test_all_kinds_are_examples():
    assert [type(r) for r in every_kind()] == list(RESULT_KINDS)


@pytest.mark.parametrize("result", every_kind(), ids=lambda r: r.kinds()[0])
@pytest.mark.parametrize("colour", SYSTEMS)
@pytest.mark.parametrize("width", [20, 40, 81, 200])
def test_every_kind_at_every_width(result, colour, width):
    text = render(result, width=width, colour=colour)
    bare = check(text, width)
    assert result.title.split()[0] in bare
    assert bool(COLOUR.search(text)) == (colour != "none") or isinstance(result, (Table,)) or not result.arrays()


@pytest.mark.parametrize("result", every_kind(), ids=lambda r: r.kinds()[0])
def test_the_environment_can_forbid_colours_and_codes(result, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not COLOUR.search(render(result, width=80))
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in render(result, width=80)


def test_colour_pattern_finds_colours():
    for code in ("\x1b[31m", "\x1b[1;38;2;1;2;3m", "\x1b[4;48;5;3m", "\x1b[97m", "\x1b[100m"):
        assert COLOUR.search(code)
    assert not COLOUR.search("\x1b[1;4;2m\x1b[0m")


@settings(deadline=None, max_examples=150)
@given(st.lists(hostile, min_size=1, max_size=8), st.sampled_from(SYSTEMS), st.integers(20, 90), st.data())
def test_no_token_acts_on_the_terminal(texts, colour, width, data):
    position = data.draw(st.integers(0, len(texts)))
    result = token_scores(texts, positions=(position, 0), n_input_tokens=1, title=texts[0], notes=texts[:2],
                          baseline=texts[-1], target_text=texts[-1])  # fmt: skip
    check(render(result, width=width, colour=colour), width)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(hostile, hostile), min_size=1, max_size=5),
    hostile,
    st.sampled_from(SYSTEMS),
    st.integers(20, 80),
)
def test_no_label_or_cell_acts_on_the_terminal(cells, title, colour, width):
    texts = np.empty((len(cells), 2), dtype=object)
    texts[:] = cells
    labels = {"layer": [a for a, _ in cells], "position": cells[0]}
    values = LabelledArray(np.random.default_rng(0).random(texts.shape), ("layer", "position"), labels)
    check(render(TokenGrid(title=title, values=values, texts=LabelledArray(texts, values.dims)), width=width,
                 colour=colour), width)  # fmt: skip
    check(render(Table(title=title, columns=cells[0], rows=cells, notes=(title,)), width=width, colour=colour), width)


class Odd(Result):
    """Blocks as a third party may make them."""

    def blocks(self):
        yield Heat(title="3d", values=LabelledArray(np.arange(12).reshape(2, 3, 2), ("a", "b", "c")))
        yield Heat(title="1d", values=LabelledArray(np.array([np.nan, np.inf, -np.inf, 2]), ("a",)))
        yield Heat(title="0d", values=LabelledArray(np.array(3.0), ()))
        yield Heat(title="empty", values=LabelledArray(np.zeros((0, 3)), ("a", "b")))
        yield Heat(title="none", values=LabelledArray(np.zeros((3, 0)), ("a", "b")))
        yield Heat(title="bool", values=LabelledArray(np.eye(3, dtype=bool), ("a", "b")))
        yield Heat(title="words", values=LabelledArray(np.array([["x", None]], dtype=object), ("a", "b")))
        yield Rows(title="no columns", columns=(), rows=())
        yield Rows(title="wide", columns=tuple("abcdefghijklmnopqrst"), rows=(tuple(range(10**6, 10**6 + 20)),))


@pytest.mark.parametrize("colour", SYSTEMS)
@pytest.mark.parametrize("width", [20, 80])
def test_odd_blocks(colour, width):
    bare = check(render(Odd(title="odd"), width=width, colour=colour), width)
    assert width == 80 or "more columns" in bare.replace("\n", " ")
    assert "1000000" in bare, "a number is never cut"


def test_too_narrow_is_an_error():
    with pytest.raises(OptionError, match="20"):
        render(token_scores(), width=19)


def test_the_terminal_gives_the_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "47")
    check(render(token_scores()), 47)
    monkeypatch.setenv("COLUMNS", "3")
    check(render(token_scores()), 20)


def test_wide_characters_fill_the_line_exactly():
    text = render(token_scores(["日本語" * 30, "👩‍🚀" * 9], positions=(1,)), width=41, colour="truecolor")
    lines = [line for line in SGR.sub("", text).split("\n") if "日本" in line]
    assert {cell_len(line) for line in lines if "'" not in line} == {41}


def test_columns_with_names_keep_them_and_their_numbers():
    labels = {"position": [f"{p} token" for p in range(12)]}
    values = LabelledArray(np.arange(24.0).reshape(2, 12) / 7, ("layer", "position"), labels)
    text = SGR.sub("", render(TokenGrid(title="Norms", values=values), width=60, colour="truecolor"))
    assert all(label in text for label in labels["position"])
    assert "3.29" in text


def test_core_finds_the_renderers(tmp_path, monkeypatch):
    from ecco_core.rendering import render as core_render

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("COLORTERM", raising=False)
    for result in every_kind():
        assert core_render(result, "text/x-ansi", width=80) == render(result, width=80)
    path = token_scores().save(tmp_path / "why.ansi", width=60, target=8)
    check(path.read_text(encoding="utf-8"), 60)
    assert "\x1b[" in path.read_text(encoding="utf-8")


def test_import_is_light():
    script = (
        "import sys, ecco_terminal; ecco_terminal.ecco_renderers();"
        "print(sorted({'rich', 'numpy', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_specs_load_and_their_options_are_readable():
    from ecco_core.options import options_of

    for spec in ecco_terminal.ecco_renderers():
        options = options_of(spec.load())
        assert {"width", "colour", "theme"} <= set(options)
        assert all(o.help for o in options.values())
