"""The views of grids, candidates, attention, factors and points, and reports, in a real browser."""

from __future__ import annotations

import re

import attrs
import numpy as np
import pytest
from ecco_html.page import document
from html_browsing import alpha, live, token, told, view
from html_results import HOSTILE, ORIGIN, every_kind, masked_scores, small_scores, tokens, translation_scores
from playwright.sync_api import expect

from ecco_core import (
    Components,
    Curves,
    Grid,
    LabelledArray,
    OptionError,
    Patterns,
    Points,
    Predictions,
    Provenance,
    Report,
    Table,
    TokenGrid,
)

WORDS = ("The", " cat", " sat")
NUMBERED = [f"{i} {word}" for i, word in enumerate(WORDS)]


def lens(words=WORDS):
    values = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.9]])
    coords = {"layer": (0, 1), "position": [f"{i} {word}" for i, word in enumerate(words)]}
    texts = np.array([["a", "b", words[2]], ["d", words[1], words[2]]], dtype=object)
    return TokenGrid(title="Lens", quantity="probability", values=LabelledArray(values, ("layer", "position"), coords),
                     texts=LabelledArray(texts, ("layer", "position"), coords), provenance=ORIGIN)  # fmt: skip


def ranks():
    coords = {"layer": (0, 1, 2), "position": NUMBERED[:2]}
    values = LabelledArray([[100, 50257], [10, 1000], [1, 2]], ("layer", "position"), coords)
    return TokenGrid(title="Ranks", quantity="rank among 50,257 tokens", values=values)


def candidates(texts=((" Nora", " Tom", " he"), (" Tom", " Nora", " she"))):
    values = LabelledArray(
        [[0.5, 0.25, 0.125], [0.75, 0.1, 0.05]], ("layer", "rank"), {"layer": (3, 5), "rank": (1, 2, 3)}
    )
    return Predictions(
        title="Candidates", values=values, texts=LabelledArray(np.array(texts, object), ("layer", "rank"))
    )


def attention(words=WORDS, causal=True):
    values = np.random.default_rng(0).dirichlet(np.ones(3), (2, 3, 3))
    values = np.tril(values) if causal else values
    values /= values.sum(-1, keepdims=True)
    array = LabelledArray(values, ("layer", "head", "query", "key"), {"layer": (4, 7)})
    return Patterns(title="Attention", values=array, tokens={"decoder": tokens(*words)})


def factors(words=WORDS, low=0.0):
    values = np.array([[4.0, 0.0, 1.0], [low, 2.0, 1.5]])
    units = {"unit": ("1:5", "1:6", "1:7")}
    return Components(
        title="Factors",
        tokens=tokens(*words),
        quality={"stability": 0.9, "stability of component 1": 0.5},
        values=LabelledArray(values, ("component", "token")),
        loadings=LabelledArray([[0.9, 0.1, 0.0], [0.2, 0.1, -0.8]], ("component", "unit"), units),
    )


def similarity():
    one = LabelledArray([[1.0, 0.4], [0.4, 1.0]], ("layer", "other layer"))
    low, high, null = (LabelledArray(one.values * k, one.dims) for k in (0.8, 1.1, 0.1))
    return Grid(title="Similarity", values=one, low=low, high=high, null=null)


def plane(labels=NUMBERED):
    values = LabelledArray([[0.0, 0.0], [1.0, 2.0], [3.0, -1.0]], ("point", "axis"), {"axis": ("UMAP 1", "UMAP 2")})
    return Points(title="Plane", values=values, labels=labels)


def cell(page, name):
    return page.get_by_role("gridcell", name=name)


def listed(page, root=0):
    return [re.sub(r"\s+", " ", text).strip() for text in view(page, ".panel .top tr:visible", root).all_inner_texts()]


# Layers and positions


