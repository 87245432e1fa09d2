"""What the pages contain, without a browser."""

from __future__ import annotations

import json
import re
import string
import subprocess
import sys
from html.parser import HTMLParser

import attrs
import numpy as np
import pytest
from ecco_html import assets, ecco_renderers, packing, palette
from ecco_html.escape import direction, escaped, laid_out, number, script_json
from ecco_html.heat_map import MOST_CELLS, MOST_COLUMNS, Scale
from html_results import (
    HOSTILE,
    class_scores,
    contrast_scores,
    every_kind,
    hostile_scores,
    long_scores,
    masked_scores,
    named_scores,
    small_scores,
    story_scores,
    tokens,
    translation_scores,
    world_scores,
)
from hypothesis import given
from hypothesis.extra.numpy import arrays
from hypothesis.strategies import floats, just

from ecco_core import Grid, LabelledArray, OptionError, Source, Table, Target, rendering
from ecco_core.data.results import RESULT_KINDS

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Outline(HTMLParser):
    """Collects text and scripts, and checks that every element is closed in order."""

    def __init__(self, markup):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text, self.scripts, self.attributes = [], [], "", [], []
        self.feed(markup)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag == "script":
            self.scripts.append((dict(attrs).get("type", ""), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)
        else:
            self.text += data

    @property
    def data(self):
        return next(json.loads(text) for kind, text in self.scripts if kind == "application/json")


@pytest.mark.parametrize(
    "result",
    [
        *every_kind(),
        contrast_scores(),
        translation_scores(),
        world_scores(),
        hostile_scores(),
        class_scores(),
        class_scores(HOSTILE),
        named_scores(),
        masked_scores(),
    ],
    ids=lambda r: r.kinds()[0] + " " + r.title[:12],
)
class TestEveryPage:
    def test_fragment_is_balanced_and_encodable(self, result):
        Outline(result.to_html()).close()
        result.to_html().encode("utf-8")

    def test_fragment_is_a_fragment(self, result):
        outline = Outline(result.to_html())
        assert outline.tags[0] == "div"
        assert not {"html", "head", "body", "title", "meta", "link", "iframe", "img", "h1"} & set(outline.tags)

    def test_document_is_complete(self, result, tmp_path):
        path = result.save(tmp_path / "page.html")
        text = path.read_text("utf-8")
        assert text.startswith('<!doctype html>\n<html lang="en" data-ecco-document>')
        assert Outline(text).tags[:6] == ["html", "head", "meta", "meta", "meta", "title"]
        assert "default-src 'none'" in text
        assert result.to_html() in text

    def test_nothing_external(self, result):
        for word in ("http", "src=", "@import", "url(", "require(", "eval(", "innerHTML", "//cdn"):
            assert word not in result.to_html().replace("img src=x", "").replace("&lt;img src=x", ""), word

    def test_no_ids_that_could_clash(self, result):
        names = {name for _, name, _ in Outline(result.to_html()).attributes}
        assert not {n for n in names if n == "id" or n.startswith("on")}

    def test_no_character_that_acts(self, result):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\u2028\u2029]",
                             result.to_html())  # fmt: skip

    def test_same_result_same_page(self, result):
        assert result.to_html() == result.to_html()


def test_every_kind_is_covered():
    assert {type(r) for r in every_kind()} == set(RESULT_KINDS)


def test_media_and_suffixes():
    specs = {s.name: s for s in ecco_renderers()}
    assert {s.media_type for s in specs.values()} == {"text/html", "text/html;profile=document"}
    for kind in every_kind():
        assert rendering.find_renderer(kind, media_type="text/html").distribution == "ecco-html"
        assert rendering.find_renderer(kind, suffix=".htm").spec.media_type == "text/html;profile=document"
    assert set(rendering.mimebundle(small_scores())) == {"text/plain", "text/html"}


