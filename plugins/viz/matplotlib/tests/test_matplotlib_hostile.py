"""Texts that would act, break markup or have no glyph, and results too large to draw whole."""

from __future__ import annotations

import io
import time
import warnings
import xml.etree.ElementTree as ElementTree

import attrs
import numpy as np
import pytest
from ecco_matplotlib import plot
from ecco_matplotlib.files import svg
from ecco_matplotlib.fonts import families_for
from figure_results import (
    FIGURES,
    HOSTILE,
    collisions,
    drawn_texts,
    figure_of,
    grid,
    lens,
    patterns,
    points,
    predictions,
    scores,
)

from ecco_core import Components, Curves, Grid, LabelledArray, Patterns, Provenance, Result, Rows, Table, TokenGrid

ALL = "".join(HOSTILE)


def hostile_results():
    n = len(HOSTILE)
    values = np.arange(n * n, dtype=float).reshape(n, n) % 7
    coords = {"a": HOSTILE, "b": HOSTILE}
    said = {"title": ALL[:200], "notes": (ALL,), "provenance": Provenance(analysis=ALL[:80], model=ALL[:80])}
    square = LabelledArray(values, ("a", "b"), coords)
    toks = scores(HOSTILE, 5).tokens["decoder"]
    return {
        "scores": (scores(HOSTILE, 5, **said), {}),
        "bars": (scores(HOSTILE, 5, **said), {"target": n - 1}),
        "text": (scores(HOSTILE, 5, **said), {"view": "text"}),
        "lens": (lens(3, list(HOSTILE), quantity=ALL, **said), {}),
        "head": (attrs.evolve(patterns(1, 1, HOSTILE), **said), {}),
        "lines": (attrs.evolve(patterns(1, 1, HOSTILE), **said), {"view": "lines"}),
        "components": (Components(values=LabelledArray(values, ("component", "token")), tokens=toks, quality={ALL: 1.0},
                                  loadings=LabelledArray(values, ("a", "b"), coords), **said), {}),
        "grid": (Grid(values=square, **said), {}),
        "curves": (Curves(values=square, **said), {}),
        "points": (attrs.evolve(points(n), labels=HOSTILE, **said), {}),
        "table": (Table(columns=HOSTILE[:4], rows=[HOSTILE[i : i + 4] for i in range(8)], **said), {}),
    }  # fmt: skip


OFTEN = ("scores", "text", "lens", "table")