def test_a_box_tells_all_there_is_of_it(visit):
    page = visit(lens())
    expect(view(page, ".panel")).to_contain_text("Point at, tap or arrow to a box")
    expect(view(page, ".pin")).to_be_hidden()
    cell(page, "layer 1, position 0").hover()
    expect(view(page, ".name")).to_have_text("'d' ")
    expect(view(page, ".where")).to_have_text("at layer 1, position 0 'The'")
    expect(view(page, ".facts")).to_have_text("probability: 0.4")
    assert listed(page) == ["layer 0 'a' 0.1", "layer 1 'd' 0.4"]
    expect(view(page, ".panel tr.lit")).to_contain_text("layer 1")


def test_boxes_by_keyboard_and_by_ear(visit):
    page = visit(lens())
    page.keyboard.press("Tab")  # the box that scrolls
    page.keyboard.press("Tab")
    expect(cell(page, "layer 0, position 0 'The': a 0.1")).to_be_focused()
    for key, name in (("ArrowRight", "layer 0, position 1 ' cat': b 0.2"), ("ArrowUp", "layer 0, position 1"),
                      ("ArrowDown", "layer 1, position 1 ' cat': cat 0.5"), ("End", "layer 1, position 2"),
                      ("ArrowRight", "layer 1, position 2"), ("Home", "layer 1, position 0")):  # fmt: skip
        page.keyboard.press(key)
        expect(cell(page, name)).to_be_focused()
    page.keyboard.press("Enter")
    expect(cell(page, "layer 1, position 0")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowRight")
    expect(view(page, ".name")).to_have_text("'d' ")
    expect(view(page, ".tip")).to_have_text("' cat' 0.5")
    page.keyboard.press("Escape")
    expect(view(page, "[aria-selected=true]")).to_have_count(0)


def ranked_lens():
    """Two layers, three positions, four candidates of each."""
    grid = lens()
    dims, shape = ("layer", "position", "rank"), (2, 3, 4)
    shares = grid.values.values[..., None] * np.array([1, 0.5, 1e-3, 1e-9])
    texts = np.array([f" w{i}" for i in range(24)], dtype=object).reshape(shape)
    texts[..., 0] = grid.texts.values
    return attrs.evolve(grid, candidates=LabelledArray(texts, dims), candidate_values=LabelledArray(shares, dims))


def test_a_box_of_a_lens_tells_its_best_and_the_other_layers(visit):
    page = visit(ranked_lens())
    cell(page, "layer 1, position 0").click()
    expect(view(page, ".panel caption")).to_have_text(["best in this box", "all layers here"])
    assert listed(page) == ["1 'd' 0.4", "2 ' w13' 0.2", "3 ' w14' 0.0004", "4 ' w15' 4e−10", "layer 0 'a' 0.1",
                            "layer 1 'd' 0.4"]  # fmt: skip
    widths = [bar["width"] for bar in (node.bounding_box() for node in view(page, ".panel .bar").all()[:2])]
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.05)
    cell(page, "layer 0, position 2").hover()
    assert listed(page)[0] == "1 'd' 0.4", "pinned"


def test_candidates_of_a_lens_that_runs_down(visit):
    """3 layers × 20 positions: positions run down, and each box has its own candidates."""
    rng, dims = np.random.default_rng(0), ("layer", "position", "rank")
    shares = -np.sort(-rng.dirichlet(np.ones(9), (3, 20)), axis=-1)[..., :5]
    texts = np.array([f"w{i}" for i in range(3 * 20 * 5)], dtype=object).reshape(3, 20, 5)
    coords = {"position": [f"{i} p" for i in range(20)]}
    arrays = {"candidates": LabelledArray(texts, dims), "candidate_values": LabelledArray(shares, dims)}
    page = visit(TokenGrid(values=LabelledArray(shares[..., 0], dims[:2], coords),
                           texts=LabelledArray(texts[..., 0], dims[:2]), **arrays))  # fmt: skip
    expect(view(page, "table.heat tbody tr")).to_have_count(20)
    cell(page, "position 7 'p', layer 2").hover()
    rows = [row.split() for row in listed(page)[:5]]
    assert [row[1] for row in rows] == [f"'{text}'" for text in texts[2, 7]]
    assert [float(row[2]) for row in rows] == pytest.approx(shares[2, 7], rel=6e-3)