def test_importing_the_plugin_is_light():
    code = (
        "import ecco_html, sys; ecco_html.ecco_renderers(); print([m for m in ('numpy', 'torch') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_size_budget():
    script, style = assets.code(*assets.VIEWS)
    weight = len(script.encode()) + len(style.encode())
    print(f"script {len(script.encode())}, style {len(style.encode())}, together {weight} bytes")
    assert weight <= 30 * 1024
    assert "</" not in script + style
    assert "<!--" not in script + style


def test_a_page_carries_only_what_its_view_needs():
    whole = sum(map(len, assets.code(*assets.VIEWS)))
    for view in assets.VIEWS:
        script, style = assets.code(view)
        assert [name for name in assets.VIEWS if f"views.{name}=" in script] in ([view], ["grid", view])
        assert len(script) + len(style) < 0.8 * whole
    assert "ArrowUp" not in assets.code()[0]


@pytest.mark.parametrize("views", [(), *((view,) for view in assets.VIEWS), tuple(assets.VIEWS)])
def test_names_are_shortened_and_nothing_else(views):
    """The texts, the properties and what Python hands over stay as they are; no two names become one."""
    names = [name for view in views for name in assets.VIEWS[view] if name.endswith(".js")]
    plain = "\n".join(map(assets.asset, dict.fromkeys(["parts.js", *names, "page.js"])))
    short = assets.shortened(plain)
    parts, shorts = assets._LITERAL.split(plain), assets._LITERAL.split(short)
    assert "'" not in "".join(parts[::2]), "only double quotes"
    assert [t for t in shorts[1::2] if t[0] == '"'] == [t for t in parts[1::2] if t[0] == '"']
    before, after = (assets._NAME.findall("\n".join(some[::2])) for some in (parts, shorts))
    assert len(before) == len(after)
    new = dict(zip(before, after))
    assert [new[name] for name in before] == after, "a name becomes the same everywhere"
    assert len(set(new.values())) == len(new), "no two names become one"
    fixed = {"document", "Math", "null", "true", "false", "undefined", "const", "return", "views", "history"}
    assert all(new.get(name, name) == name for name in fixed)
    assert len(short) < 0.9 * len(plain)


def test_long_result_stays_small():
    assert len(long_scores().to_html().encode()) < 1_000_000


# Hostile text


def test_hostile_text_is_text():
    outline = Outline(hostile_scores().to_html())
    assert [kind for kind, _ in outline.scripts] == ["application/json", "text/css", ""]
    assert "img" not in outline.tags
    assert "<img src=x onerror=window.pwned=1>" in outline.text
    assert r"\x1b[31m\x07" in outline.text
    assert r"\u202egnp.exe\u2066" in outline.text
    assert outline.data["targets"][0][2].startswith("'</script>")


@pytest.mark.parametrize("text", HOSTILE)
def test_script_json_is_inert_and_exact(text):
    encoded = script_json([text])
    assert encoded.isascii()
    assert not set("<>&") & set(encoded)
    assert json.loads(encoded) == [text]


def test_table_cells_are_escaped():
    html = Table(title="<b>", columns=("<i>", "x"), rows=(("</td><script>", 1), ("\ud800", None))).to_html()
    assert "<b>" not in html.split("<script")[0]
    assert "&lt;/td&gt;&lt;script&gt;" in html
    assert r"\ud800" in html


# Numbers and texts


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.23456, "1.235"), (-0.5, "−0.5"), (0.0, "0"), (-0.0, "0"), (1e-9, "1e−9"), (123456.0, "123456"),
     (float("nan"), "not a number"), (float("-inf"), "−∞"), (np.float32(0.25), "0.25"), (True, "1")],
)  # fmt: skip
def test_number(value, text):
    assert number(value) == text


def test_plus_sign():
    assert [number(x, plus=True) for x in (1.0, 0.0, -1.0)] == ["+1", "0", "−1"]


@pytest.mark.parametrize(
    ("text", "shown"), [(" a", " a"), ("\n", "⏎\n"), (" \n\nb", " ⏎\n⏎\nb"), ("⏎", "⏎"), ("\r\n", "␍⏎\n"), ("", "")]
)
def test_layout_of_newlines(text, shown):
    assert laid_out(text) == shown


@pytest.mark.parametrize(
    ("text", "way"), [("abc", "ltr"), ("", "ltr"), ("1. مرحبا", "rtl"), ("שלום abc", "rtl"), ("日本", "ltr")]
)
def test_direction(text, way):
    assert direction(text) == way


def test_parts_of_a_character_show_their_bytes():
    assert escaped("<F0 93>") in world_scores().to_html()


# Token scores


def test_static_text_is_the_run():
    result = story_scores()
    markup = result.to_html()
    rows = re.findall(r'class="tokens".*?</div>', markup, re.S)
    shown = "".join(Outline("<p " + row.removesuffix("</div>") + "</p>").text for row in rows)
    assert shown.replace("⏎\n", "\n") == result.tokens["decoder"].text