@pytest.mark.parametrize(
    "name", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in hostile_results()]
)
def test_hostile_texts_are_drawn_as_they_are_and_do_nothing(name, monkeypatch):
    result, options = hostile_results()[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing glyph is a warning of matplotlib's
        figure = figure_of(plot(result, width=6, dpi=100, **options))
        assert collisions(figure, monkeypatch) == []
        data = svg(result, width=6, dpi=100, **options) if name == "text" else b"<svg/>"
    root = ElementTree.fromstring(data)
    assert not [e for e in root.iter() if str(e.tag).split("}")[-1] in ("script", "a", "image") and "data:" not
                in str(e.attrib)]  # fmt: skip
    for text, _ in drawn_texts(figure, monkeypatch):
        assert not text.get_parse_math()
        assert not text.get_usetex()
        assert not set("\x00\x07\x1b\u202e\ud83d") & set(text.get_text())


def test_a_dollar_stays_a_dollar(monkeypatch):
    figure = figure_of(plot(lens(3, ["$x_1$", "$a$", "\\$b$", "x^2_i"])))
    texts = " ".join(text.get_text() for text, _ in drawn_texts(figure, monkeypatch))
    for token in ("$x_1$", "\\$b$", "x^2_i"):
        assert token in texts


def test_characters_without_a_glyph_are_said(monkeypatch):
    _, missing = families_for("a\U0001341f")  # a hieroglyph
    figure = figure_of(plot(lens(2, ["a", "\ufffe", "c\U000e0fff", "d\U0001341f" if missing else "\U0001f9ff"])))
    texts = " ".join(text.get_text() for text, _ in drawn_texts(figure, monkeypatch))
    if missing:
        assert "d\\U0001341f" in texts
        assert "without a glyph in the fonts installed here" in texts


def test_a_font_is_found_for_what_the_base_font_lacks():
    assert families_for("abc…−·⏎é") == ([], frozenset())
    families, missing = families_for("漢字a\U0010fffd")
    assert "\U0010fffd" in missing
    assert families or {"漢", "字"} <= missing


def test_fonts_that_none_has_are_replaced_by_codes(monkeypatch):
    import ecco_matplotlib.words as words

    monkeypatch.setattr(words, "families_for", lambda characters: ([], frozenset("漢字") & frozenset(characters)))
    figure = figure_of(plot(lens(2, ["a", "漢字"])))
    texts = " ".join(text.get_text() for text, _ in drawn_texts(figure, monkeypatch))
    assert "\\u6f22" in texts
    assert "2 characters without a glyph in the fonts installed here: written as codes." in texts


def many_scores():
    return scores([f" t{i}" for i in range(2000)], 200)


def large_neurons():
    values = np.random.default_rng(1).normal(0, 1, (60, 700))
    return TokenGrid(title="Neurons", quantity="activation", values=LabelledArray(values, ("neuron", "token")))


LARGE = {
    "2,000 tokens × 200 targets": (many_scores, {}),
    "one target of 2,000 tokens": (many_scores, {"target": 1999}),
    "the text of 2,000 tokens": (many_scores, {"view": "text"}),
    "12 layers × 500 positions": (lambda: lens(12, [f" t{i}" for i in range(500)]), {}),
    "48 layers × 32 heads": (lambda: patterns(48, 32, ["a"] * 40), {}),
    "a head of 500 tokens": (lambda: patterns(1, 1, ["a"] * 500), {}),
    "60 neurons × 700 tokens": (large_neurons, {}),
    "100,000 points": (lambda: points(100_000), {}),
    "a grid of 99 × 99": (lambda: Grid(values=LabelledArray(np.random.default_rng(1).uniform(0, 1, (99, 99)),
                                                            ("layer", "other layer"))), {}),
    "3,000 rows": (lambda: Table(columns=("a", "b"), rows=[(i, "x") for i in range(3000)]), {}),
    "40 columns": (lambda: Table(columns=[f"column {i}" for i in range(40)], rows=[range(40)] * 3), {}),
    "400 predictions": (lambda: predictions(400), {}),
}  # fmt: skip


QUICK = ("2,000 tokens × 200 targets", "12 layers × 500 positions", "100,000 points", "3,000 rows")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LARGE]
)
def test_a_large_result_is_legible_and_says_what_is_left_out(name, monkeypatch):
    make, options = LARGE[name]
    result = make()
    began = time.process_time()
    figure = figure_of(plot(result, dpi=150, **options))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="pdf", dpi=150)
    assert time.process_time() - began < 20
    assert len(buffer.getvalue()) < 1_500_000
    assert collisions(figure, monkeypatch) == []
    assert figure.get_size_inches()[1] < 12
    said = " ".join(text.get_text() for text in figure.texts)
    assert any(word in said for word in ("left out", "One in", "stands for", "The first", "evenly", "is written"))


def test_what_is_drawn_together_is_not_lost():
    values = np.zeros((4, 2000))
    values[2, 777] = -5.0
    result = TokenGrid(title="One", quantity="activation", values=LabelledArray(values, ("neuron", "token")))
    (image,) = [*plot(result, width="column").collections, *plot(result, width="column").images]
    assert image.get_array().min() == -5.0
    assert image.get_array().shape[1] < 300


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Special(Grid):
    """A kind that inherits from one of core's."""


class Empty(Result):
    """A kind without anything to show."""

    def blocks(self):
        return iter([Rows(title="none", columns=("a",), rows=())] * 12)


def test_a_kind_that_inherits_is_drawn_as_its_parent():
    axes = plot(Special(values=grid().values, null=grid().null))
    assert [ax.get_title(loc="left") for ax in axes] == ["found", "by chance (null)"]
    assert len(plot(Empty())) == 8
    assert plot(Result(title="Nothing")).figure.texts


def test_every_kind_of_core_has_a_figure():
    import ecco_core

    kinds = {type(result).__name__ for result, _ in FIGURES.values()}
    results = {name for name in ecco_core.__all__ if isinstance(getattr(ecco_core, name), type)
               and issubclass(getattr(ecco_core, name), Result)}  # fmt: skip
    assert kinds >= results - {"Result", "Report", "report"}
    assert Patterns.__name__ in kinds