def test_as_many_candidates_as_there_is_room_for():
    dims = ("layer", "position", "rank")
    texts, shares = np.full((48, 200, 10), "w", dtype=object), np.ones((48, 200, 10))
    best = {"candidates": LabelledArray(texts, dims), "candidate_values": LabelledArray(shares, dims)}
    values, top = (LabelledArray(array[..., 0], dims[:2]) for array in (shares, texts))
    page = TokenGrid(values=values, texts=top, **best).to_html()
    assert '"ranks":5' in page
    assert "more along" not in page, "200 positions run down, 48 layers across"
    assert len(page) < 1_300_000


def watched():
    values = LabelledArray([[2000, 30], [10, 300], [1, 40]], ("layer", "token"),
                           {"layer": (0, 1, 3), "token": (" Nora", "<b>")})  # fmt: skip
    return TokenGrid(title="Watched", quantity="rank among 4,096 tokens, 1 is the best", values=values)


def test_watched_tokens_are_lines_over_the_layers(visit):
    page = visit(watched())
    expect(view(page, "polyline")).to_have_count(2)
    expect(view(page, ".legend >> nth=0")).to_contain_text("' Nora'")
    points = [
        [float(y) for y in re.findall(r",([\d.]+)", node.get_attribute("points"))]
        for node in view(page, "polyline").all()
    ]
    heights = np.array([points[0][0], points[0][1], points[0][2]])
    assert heights[0] > heights[1] > heights[2], "the best rank is on top"
    steps = np.log10([2000 / 10, 10 / 1])
    assert -np.diff(heights) / steps == pytest.approx([-np.diff(heights)[1]] * 2, rel=0.01), "logarithmic"
    page.get_by_role("button", name="layer 1: ' Nora' 10, '<b>' 300").hover()
    expect(view(page, ".name >> nth=0")).to_have_text("layer 1")
    assert listed(page) == ["' Nora' 10", "'<b>' 300"]
    expect(view(page, "table.heat")).to_be_visible()


def test_a_place_on_the_axis_tells_all_curves(visit):
    dims, coords = ("curve", "layer"), {"curve": ("hits", "chance"), "layer": (0, 1, 2, 5)}
    middle = np.array([[0.125, 0.5, np.nan, 0.75], [0.25, 0.25, 0.25, 0.25]])
    low, value, high = (LabelledArray(middle + end, dims, coords) for end in (-0.0625, 0, 0.0625))
    page = visit(Curves(title="Probe", values=value, low=low, high=high))
    box = view(page, ".curves").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] / 2)
    expect(view(page, ".name")).to_have_text("layer 1")
    assert listed(page) == ["hits (0.438 to 0.562) 0.5", "chance (0.188 to 0.312) 0.25"]
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="layer 0: hits 0.125, chance 0.25")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(view(page, ".panel .num >> nth=0")).to_have_text("not a number")
    page.keyboard.press("Enter")
    page.keyboard.press("End")
    expect(view(page, ".name")).to_have_text("layer 2")
    expect(view(page, ".tip")).to_have_text("layer 5: hits 0.75, chance 0.25")


def test_numbers_stand_right_where_a_column_has_nothing_else():
    html = Table(columns=("name", "value"), rows=(("layer", 3), ("site", "x"))).to_html()
    assert '<td dir="auto">3</td>' in html
    html = Table(columns=("name", "value"), rows=(("a", 3), ("b", None))).to_html()
    assert html.count('<td class="num" style="text-align:right">') == 2


def test_many_numbers_of_curves_are_folded_away():
    def page(n):
        return Curves(values=LabelledArray(np.eye(4, n), ("curve", "x"))).to_html()

    assert "<summary>all numbers</summary>" in page(11)
    assert "<summary>" not in page(10)


def test_a_click_pins_a_box(visit):
    page = visit(lens())
    cell(page, "layer 0, position 2").click()
    expect(view(page, ".pin")).to_have_text("pinned")
    cell(page, "layer 1, position 0").hover()
    expect(view(page, ".where")).to_have_text("at layer 0, position 2 ' sat'")
    cell(page, "layer 0, position 2").click()
    cell(page, "layer 1, position 0").hover()
    expect(view(page, ".where")).to_have_text("at layer 1, position 0 'The'")


