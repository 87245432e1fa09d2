"""Every figure, at both widths: no text covers another or leaves the figure, and what is drawn is legible."""

from __future__ import annotations

import pytest
from ecco_matplotlib import plot
from figure_results import FIGURES, collisions, curves, drawn, drawn_texts, figure_of

#: Drawn for a page too by other tests, or laid out differently there.
PAGES = ("scores", "scores of two stacks", "lens", "ranks", "predictions", "patterns", "components",
         "signed components", "grid", "curves", "points", "table")  # fmt: skip
SIZES = [(name, "column") for name in FIGURES] + [
    (name, "page") if name in PAGES else pytest.param(name, "page", marks=pytest.mark.slow) for name in FIGURES
]


@pytest.mark.parametrize(("name", "width"), SIZES)
def test_no_text_covers_another_or_leaves_the_figure(name, width, monkeypatch):
    figure = figure_of(drawn(name, width))
    assert collisions(figure, monkeypatch) == []
    assert figure.get_size_inches()[0] == {"column": 3.5, "page": 7.2}[width]
    assert figure.get_size_inches()[1] < 12
    assert min(text.get_fontsize() for text, _ in drawn_texts(figure, monkeypatch)) >= 3.4


def test_the_check_finds_what_overlaps_or_leaves(monkeypatch):
    figure = figure_of(plot(curves()))
    figure.text(0.5, 0.5, "one")
    figure.text(0.5, 0.5, "other")
    figure.text(0.99, 0.2, "beyond the edge")
    found = "\n".join(collisions(figure, monkeypatch))
    assert "'one' and 'other' overlap" in found
    assert "'beyond the edge' leaves the figure" in found
