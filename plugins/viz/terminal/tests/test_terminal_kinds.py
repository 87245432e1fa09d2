"""The views of single kinds: what they show are the result's numbers."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from ecco_terminal.blocks import render
from hypothesis import given, settings, strategies as st
from terminal_examples import every_kind, tokens

from ecco_core import Components, Curves, Grid, LabelledArray, Patterns, Points, Predictions, TokenGrid

SGR = re.compile(r"\x1b\[[0-9;]*m")


def bare(result, **options):
    return SGR.sub("", render(result, **{"width": 80, "colour": "none", **options}))


def example(kind):
    return next(r for r in every_kind() if type(r) is kind)


def test_bars_of_predictions_are_as_long_as_their_probabilities():
    values = LabelledArray([[0.8, 0.2, 0.1], [0.4, 0.3, 0.0]], ("layer", "rank"))
    texts = LabelledArray(np.array([[" a", "b", "c"], ["d", "e", "f"]], dtype=object), ("layer", "rank"))
    lines = bare(Predictions(title="P", values=values, texts=texts)).split("\n")
    assert lines[2].split() == ["layer", "0", "layer", "1"]
    found = re.findall(r"'(.*?)' +(█*) (\d\.\d{3})", "\n".join(lines))
    assert [(t, p) for t, _, p in found] == [(" a", "0.800"), ("d", "0.400"), ("b", "0.200"), ("e", "0.300"),
                                             ("c", "0.100"), ("f", "0.000")]  # fmt: skip
    longest = len(found[0][1])
    assert longest > 20
    assert all(abs(len(bar) - float(p) / 0.8 * longest) <= 1 for _, bar, p in found)
    many = Predictions(title="P", values=LabelledArray(np.full((40, 9), 0.1), ("layer", "rank")),
                       texts=LabelledArray(np.full((40, 9), "x", dtype=object), ("layer", "rank")))  # fmt: skip
    assert "4 candidates left out" in bare(many)
    assert "28 rows along layer left out" in bare(many)


@pytest.mark.parametrize("signed", [False, True])
def test_sparklines_are_the_activations(signed):
    row = np.array([0.0, 1, 2, 4, 8, 1, 0, 8]) * ([1, 1, 1, 1, 1, -1, 1, -1] if signed else 1)
    result = Components(title="C", values=LabelledArray([row], ("component", "token")), tokens=tokens("abcdefgh"),
                        loadings=LabelledArray([[0.1, -0.9, 0.5]], ("component", "unit"), {"unit": ["x", "y", "z"]}),
                        quality={"fit": 0.5})  # fmt: skip
    text = bare(result)
    assert ("0  ▁▂▄█  -" if signed else "0  ▁▂▄█▁ █") in text
    assert f"{row.min():g} to 8; most of y -0.9, z +0.5, x +0.1; at 4 e, 7 h, 3 d" in text.replace("\n   ", " ")
    assert "fit: fit 0.5" in text
    assert "a column stands for 2 tokens, the strongest is shown" in bare(example(Components), width=60).replace(
        "\n", " ")  # fmt: skip


def test_a_chart_has_each_curve_where_its_numbers_are():
    values = LabelledArray([[0.0, 1.0], [1.0, 1.0], [0.5, np.nan]], ("curve", "x"), {"curve": ["up", "top", "half"]})
    lines = bare(Curves(title="C", values=values)).split("\n")
    top, middle, bottom = lines[2], lines[7], lines[12]
    assert re.fullmatch(r" +1 ┤b·+\+ *", top), "two curves end there"
    assert re.fullmatch(r" +0.5 ┤c.*", middle)
    assert re.fullmatch(r" +0 ┤a.*", bottom)
    assert {"a up", "b top", "c half", "+ several of them"} <= set(lines)


def test_intervals_stand_beside_the_numbers_and_a_flat_null_in_words():
    values = np.array([[1.0, 0.84], [0.84, 1.0]])
    dims = ("layer", "other")
    arrays = {"low": values - 0.04, "high": values + 0.04, "null": np.array([[0.01, 0.02], [0.02, 0.01]])}
    result = Grid(
        title="G", values=LabelledArray(values, dims), **{k: LabelledArray(v, dims) for k, v in arrays.items()}
    )
    text = bare(result)
    assert "0.84 .80–.88" in text
    assert "by chance (null): 0.01 to 0.02" in text
    assert "by chance (null)\n" in bare(example(Grid)), "one that varies is a map of its own"


def test_points_stand_where_they_are():
    places = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, np.nan]])
    result = Points(title="P", values=LabelledArray(places, ("point", "axis")), labels=("low", "right", "left", "none"))
    lines = bare(result).split("\n")
    assert lines[2].startswith("│ •left")
    assert lines[2].endswith("right•")
    assert lines[21].startswith("│ •low")
    assert "1 labels left out" in bare(result)


def test_maps_of_attention_are_darkest_where_it_looks():
    weights = np.zeros((2, 2, 4, 4))
    weights[0, :, :, 0] = 1
    weights[1] = np.eye(4)
    result = Patterns(title="A", values=LabelledArray(weights, ("layer", "head", "query", "key")),
                      tokens={"decoder": tokens(["The", " cat", " sat", "."])})  # fmt: skip
    text = bare(result)
    assert "layer 0  layer 1" in text
    assert "█        ██" in text
    assert "█          ██" in text
    assert "layer 0  0 'The' 1" in text
    assert "layer 1  3 '.' 1" in text
    assert "the mean over 2 heads" in text
    coloured = render(result, width=80, colour="truecolor")
    assert coloured.count("▀") == 2 * 2 * 4


def test_the_best_rank_is_the_strongest():
    values = LabelledArray([[1, 60], [900, 2000]], ("layer", "position"))
    result = TokenGrid(title="R", quantity="rank among 4,096 tokens, 1 is the best", values=values)
    text = render(result, width=80, colour="truecolor", theme="dark")
    assert "1 (best)" in text
    grounds = [sum(map(int, m)) for m in re.findall(r"48;2;(\d+);(\d+);(\d+)m +(?:1|60|900|2000) ", text)]
    assert grounds == sorted(grounds, reverse=True)
    assert len(grounds) == 4


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 6), st.integers(0, 5), st.sampled_from([np.nan, np.inf, 0.0, -2.5, 1e300]), st.integers(20, 60))
def test_odd_shapes_and_numbers_are_shown(rows, columns, number, width):
    square = np.full((rows, columns), number)
    texts = LabelledArray(np.full((rows, columns), "x", dtype=object), ("a", "b"))
    array = LabelledArray(square, ("a", "b"))
    attention = LabelledArray(np.full((1, 1, max(rows, 1), max(columns, 1)), abs(number)), ("layer", "head", "q", "k"))
    made = (Predictions(values=array, texts=texts), Components(values=array, loadings=array), Grid(values=array),
            Curves(values=array, low=array, high=array), Points(values=array), Patterns(values=attention))  # fmt: skip
    for result in made:
        assert max(map(len, bare(result, width=width).split("\n"))) <= width


def test_the_users_random_numbers_are_left_alone():
    script = (
        f"import random, sys; sys.path[:0] = {sys.path!r}\nfrom terminal_examples import every_kind\n"
        "from ecco_terminal.blocks import render\nbefore = random.getstate()\n"
        "render(every_kind()[2], width=40)\nprint(random.getstate() == before)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "True"