def test_long_texts_run_down(visit):
    words = tuple(f" w{i}" for i in range(40))
    values = LabelledArray(np.arange(80.0).reshape(2, 40), ("layer", "position"),
                           {"position": [f"{i} {word}" for i, word in enumerate(words)]})  # fmt: skip
    page = visit(TokenGrid(title="Long", values=values), viewport={"width": 380, "height": 700})
    expect(view(page, "tbody tr")).to_have_count(40)
    cell(page, "position 3 ' w3', layer 1: 43").hover()
    assert listed(page) == ["layer 0 3", "layer 1 43"]
    assert page.locator("html").evaluate("n => n.scrollWidth") <= 380


def test_the_best_rank_is_strongest(visit):
    page = visit(ranks())
    paints = [alpha(view(page, f"tbody td >> nth={k}")) for k in range(6)]
    shares = [1 - np.log(rank) / np.log(50257) for rank in (100, 50257, 10, 1000, 1, 2)]
    assert np.abs(paints) == pytest.approx(0.62 * np.array(shares), abs=0.006)
    cell(page, "layer 0, position 1 ' cat': 50257").hover()
    assert [told(text) for text in view(page, ".panel .num").all_inner_texts()] == [50257, 1000, 2]
    expect(view(page, ".legend")).to_contain_text("the best rank strongest")


def test_the_firing_pattern_is_dense_and_lists_the_strongest_tokens(visit):
    values = np.random.default_rng(0).normal(0, 1, (30, 20))
    labels = {"neuron": [f"cluster 0 · 1:{i}" for i in range(30)], "token": [f"{i}  t{i}" for i in range(20)]}
    page = visit(TokenGrid(title="Neurons", values=LabelledArray(values, ("neuron", "token"), labels)))
    assert view(page, "table >> nth=0").bounding_box()["width"] < 700
    cell(page, "neuron cluster 0 · 1:7, token 4 ' t4'").hover()
    best = np.argsort(-np.abs(values[7]))[:8]
    listed_values = [told(text) for text in view(page, ".panel .num").all_inner_texts()]
    assert listed_values == pytest.approx(values[7, best], rel=1e-3)


def test_interval_and_chance_are_in_the_box(visit):
    page = visit(similarity())
    assert "interval" not in [text.strip() for text in view(page, "caption").all_inner_texts()]
    expect(view(page, "tbody td >> nth=1")).to_have_text("0.4 interval 0.32 to 0.44 chance 0.04")
    cell(page, "layer 0, other layer 1: 0.4 interval 0.32 to 0.44 chance 0.04").hover()
    expect(view(page, ".facts")).to_have_text("interval 0.32 to 0.44 · chance 0.04")


# Candidates


def test_bars_are_as_long_as_the_probabilities(visit):
    page = visit(candidates())
    still = visit(candidates(), java_script_enabled=False)
    widths = [bar["width"] for bar in (node.bounding_box() for node in view(page, ".bar").all())]
    assert np.array(widths) / widths[3] == pytest.approx(np.array([0.5, 0.25, 0.125, 0.75, 0.1, 0.05]) / 0.75, abs=0.02)
    assert len(still.locator(".bar:visible").all()) == 6


def test_the_ends_of_the_bars_can_be_chosen():
    def widths(**options):
        return [float(width) for width in re.findall(r"height:.7em;width:([\d.]+)%", candidates().to_html(**options))]

    assert widths(low=0.25, high=0.75) == pytest.approx([50, 0, 0, 100, 0, 0])
    assert widths(high=1.0) == pytest.approx([50, 25, 12.5, 75, 10, 5])
    assert widths() == widths(low=0.0, high=0.75)
    assert "a full bar is 0.75, an empty one 0.25" in candidates().to_html(low=0.25)
    with pytest.raises(OptionError, match=r"Bars run from low to high, a greater number; found 0\.5 and 0\.25"):
        candidates().to_html(low=0.5, high=0.25)