def test_words_say_what_is_shown():
    text = Outline(story_scores(notes=("Mind the gap.",)).to_html()).text
    for words in ("Which tokens led", "prompt", "output", "Mind the gap.", "integrated_gradients", "tiny:prose",
                  "scores: signed", "baseline: the embedding of", "completeness error", "of the change", "against −",
                  "position 54", "ecco-captum 0.1.0", "how this was made"):  # fmt: skip
        assert words in text, words


def test_attention_is_not_said_to_lead_to_anything():
    attention = small_scores(signed=False, aggregation="", unit="share of attention")
    text = Outline(attention.to_html()).text
    assert "Scores for ' mat' at position 5" in text
    assert "led to" not in text
    assert "promise" not in text
    assert Outline(attention.to_html()).data["led"] == "most from"


def test_no_baseline_no_promise():
    text = Outline(small_scores().to_html()).text
    assert "baseline" not in text
    assert "no completeness promise" in text


def test_static_colours_are_those_of_the_last_target():
    result = small_scores()
    spans = re.findall(r'data-p="(\d)".*?style="([^"]*)"', result.to_html())
    for place, style in spans:
        level = result.values.values[-1][int(place)] / 0.625
        assert palette.background(level, signed=True) in style
        assert ("background" in style) == bool(level)


def test_scale_all_uses_the_greatest_of_all():
    values = LabelledArray([[1.0, 0, 0], [4.0, -2.0, 0]], ("target", "source"))
    result = small_scores(("a", "b", "c"), given=1, values=values)
    flipped = small_scores(("a", "b", "c"), given=1, values=LabelledArray(values.values[::-1], values.dims))
    assert "+1</span> for" in flipped.to_html()
    assert "+4</span> for" in flipped.to_html(scale="all")
    assert "one scale for all targets" in flipped.to_html(scale="all")
    assert Outline(result.to_html(scale="all")).data["shared"] == 4.0
    with pytest.raises(OptionError, match="'row' or 'all'"):
        result.to_html(scale="al")


def test_exact_numbers_up_to_the_limit():
    result = story_scores()
    rows = Outline(result.to_html()).data["rows"]
    padded = np.array([row + [0] * (result.values.shape[1] - len(row)) for row in rows])
    np.testing.assert_allclose(padded, result.values.values, rtol=5e-6)


def unpacked(text, greatest):
    """What parts.js makes of packed numbers."""
    letters = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    codes = [letters.index(a) * 64 + letters.index(b) for a, b in zip(text[::2], text[1::2])]
    sizes = np.array([code & 2047 for code in codes])
    signs = np.array([-1 if code >> 11 else 1 for code in codes])
    values = np.where(sizes == 0, 0, signs * greatest * 10 ** (5 * (sizes - 2046) / 2046))
    return np.where(sizes == 2047, np.nan, values)


def test_three_digits_beyond_the_limit():
    result = long_scores(600, 120)
    values = result.values.values
    assert values.size > packing.EXACT_CELLS
    for row, text in zip(values, Outline(result.to_html()).data["rows"]):
        found = unpacked(text, np.abs(row).max())
        padded = np.pad(found, (0, len(row) - len(found)))
        big = np.abs(row) > 2e-5 * np.abs(row).max()
        np.testing.assert_allclose(padded[big], row[big], rtol=2.9e-3)
        assert np.abs(padded[~big]).max(initial=0) <= 2.1e-5 * np.abs(row).max()


@given(arrays(float, 7, elements=floats(-1e6, 1e6) | just(np.nan)))
def test_packed_numbers(row):
    greatest = float(np.nanmax(np.abs(row), initial=0))
    found = unpacked(packing.pack(row, greatest), greatest)
    assert np.array_equal(np.isnan(found), np.isnan(row))
    known = np.abs(np.nan_to_num(row)) > 2e-5 * greatest
    np.testing.assert_allclose(found[known], row[known], rtol=2.9e-3)
    assert (np.sign(found[known]) == np.sign(row[known])).all()


def test_numbers_that_are_none():
    values = LabelledArray([[np.nan, np.inf, -np.inf], [np.nan, 1.0, 0.0]], ("target", "source"))
    outline = Outline(small_scores(("a", "b", "c"), given=1, values=values).to_html())
    assert outline.data["rows"] == [[None, None, None], [None, 1]]


@pytest.mark.parametrize("values", [np.zeros((3, 6)), np.zeros((0, 6))])
def test_nothing_to_paint(values):
    targets = small_scores().targets[: len(values)]
    html = small_scores(values=LabelledArray(values, ("target", "source")), targets=targets).to_html()
    assert "rgba(213,94,0,0" not in html.split("legend")[0]
    assert ("No target was explained." in html) == (not len(values))


