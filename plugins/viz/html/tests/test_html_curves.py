"""Curves: lines where the numbers say, every number beside them, nothing of a label's text alive."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import ecco_core as ecco

NAMES, LAYERS = ("hidden states", "neurons <b>"), (0, 2, 4)
VALUES = np.array([[0.1, 0.5, 0.9], [0.2, np.nan, 0.3]])


def curves(values=VALUES, names=NAMES, xs=LAYERS, width=0.05):
    coords = {"curve": names, "layer": xs}
    low, value, high = (ecco.LabelledArray(values + end, ("curve", "layer"), coords) for end in (-width, 0, width))
    return ecco.Curves(title="A <i>probe</i>", values=value, low=low, high=high)


def drawn(html):
    """The points of each line, and the polygons."""
    lines = [
        np.array([p.split(",") for p in points.split()], float)
        for points in re.findall('polyline points="(.*?)"', html)
    ]
    return lines, re.findall('<polygon points="(.*?)"', html)


def test_points_stand_where_the_numbers_say():
    html = curves().to_html()
    (first, second), bands = drawn(html)
    assert len(bands) == 2
    assert len(first) == 3
    assert len(second) == 2, "what is no number is left out"
    assert np.allclose(np.diff(first[:, 0]), np.diff(first[:, 0])[0])
    assert np.isclose(first[1, 1], first[[0, 2], 1].mean(), atol=0.1), "0.5 is half way between 0.1 and 0.9"
    assert first[0, 1] > second[0, 1] > first[2, 1], "larger is higher"


def test_unequal_steps_and_names_on_the_axis():
    (line, _), _ = drawn(curves(xs=(0, 1, 10)).to_html())
    assert np.isclose((line[1, 0] - line[0, 0]) * 10, line[2, 0] - line[0, 0], atol=1)
    (line, _), _ = drawn(curves(xs=("a", "b", "c")).to_html())
    assert np.isclose(line[1, 0] - line[0, 0], line[2, 0] - line[1, 0], atol=0.2)


def test_every_number_is_in_the_table():
    html = curves().to_html()
    for text in ("0.5 (0.45 to 0.55)", "0.9 (0.85 to 0.95)", "not a number", "hidden states"):
        assert text in html
    assert "to 0.1)" not in curves(width=0.0).to_html()


def test_labels_are_inert():
    html = curves().to_html().split("<script")[0]
    assert "<b>" not in html
    assert "<i>" not in html
    assert "neurons &lt;b&gt;" in html


@pytest.mark.parametrize(
    "values",
    [[1e20] * 3, [1e308, -1e308], [0.0, 5e-324], [-1e9, -1e9], []],
    ids=["flat", "huge", "tiny", "low", "none"],
)
def test_ends_of_an_axis_are_numbers(values):
    html = curves(np.array([values]), ("c",), tuple(range(len(values)))).to_html().split("<script")[0]
    (line,), _ = drawn(html) if values else ([np.zeros((0, 2))], [])
    assert len(line) == len(values)
    assert np.isfinite(line).all()


@pytest.mark.parametrize("last", [math.inf, math.nan, 10**400])
def test_labels_that_are_no_place_on_an_axis_stand_one_after_the_other(last):
    (line, _), _ = drawn(curves(xs=(0, 7, last)).to_html())
    assert np.allclose(np.diff(line[:, 0]), np.diff(line[:, 0])[0])


@pytest.mark.parametrize("values", [np.zeros((1, 1)), np.full((1, 3), np.nan), np.full((14, 2), -3.5), np.eye(3) * 1e9])
def test_whatever_the_numbers(values):
    names = [f"c{i}" for i in range(len(values))]
    html = curves(values, names, tuple(range(values.shape[1]))).to_html().split("<script")[0]
    assert "nan" not in re.sub("polyline|not a number", "", html)
    assert ("more curves" in html) == (len(values) > 12)