def test_a_candidate_is_found_in_the_other_lists(visit):
    page = visit(candidates())
    view(page, "tr:has-text('Tom') >> nth=0").hover()
    expect(view(page, "tr.same")).to_have_count(2)
    expect(view(page, ".where")).to_have_text("rank 2 in layer 3, probability 0.25")
    expect(view(page, ".facts")).to_have_text("also in layer 5: rank 1, 0.75")
    page.mouse.move(0, 0)
    expect(view(page, "tr.same")).to_have_count(0)
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("button", name="layer 5, rank 2: ' Nora', 0.1")).to_be_focused()
    expect(live(page)).to_have_text("also in layer 3: rank 1, 0.5")


def test_candidates_beside_each_other_have_room(visit):
    texts = tuple(tuple(f" {word}" for word in ("because", "another", "without")) for _ in range(2))
    page = visit(candidates(texts), viewport={"width": 740, "height": 600})
    heights = view(page, ".lists .source bdi, .lists thead th").evaluate_all("all => all.map(n => n.offsetHeight)")
    assert max(heights) < 30, "each word is on one line"


def test_a_probability_that_is_no_number_has_no_bar():
    result = candidates()
    values = np.array(result.values.values, float)
    values[0, 0] = np.nan
    html = attrs.evolve(result, values=LabelledArray(values, result.values.dims)).to_html()
    assert "width:nan" not in html
    assert "width:0%" in html


def test_a_single_list_needs_no_script():
    one = candidates()
    first = Predictions(values=LabelledArray(one.values.values[:1], one.values.dims),
                        texts=LabelledArray(one.texts.values[:1], one.texts.dims))  # fmt: skip
    assert 'data-view="' not in first.to_html()


# Attention


@pytest.mark.parametrize("causal", [True, False])
def test_a_head_is_picked(visit, causal):
    result = attention(causal=causal)
    page = visit(result)
    expect(view(page, ".what >> nth=0")).to_have_text("mean of all heads")
    expect(cell(page, "from 2 ' sat', to 1 ' cat'")).to_have_text(f"{result.values.values[:, :, 2, 1].mean():.3g}")
    page.get_by_role("button", name="layer 7, head 1").click()
    expect(view(page, ".what >> nth=0")).to_have_text("layer 7, head 1")
    expect(page.get_by_role("button", name="layer 7, head 1")).to_have_attribute("aria-pressed", "true")
    for i in range(3):
        for j in range(3):
            shown = view(page, f"tbody tr >> nth={i} >> td >> nth={j}")
            assert told(shown.inner_text()) == pytest.approx(result.values.values[1, 1, i, j], rel=8e-3)
            assert -alpha(shown) == pytest.approx(0.62 * result.values.values[1, 1, i, j] ** 0.5, abs=0.01)
    cell(page, "from 2 ' sat', to 0 'The'").hover()
    assert len(listed(page)) == 3


def test_each_head_of_attention_to_a_long_source_is_right(visit):
    values = np.random.default_rng(0).dirichlet(np.ones(20), (1, 2, 3))
    stacks = {"decoder": tokens(*WORDS), "encoder": tokens(*(f" w{i}" for i in range(20)))}
    result = Patterns(values=LabelledArray(values, ("layer", "head", "query", "key")), tokens=stacks,
                      query_stack="decoder", key_stack="encoder")  # fmt: skip
    page = visit(result)
    page.get_by_role("button", name="layer 0, head 1").click()
    box = cell(page, "from 2 ' sat', to 19 ' w19'")
    assert told(box.text_content()) == pytest.approx(values[0, 1, 2, 19], rel=8e-3)
    expect(view(page, "tbody tr")).to_have_count(3)