def test_sources_that_cover_several_tokens():
    result = contrast_scores()
    html = result.to_html()
    source = Outline(html).data["sources"][3]
    assert source == [0, "' the key'", 3, 4]
    paints = dict(re.findall(r'data-p="(\d+)"[^>]*>\s?<span class="ink" style="([^"]*)"', html))
    assert paints["3"] == paints["4"] != ""


def test_token_not_chosen_yet():
    html = contrast_scores().to_html()
    assert 'class="tok ghost goal" data-p="15"' in html
    assert "not chosen yet" in html


def test_explained_token_that_does_not_stand_there():
    result = small_scores(targets=[Target(position=3, token_id=-5, text=" under")], values=LabelledArray(
        np.ones((1, 6)), ("target", "source")))  # fmt: skip
    assert "position 3, where ' on' stands" in Outline(result.to_html()).text


def rows(result):
    """Label, and what is told beside it, of each row."""
    return re.findall(r'class="label"[^>]*><b>([^<]*)</b> <span class="quiet">([^<]*)', result.to_html())


def test_a_row_for_each_stack():
    assert rows(translation_scores()) == [("source text", "encoder, 9 tokens"), ("output", "decoder, 9 tokens")]


def test_what_a_decoder_was_given_has_its_own_row():
    given = tokens("Der", " Hund", " schläft")
    result = translation_scores()
    result = attrs.evolve(
        result, tokens=result.tokens | {"decoder": given}, n_input_tokens=2, targets=result.targets[:1],
        values=LabelledArray(result.values.values[:1], ("target", "source")),
    )  # fmt: skip
    assert [label for label, _ in rows(result)] == ["source text", "prompt", "output"]


def test_a_class_of_the_text_stands_in_a_row_of_its_own():
    result = class_scores()
    assert rows(result) == [("text", "7 tokens"), ("classes", "of the whole text")]
    text = Outline(result.to_html()).text
    assert "What led to class 'positive'" in text
    assert "not chosen yet" not in text
    assert "next" not in text
    assert f"position {len(result.tokens['encoder'])}" not in text
    assert "Colours show what led to the class with the frame" in text
    one = attrs.evolve(result, targets=result.targets[1:], values=LabelledArray(result.values.values[1:], ("t", "s")))
    assert rows(one)[-1] == ("class", "of the whole text")
    assert re.findall(r'class="tok chip goal" data-p="7" data-t="(\d)"', result.to_html()) == ["0", "1"]


def test_a_contrast_of_classes_tells_both():
    target = Target(
        position=7, token_id=0, text="good", contrast_id=1, contrast_text="bad", stack="encoder", kind="class"
    )
    result = class_scores(targets=[target], values=LabelledArray(np.ones((1, 7)), ("target", "source")))
    text = Outline(result.to_html()).text
    assert "class 'good' rather than 'bad'" in text
    assert "good rather than 'bad'" in re.sub("class 'good'", "", text)


def test_a_class_of_a_token_stands_beside_it():
    html = named_scores().to_html()
    assert "What led to class 'PERSON' for ' Felix' at position 2" in Outline(html).text
    assert re.findall(r'<sub class="said"[^>]*>(\w+)</sub>', html) == ["PERSON", "O", "PERSON"]
    assert rows(named_scores()) == [("text", "3 tokens")]


def test_a_masked_place_tells_what_stands_there_and_what_fills_it():
    result = masked_scores()
    html = result.to_html()
    assert "What led to ' kind' at [MASK], position 6" in Outline(html).text
    assert re.findall(r'<sub class="said"[^>]*>(\w+)</sub>', html) == ["kind"]
    assert "Colours show what led to the prediction in the frame" in Outline(html).text
    assert [target[3] for target in Outline(html).data["targets"]] == ["at position 2, masked", "at [MASK], position 6"]


def test_several_tokens_that_come_next_show_the_last():
    result = contrast_scores()
    first = attrs.evolve(result, targets=result.targets[:2], values=LabelledArray(result.values.values[:2], ("t", "s")))
    assert re.search(r'class="tok ghost goal".*?Tom</span>', first.to_html())


def test_source_outside_the_page_is_not_painted():
    sources = [*small_scores().sources[:5], Source(stack="decoder", positions=(99,), text="?")]
    Outline(small_scores(sources=sources).to_html())


# Heat maps and tables


