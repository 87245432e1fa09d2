"""What is drawn are the result's numbers, read back from the artists; and the marks mean what is said."""

from __future__ import annotations

import numpy as np
import pytest
from ecco_matplotlib import palette, plot
from ecco_matplotlib.matrix import drawn_together
from ecco_matplotlib.styling import style
from ecco_matplotlib.words import Words, number
from figure_results import components, curves, drawn, grid, lens, patterns, points, predictions, scores
from hypothesis import given, settings, strategies as st

from ecco_core import Curves, LabelledArray


def mesh_of(ax):
    (mesh,) = [c for c in (*ax.collections, *ax.images) if c.get_array() is not None]
    return mesh.get_array()


def labels_of(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def small_print(figure):
    return " ".join(text.get_text() for text in figure.texts)


def test_the_matrix_of_scores_holds_them_and_nothing_for_the_future():
    result = scores()
    ax = drawn("scores")
    found = mesh_of(ax)
    for i, target in enumerate(result.targets):
        assert np.array_equal(found.data[i, : target.position], result.values.values[i, : target.position])
        assert found.mask[i, target.position :].all()
        assert not found.mask[i, : target.position].any()
    assert labels_of(ax.yaxis)[0] == f"17 {result.targets[0].text.replace(chr(32), chr(183))}"
    assert labels_of(ax.xaxis)[:3] == ["0 The", "1 ·captain", "2 ·of"]
    assert ax.yaxis_inverted()
    assert "end of the prompt" in small_print(ax.figure)
    (line,) = ax.lines
    assert line.get_xdata()[0] == result.n_input_tokens - 0.5


def test_an_encoder_is_seen_whole_and_a_class_sees_everything():
    ax = drawn("scores of two stacks")
    mask = np.ma.getmaskarray(mesh_of(ax))
    assert mask[0].tolist() == [False] * 4 + [True] * 2
    assert mask[1:].sum() == 0
    assert labels_of(ax.yaxis)[:3] == ["1 ·Who − ·What", "3 ·Nora", "a question"]
    assert labels_of(ax.yaxis)[3].startswith("2 unit 17 of mlp_post")
    assert labels_of(ax.xaxis)[0] == "0 Wer ist"
    assert any(line.get_xdata()[0] == 2.5 for line in ax.lines)
    assert "to its left the tokens of the encoder, to its right of the decoder" in small_print(ax.figure)


def test_bars_are_the_scores_of_one_target_coloured_by_sign():
    result = scores()
    ax = plot(result, target=20)
    values = result.values.values[3, :20]
    (bars,) = ax.collections
    assert np.allclose([bar.vertices[1, 1] for bar in bars.get_paths()], values)
    from matplotlib.colors import to_hex

    colours = [to_hex(colour) for colour in bars.get_facecolor()]
    assert colours == [palette.FOR if v >= 0 else palette.AGAINST for v in values]
    assert "at position 20 = −1.5 (probability 0.22)" in ax.get_title(loc="left").replace("\n", " ")


def test_the_text_has_every_token_on_its_colour():
    result = scores()
    ax = plot(result, view="text", target=20)
    texts = [t.get_text() for t in ax.texts]
    assert texts == [label.strip() for label in result.tokens["decoder"].labels]
    scale = palette.scale(result.values.values[3, :20], signed=True)
    painted = ax.collections[0].get_facecolor()
    assert np.allclose(painted[:20], [scale.colour(v) for v in result.values.values[3, :20]])
    assert all(colour[3] == 0 for colour in painted[20:])


def test_bands_of_a_lens_hold_all_positions_with_their_tokens():
    result = lens()
    axes = drawn("lens")
    assert np.allclose(np.concatenate([mesh_of(ax) for ax in axes], axis=1), result.values.values)
    assert not axes[0].yaxis_inverted()
    first = {t.get_text() for t in axes[0].texts}
    assert {str(t).strip() for t in result.texts.values[:, 0]} <= {t.strip("·") for t in first}
    assert mesh_of(axes[0]).shape[0] == 4


def test_the_best_rank_is_the_strongest_on_a_scale_of_logarithms():
    from matplotlib.colors import LogNorm

    ax = drawn("ranks")
    (mesh,) = ax.collections
    assert isinstance(mesh.norm, LogNorm)
    light = [sum(mesh.cmap(mesh.norm(v))[:3]) for v in (1, 10, 100, 812)]
    assert light == sorted(light)
    assert {t.get_text() for t in ax.texts} == {"812", "40", "3", "95", "2", "1"}
    bar = ax.figure.axes[-1]
    assert labels_of(bar.xaxis) == ["1", "10", "100"]


def test_bars_of_predictions_are_their_probabilities():
    result = predictions()
    for i, ax in enumerate(drawn("predictions")):
        assert np.allclose([bar.get_width() for bar in ax.patches], result.values.values[i, :10])
        assert labels_of(ax.yaxis) == [f"·word{i}{j}" for j in range(10)]
        assert ax.get_title(loc="left") == f"layer {i}"
    assert "The first 10 of 12 candidates." in small_print(ax.figure)


def test_many_rows_of_predictions_are_chosen_evenly_and_said():
    axes = plot(predictions(200), width="column")
    names = [int(ax.get_title(loc="left").split()[1]) for ax in axes]
    assert names[0] == 0
    assert names[-1] == 199
    assert max(np.diff(names)) - min(np.diff(names)) <= 1
    assert f"{len(names)} of 200 rows" in small_print(axes[0].figure)


def test_maps_of_heads_are_their_weights_without_the_future():
    result = patterns()
    ax = drawn("patterns")
    (image,) = ax.images
    maps, wanted_maps = image.get_array(), result.values.values
    high, wide = maps.shape[0] // 2, maps.shape[1] // 4
    for k in range(8):
        i, j = divmod(k, 4)
        image = maps[(i + 1) * high - 12 : (i + 1) * high, j * wide : j * wide + 12]
        wanted = wanted_maps[i, j]
        assert np.allclose(np.ma.filled(image, 0), np.tril(wanted))
        assert np.ma.getmaskarray(image)[0, 1:].all()
    one = plot(result, layer=1, head=2)
    assert np.allclose(np.ma.filled(mesh_of(one), 0), result.values.values[1, 2])


def test_lines_of_a_head_are_as_strong_as_its_weights():
    result = patterns()
    ax = plot(result, layer=1, head=2, view="lines")
    (lines,) = ax.collections
    weights = result.values.values[1, 2]
    ends = [tuple(segment[:, 1].astype(int)) for segment in lines.get_segments()]
    assert np.allclose(lines.get_alpha(), [weights[end] / weights.max() for end in ends])
    assert len(ends) == 12 * 13 / 2


@pytest.mark.parametrize("signed", [False, True])
def test_sparklines_are_the_activations(signed):
    result = components(signed)
    for ax, row, loading in zip(
        drawn("signed components" if signed else "components"), result.values.values, result.loadings.values
    ):
        outline = ax.patches[-1]
        assert np.allclose(outline.get_data().values, row)
        beside = ax.texts[0].get_text().splitlines()
        strongest = int(np.abs(loading).argmax())
        assert beside[1] == f"{strongest // 8}:{strongest % 8} {number(loading[strongest], 2, plus=True)}"


def test_a_grid_shows_values_intervals_and_the_null():
    result = grid()
    found, null = plot(result, width=9)
    assert np.allclose(mesh_of(found), result.values.values)
    assert np.allclose(mesh_of(null), result.null.values)
    texts = [t.get_text() for t in found.texts]
    assert "0.91" in texts
    assert "0.86 to 0.95" in texts
    box = found.get_window_extent()
    assert box.width == pytest.approx(box.height, rel=0.01)
    assert "By chance (null): 0.2 everywhere." in small_print(drawn("grid, one null").figure)


def test_curves_have_their_bands_and_references_are_dashed():
    result = curves()
    ax = drawn("curves")
    assert np.allclose([line.get_ydata() for line in ax.lines], result.values.values)
    assert [line.get_linestyle() for line in ax.lines] == ["-", "-", "--", "--"]
    for band, low, high in zip(ax.collections, result.low.values, result.high.values):
        vertices = band.get_paths()[0].vertices[:, 1]
        assert vertices.min() == pytest.approx(low.min())
        assert vertices.max() == pytest.approx(high.max())
    assert {t.get_text() for t in ax.texts} == set(result.values.labels("curve"))


def test_points_stand_at_their_places_with_labels_that_cover_nothing():
    result = points()
    ax = drawn("points")
    (dots,) = ax.collections
    assert np.allclose(dots.get_offsets(), result.values.values)
    assert ax.get_xlabel() == "UMAP 1"
    written = len(ax.texts)
    left_out = len(result.labels) - written
    assert written >= 20
    assert not left_out or f"{left_out} of 31 labels are left out" in small_print(ax.figure)
    many = plot(points(400))
    assert not many.texts
    assert "Labels are left out: there are 400 points." in small_print(many.figure)


def test_what_is_not_finite_is_not_painted_and_does_not_spoil_the_scale():
    values = np.array([[1.0, np.nan, 2.0], [np.inf, -np.inf, 3.0]])
    dims = ("curve", "x")
    ax = plot(Curves(values=LabelledArray(values, dims)))
    assert ax.get_ylim()[1] < 4
    from ecco_core import Grid

    drawn = mesh_of(plot(Grid(values=LabelledArray(values, ("a", "b")))))
    assert drawn.mask.tolist() == [[False, True, False], [True, True, False]]
    nothing = Grid(values=LabelledArray(np.full((2, 2), np.nan), ("a", "b")))
    assert mesh_of(plot(nothing)).mask.all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(0, 1), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_cells_drawn_together_keep_the_strongest_of_each_group(rows, columns, most, axis, seed):
    values = np.random.default_rng(seed).normal(0, 1, (rows, columns))
    joined, group = drawn_together(values, most, axis)
    assert joined.shape[axis] <= most
    assert joined.shape[1 - axis] == values.shape[1 - axis]
    for k in range(joined.shape[axis]):
        part = values.take(range(k * group, min((k + 1) * group, values.shape[axis])), axis=axis)
        strongest = np.take_along_axis(part, np.abs(part).argmax(axis, keepdims=True), axis).squeeze(axis)
        assert np.array_equal(joined.take(k, axis=axis), strongest)


def test_each_half_of_a_ramp_only_darkens_and_letters_can_be_read():
    for scale in (palette.scale(np.array([-1.0, 1.0])), palette.scale(np.array([0.0, 1.0])),
                  palette.rank_scale(np.array([1.0, 1000.0]))):  # fmt: skip
        low, high = scale.norm.vmin, scale.norm.vmax
        places = np.geomspace(low, high, 101) if low > 0 else np.linspace(0, high, 101)
        for sign in (1, -1) if scale.signed else (1,):
            light = [luminance(scale.colour(sign * v)) for v in places]
            steps = np.diff(light)
            assert (steps < 1e-9).all() or (steps > -1e-9).all()
            for v in places:
                ground, ink = luminance(scale.colour(sign * v)), {"white": 1.0, "black": 0.0}[scale.ink(sign * v)]
                assert (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05) >= 4.5


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@given(st.text(st.characters(max_codepoint=0x17F), max_size=60), st.floats(0.1, 3))
@settings(max_examples=30, deadline=None)
def test_wrapped_and_cut_texts_fit_and_keep_their_letters(text, inches):
    from figure_results import table

    words = Words(table())
    text = words.shown(text)
    with style():
        lines = words.wrapped(text, 6.5, inches)
        assert "".join("".join(lines).split()) == "".join(text.split())  # a no-break space is drawn as a blank
        assert all(words.width(line, 6.5) <= inches or len(line) == 1 for line in lines)
        cut = words.cut(text, 6.5, inches)
        assert words.width(cut, 6.5) <= inches
        assert cut == text or cut == "" or (cut.endswith("…") and text.startswith(cut[:-1]))