def test_heads_by_keyboard(visit):
    page = visit(attention())
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="mean of all heads")).to_be_focused()
    for key in ("ArrowUp", "ArrowRight", "ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_role("button", name="layer 7, head 2")).to_be_focused()
    expect(view(page, ".what >> nth=0")).to_have_text("layer 7, head 2")


def test_small_pictures_show_their_heads(visit):
    result = attention()
    page = visit(result)
    pixels = view(page, "canvas >> nth=4").evaluate(
        "n => [...n.getContext('2d').getImageData(0, 0, n.width, n.height).data].filter((_, i) => i % 4 === 3)"
    )
    assert np.reshape(pixels, (3, 3)) == pytest.approx(255 * result.values.values[1, 1] ** 0.5, abs=2)


def test_lines_between_tokens(visit):
    result = attention()
    page = visit(result)
    page.get_by_role("button", name="layer 4, head 0").click()
    expect(view(page, ".lines")).to_be_hidden()
    page.get_by_role("button", name="lines", exact=True).click()
    expect(view(page, "table.heat")).to_be_hidden()
    weights = result.values.values[0, 0]
    expect(view(page, ".wires line")).to_have_count(int((weights >= 0.05).sum()))
    page.get_by_role("button", name="from 2 ' sat'").hover()
    expect(view(page, ".wires line")).to_have_count(int((weights[2] >= 0.05).sum()))
    expect(view(page, ".name")).to_have_text("2 ' sat'")
    rights = [alpha(view(page, f".lines div >> nth=2 >> span >> nth={j}")) for j in range(3)]
    assert np.abs(rights) == pytest.approx(0.62 * weights[2] ** 0.5, abs=0.01)
    page.get_by_role("button", name="from 2 ' sat'").focus()
    expect(view(page, ".lines [role=status]")).to_contain_text("attends to")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("button", name="from 1 ' cat'")).to_be_focused()


def test_many_heads_and_tokens_stay_small():
    values = np.random.default_rng(0).dirichlet(np.ones(80), (12, 12, 80))
    page = Patterns(values=LabelledArray(values, ("layer", "head", "query", "key"))).to_html()
    assert "the first 58 of 80 queries and the first 58 of 80 keys" in page
    assert len(page) < 1_600_000


# Factors


def test_tokens_have_the_colour_of_their_strongest_factor(visit):
    page = visit(factors())
    colours = [view(page, f".ink >> nth={k}").evaluate("n => n.style.backgroundColor") for k in range(3)]
    assert colours == ["rgba(230, 159, 0, 0.42)", "rgba(86, 180, 233, 0.42)", "rgba(86, 180, 233, 0.42)"]
    assert view(page, ".spark").count() == 2
    expect(view(page, ".factor >> nth=1")).to_contain_text("neurons 1:7 −0.8")
    expect(view(page, ".factor >> nth=1")).to_contain_text("stability 0.5")
    expect(view(page, ".factor >> nth=1")).to_contain_text("' cat' ' sat'")


def test_a_factor_is_isolated(visit):
    page = visit(factors())
    view(page, ".factor >> nth=0").hover()
    colours = [view(page, f".ink >> nth={k}").evaluate("n => n.style.backgroundColor") for k in range(3)]
    assert colours == ["rgba(230, 159, 0, 0.42)", "", "rgba(230, 159, 0, 0.106)"]
    expect(view(page, ".name >> nth=-1")).to_have_text("component 0")
    page.mouse.move(0, 0)
    assert view(page, ".ink >> nth=1").evaluate("n => n.style.backgroundColor") == "rgba(86, 180, 233, 0.42)"
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="component 1, ' cat' ' sat'")).to_have_attribute("aria-pressed", "true")
    view(page, ".tok >> nth=2").hover()
    assert listed(page) == ["component 1 1.5", "component 0 1"]


def test_factors_below_zero_have_two_colours(visit):
    page = visit(factors(low=-3.0))
    view(page, ".factor >> nth=1").hover()
    assert [alpha(view(page, f".ink >> nth={k}")) for k in range(3)] == pytest.approx([-0.62, 0.41, 0.31], abs=0.006)


# Points


def test_points_tell_their_tokens(visit):
    page = visit(plane())
    view(page, ".dot >> nth=1").hover()
    expect(view(page, ".name")).to_have_text("position 1 ' cat'")
    expect(view(page, ".where")).to_have_text("stands at 1, 2")
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    expect(page.get_by_role("button", name="position 2 ' sat'")).to_be_focused()
    places = [view(page, f"circle >> nth={k}").bounding_box() for k in range(3)]
    assert places[1]["y"] < places[0]["y"] < places[2]["y"], "larger is higher"
    steps = [places[k]["x"] - places[0]["x"] for k in (1, 2)]
    assert steps[1] == pytest.approx(3 * steps[0], rel=0.02)