def test_heat_map_is_accessible():
    html = next(r for r in every_kind() if r.kinds()[0] == "TokenGrid").to_html()
    assert '<th scope="row" dir="auto">5</th>' in html
    assert '<th scope="col" dir="auto"><small>4</small> Nora</th>' in html
    assert "<caption" in html
    assert "probability of the top token" in html


def test_heat_map_counts_what_it_leaves_out():
    most = MOST_CELLS // MOST_COLUMNS
    html = Grid(values=LabelledArray(np.ones((most + 3, MOST_COLUMNS + 4)), ("a", "b"))).to_html()
    assert "3 more along a, 4 more along b" in html
    assert html.count("<td style") == MOST_CELLS
    tall = Grid(values=LabelledArray(np.ones((MOST_CELLS // 4, 4)), ("a", "b"))).to_html()
    assert "more along" not in tall


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 3.0], Scale(1, 3, signed=False)), ([-1.0, 3.0], Scale(-3, 3, signed=True)),
     ([np.nan], Scale(0, 0, signed=False)), ([np.inf, 2.0], Scale(2, 2, signed=False))],
)  # fmt: skip
def test_scale(values, expected):
    assert Scale.of(values) == expected


def test_equal_numbers_do_not_divide_by_zero():
    assert Scale.of([2.0, 2.0]).level(2.0) == 0.5


# Contrast


def luminance(colour):
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in colour)]
    return np.dot(linear, (0.2126, 0.7152, 0.0722))


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


HOSTS = {
    "document": ((255, 255, 255), (28, 28, 30)),
    "document, dark": ((22, 23, 26), (230, 230, 230)),
    "JupyterLab": ((255, 255, 255), (33, 33, 33)),
    "JupyterLab, dark": ((17, 17, 17), (255, 255, 255)),
    "VS Code": ((255, 255, 255), (59, 59, 59)),
    "VS Code, dark": ((30, 30, 30), (212, 212, 212)),
}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("signed", [True, False])
def test_text_on_every_paint_can_be_read(host, signed):
    paper, ink = HOSTS[host]
    for level in np.linspace(-1, 1, 201):
        colour = palette.shade(float(level), signed=signed)
        if colour:
            *paint, alpha = map(float, re.findall(r"[\d.]+", colour))
            mixed = [alpha * p + (1 - alpha) * q for p, q in zip(paint, paper)]
            assert contrast(mixed, ink) >= 4.5, (host, level)


@pytest.mark.parametrize("host", HOSTS)
def test_shares_of_attention_can_be_told_from_nothing(host):
    """In a dense matrix no text stands on the paint, so that it may be opaque; a twentieth shows, a half is plain."""
    paper, _ = HOSTS[host]
    scale = Scale(0, 1, signed=False, bend="root")
    seen = []
    for share in (0.05, 0.1, 0.5, 1.0):
        *paint, alpha = map(float, re.findall(r"[\d.]+", palette.shade(scale.level(share), signed=False, most=1.0)))
        seen.append(contrast([alpha * p + (1 - alpha) * q for p, q in zip(paint, paper)], paper))
    assert seen == sorted(seen)
    assert seen[0] >= 1.25
    assert seen[2] >= 2
    assert seen[3] >= 3, "what WCAG asks of graphics"


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("factor", range(len(palette.FACTORS)))
def test_text_on_the_colour_of_a_factor_can_be_read(host, factor):
    paper, ink = HOSTS[host]
    *paint, alpha = map(float, re.findall(r"[\d.]+", palette.tint(factor)))
    assert contrast([alpha * p + (1 - alpha) * q for p, q in zip(paint, paper)], ink) >= 4.5


@pytest.mark.parametrize("factor", range(len(palette.FACTORS)))
def test_each_factor_has_its_own_colour(factor):
    others = [c for i, c in enumerate(palette.FACTORS) if i != factor]
    assert min(np.linalg.norm(np.subtract(palette.FACTORS[factor], c)) for c in others) > 50


@pytest.mark.parametrize("host", HOSTS)
def test_quiet_text_can_be_read(host):
    paper, ink = HOSTS[host]
    share = float(re.search(r"--soft:color-mix\(in srgb,currentColor (\d+)%", assets.asset("page.css"))[1]) / 100
    assert contrast([share * i + (1 - share) * p for i, p in zip(ink, paper)], paper) >= 4.5


def test_levels_beyond_the_scale():
    assert palette.shade(7.0, signed=True) == palette.shade(1.0, signed=True)
    assert palette.shade(float("nan"), signed=True) == palette.shade(0.0, signed=True) == ""