@pytest.mark.parametrize("label", ["9" * 5000 + " x", "__proto__"])
def test_odd_names_are_names(visit, label):
    values = LabelledArray([[0.0, 1.0], [2.0, 3.0]], ("point", "axis"))
    page = visit(Points(title="Odd", values=values, labels=(label, "b")))
    view(page, ".dot >> nth=0").hover()
    expect(view(page, ".name")).to_have_text(f"position {label}")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_labels_of_points_do_not_overlap(visit):
    rng = np.random.default_rng(0)
    labels = [f"{i} word{i}" for i in range(120)]
    page = visit(Points(values=LabelledArray(rng.normal(0, 1, (120, 2)), ("point", "axis")), labels=labels))
    boxes = [node.bounding_box() for node in view(page, ".dot text").all()]
    assert 20 < len(boxes) < 120
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            apart = abs(a["x"] - b["x"]) > min(a["width"], b["width"]) * 0.8 or abs(a["y"] - b["y"]) > a["height"] * 0.5
            assert apart, (a, b)


# Token scores in other styles


def test_minimal(visit):
    page = visit(small_scores(), save={"style": "minimal"})
    expect(view(page, ".top")).to_have_count(0)
    token(page, 3).hover()
    expect(view(page, ".name")).to_have_text("' on'")
    token(page, 3).click()
    token(page, 1).hover()
    expect(view(page, ".tip")).to_have_text("1 · −0.25")
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowDown")
    expect(token(page, 4)).to_be_focused()


def test_matrix(visit):
    page = visit(small_scores(), save={"style": "matrix"})
    cell(page, "target 4 ' the', source 1 ' cat': −0.25").hover()
    expect(view(page, ".where")).to_have_text("for target 4 ' the', source 1 ' cat'")


def test_blanks_on_request(visit):
    assert token(visit(small_scores(), save={"whitespace": True}), 1).inner_text() == "·cat"


def test_blanks_as_they_are(visit):
    assert token(visit(small_scores()), 1).inner_text() == " cat"


# Reports


def report():
    words = ("The", " cat", " sat", " on", " the", " mat")
    probe = Points(title="Plane", values=LabelledArray(np.eye(6)[:, :2], ("point", "axis")),
                   labels=[f"{i} {word}" for i, word in enumerate(words)])  # fmt: skip
    return Report(title="Why mat?", results=(small_scores(), lens(("The", " cat", " sat")), probe, factors(words[:3])))


def test_a_position_is_chosen_in_all_results(visit):
    page = visit(report())
    expect(page.get_by_role("heading")).to_have_count(5)
    cell(page, "layer 0, position 1").click()
    expect(view(page, ".dot.shown")).to_have_attribute("aria-label", "position 1 ' cat'")
    expect(view(page, ".tok.linked >> nth=0")).to_have_text(" cat")
    expect(view(page, ".pin:text('pinned')")).to_have_count(2)
    token(page, 5).click()
    expect(view(page, ".dot.shown")).to_have_attribute("aria-label", "position 5 ' mat'")
    expect(view(page, "td.linked")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(view(page, ".linked")).to_have_count(0)
    expect(view(page, ".pin:text('pinned')")).to_have_count(0)


def test_positions_of_unknown_stack_are_the_decoders(visit):
    """Of an encoder's token a lens knows nothing; what says that it is about the encoder does."""
    words = ("The", " small", " dog")
    of_encoder = attrs.evolve(lens(words), provenance=Provenance(options={"stack": "encoder"}))
    page = visit(Report(results=(translation_scores(), lens(words), of_encoder)))
    grids = [view(page, f".piece:has(table.heat) >> nth={n} >> td.linked") for n in (0, 1)]
    token(page, 1, stack=1).click()
    expect(grids[0]).to_have_count(2)
    expect(grids[1]).to_have_count(0)
    page.keyboard.press("Escape")
    view(page, ".piece:has(table.heat) >> nth=1 >> tbody td >> nth=1").click()
    expect(grids[0]).to_have_count(0)
    expect(token(page, 1, stack=0)).to_have_class(re.compile("linked"))
    expect(token(page, 1, stack=1)).not_to_have_class(re.compile("linked"))


def test_positions_of_an_encoder_alone_are_its_own(visit):
    page = visit(Report(results=(masked_scores(), lens())))
    token(page, 2).click()
    expect(view(page, "td.linked")).to_have_count(2)


def test_a_link_to_a_position_survives_a_reload(visit):
    page = visit(report())
    token(page, 4).click()
    assert page.url.endswith("#decoder-4")
    page.reload()
    expect(token(page, 4)).to_have_attribute("aria-pressed", "true")
    expect(view(page, ".dot.shown")).to_have_attribute("aria-label", "position 4 ' the'")
    token(page, 4).click()
    assert "#" not in page.url


def test_a_fragment_leaves_the_hosts_address_alone(visit):
    page = visit("<!doctype html><meta charset=utf-8>" + small_scores().to_html())
    token(page, 4).click()
    expect(token(page, 4)).to_have_attribute("aria-pressed", "true")
    assert "#" not in page.url


def test_where_results_come_from_stands_once_at_the_foot():
    html = Report(results=(lens(), lens())).to_html()
    assert html.count("how this was made") == 1
    assert html.count("<caption>Lens</caption>") == 2
    assert html.rindex("how this was made") > html.rindex("layer 1") > 0
    assert html.count("const MARK") == 1


# Safety, and looks


def hostile():
    """Every view, all of its texts hostile."""
    return [
        lens(HOSTILE[:3]),
        candidates((HOSTILE[:3], HOSTILE[3:6])),
        attention(HOSTILE[:3]),
        attention(HOSTILE[3:6], causal=False),
        factors(HOSTILE[6:9]),
        plane(HOSTILE[:3]),
        TokenGrid(title=HOSTILE[2], quantity=HOSTILE[2],
                  values=LabelledArray(np.eye(3), ("<b>", "token"), {"<b>": HOSTILE[:3], "token": HOSTILE[3:6]})),
        Table(title=HOSTILE[0], columns=HOSTILE[:2], rows=(HOSTILE[2:4],)),
    ]  # fmt: skip


def test_hostile_texts_do_nothing_in_any_view(visit):
    page = visit(Report(title=HOSTILE[0], results=hostile()))
    page.keyboard.press("Tab")
    for selector in ("td", ".factor", ".tok", ".dot", ".lists .source bdi", ".head", ".tabs .pin", ".lines span"):
        for node in view(page, f"{selector}:visible").all()[:12]:
            node.click(force=True)
    assert page.evaluate("typeof window.pwned") == "undefined"
    assert page.locator("img, b[onclick]").count() == 0
    expect(view(page, ".title >> nth=0")).to_have_text(HOSTILE[0])


@pytest.mark.parametrize("scripts", [True, False])
def test_no_view_is_wider_than_a_narrow_screen(visit, scripts):
    results = [*hostile(), lens(), ranks(), candidates(), attention(), factors(), similarity(), plane()]
    page = visit(Report(results=results), viewport={"width": 380, "height": 700}, java_script_enabled=scripts)
    assert page.locator("html").evaluate("n => n.scrollWidth") <= 380


def test_every_view_reads_without_scripts(visit):
    page = visit(Report(results=[lens(), candidates(), attention(), factors(), plane()]), java_script_enabled=False)
    for text in ("0.9", "' Nora'", "from", "component 0", "cat"):
        expect(page.get_by_text(text).first).to_be_visible()


def test_every_kind_is_named_for_those_who_hear(visit):
    page = visit(document("".join(result.to_html() for result in every_kind()), "all"))
    unnamed = page.evaluate("""() => [...document.querySelectorAll('.ecco-html')].flatMap(n =>
        [...n.shadowRoot.querySelectorAll('[tabindex], button, select')]).filter(n =>
        !n.getAttribute('aria-label') && !n.textContent.trim()).map(n => n.outerHTML)""")
    assert unnamed == []
