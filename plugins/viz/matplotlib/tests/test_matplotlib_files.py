"""Files of every kind in three formats, the options, and that nothing of the user's matplotlib is touched."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree
import zlib

import ecco_matplotlib
import matplotlib
import numpy as np
import pytest
from ecco_matplotlib import plot, style
from ecco_matplotlib.files import pdf, png, svg
from figure_results import FIGURES, curves, figure_of, fitted, grid, lens, patterns, scores, table, two_stacks

from ecco_core import OptionError, TargetError

WRITERS = {"svg": svg, "pdf": pdf, "png": png}


KINDS = ("scores", "scores as text", "lens", "ranks", "predictions", "patterns", "pattern as lines", "components",
         "grid", "curves", "points", "table", "fitted", "kind of a plugin")  # fmt: skip


#: As SVG each; the other formats add nothing but for dots inside of vectors, and what has many texts.
SAVED = [
    (name, suffix)
    if suffix == "svg" or name in ("scores", "pattern as lines", "table")
    else pytest.param(name, suffix, marks=pytest.mark.slow)
    for name in KINDS
    for suffix in WRITERS
]


@pytest.mark.parametrize(("name", "suffix"), SAVED)
def test_a_result_is_saved_by_its_suffix(name, suffix, tmp_path):
    result, options = FIGURES[name]
    data = result.save(tmp_path / f"why.{suffix}", width="column", dpi=60, **options).read_bytes()
    if suffix == "svg":
        root = ElementTree.fromstring(data)
        assert root.tag.endswith("svg")
        assert root.get("width") == "252pt"
        assert not [e.tag for e in root.iter() if e.tag.split("}")[-1] in ("script", "foreignObject", "a")]
        assert [e.text for e in root.iter() if e.tag.endswith("}text")], "texts are texts"
        links = [v for e in root.iter() for k, v in e.attrib.items() if k.endswith("href")]
        assert all(link.startswith(("#", "data:image/png")) for link in links)
        assert b"@import" not in data
    elif suffix == "pdf":
        assert data.startswith(b"%PDF-")
        assert b"/Type3" not in data
        assert b"/JavaScript" not in data
    else:
        import matplotlib.image

        assert matplotlib.image.imread(io.BytesIO(data)).shape[1] == 210


@pytest.fixture(scope="module")
def elsewhere():
    """What another process finds that draws a few figures: the files' checksums, and what is left in it."""
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\nimport gc, json, zlib\nfrom figure_results import grid, table\n"
        "from ecco_matplotlib.files import svg, pdf, png\nfrom matplotlib.figure import Figure\n"
        "found = {'svg': svg, 'pdf': pdf, 'png': png}\n"
        "sums = {k: zlib.crc32(write(table(), dpi=60)) for k, write in found.items()}\n"
        "grid = zlib.crc32(svg(grid(), width='column'))\ngc.collect()\n"
        "left = sum(isinstance(o, Figure) for o in gc.get_objects())\n"
        "print(json.dumps(dict(sums=sums, grid=grid, left=left, pyplot='matplotlib.pyplot' in sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stderr, "nothing is said beside the files"
    return json.loads(done.stdout)


def test_the_same_result_gives_the_same_bytes(elsewhere):
    first = {suffix: zlib.crc32(write(table(), dpi=60)) for suffix, write in WRITERS.items()}
    with matplotlib.rc_context({"svg.hashsalt": "other", "font.size": 30, "axes.facecolor": "black"}):
        assert {suffix: zlib.crc32(write(table(), dpi=60)) for suffix, write in WRITERS.items()} == first
    assert elsewhere["sums"] == first
    assert elsewhere["grid"] == zlib.crc32(svg(grid(), width="column"))


@pytest.fixture(scope="module")
def report():
    import ecco_core

    return ecco_core.Report([table(), ecco_core.Report([curves(), fitted()])], title="Three")


def test_a_report_is_a_page_per_result(report):
    written = pdf(report)
    assert written.count(b"/Type /Page ") == 3
    assert b"CreationDate" not in written


def test_a_report_is_one_picture_of_all_its_figures(report):
    import matplotlib.image

    heights = [
        figure.get_size_inches()[1] for figure in map(figure_of, (plot(table()), plot(curves()), plot(fitted())))
    ]
    picture = matplotlib.image.imread(io.BytesIO(png(report, dpi=50)))
    assert picture.shape[1] == 360
    assert picture.shape[0] == pytest.approx(50 * sum(heights), abs=3)
    root = ElementTree.fromstring(svg(report))
    parts = [e for e in root if e.tag.endswith("}svg")]
    assert [float(p.get("y")) for p in parts] == pytest.approx([0, 72 * heights[0], 72 * sum(heights[:2])], abs=0.1)
    assert float(root.get("height").removesuffix("pt")) == pytest.approx(72 * sum(heights), abs=0.1)
    ids = [e.get("id") for e in root.iter() if e.get("id")]
    assert len(ids) == len(set(ids)), "ids of different figures are told apart"


def test_a_report_is_plotted_as_a_figure_each(report):
    import ecco_core

    axes = plot(report, dpi=50)
    assert len({id(ax.figure) for ax in axes}) == 3
    with pytest.raises(OptionError, match=r"A report is several figures; leave ax out"):
        plot(report, ax=axes[0])
    with pytest.raises(OptionError, match=r"the report holds no result"):
        plot(ecco_core.Report([]))


def test_an_svg_holds_its_texts_and_the_fonts_for_them(tmp_path):
    from fontTools.ttLib import TTFont

    root = ElementTree.fromstring(svg(lens(2, ["a<b&", "$x_1$", "שלום"]), width="column"))
    texts = [e.text for e in root.iter() if e.tag.endswith("}text")]
    assert {"a<b&", "$x_1$", "שלום"} <= set(texts)
    rules = next(e.text for e in root if e.tag.endswith("}style"))
    held = set()
    for look, data in re.findall(r"@font-face\{([^}]*?);src:url\(data:font/woff;base64,([^)]*)\)\}", rules):
        assert look.startswith("font-family:'")
        held |= set(TTFont(io.BytesIO(base64.b64decode(data))).getBestCmap())
    assert {ord(c) for text in texts for c in text} <= held
    assert len(held) < 200, "only what is needed"


def test_an_svg_carries_no_date():
    assert b"dc:date" not in svg(table())


def test_the_axes_are_the_users_to_change_and_to_save():
    ax = plot(curves())
    ax.set_title("Mine", loc="right")
    ax.set_ylim(0, 1)
    ax.plot([0, 4], [0.5, 0.5])
    buffer = io.BytesIO()
    ax.figure.savefig(buffer, format="svg")
    assert ElementTree.fromstring(buffer.getvalue()) is not None
    assert ax.get_ylim() == (0, 1)


def test_given_axes_are_drawn_on():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.set_xlabel("untouched")
    assert plot(scores(), ax=right) is right
    assert right.get_title(loc="left")
    assert left.get_xlabel() == "untouched"
    assert figure.get_size_inches().tolist() == [8, 4]
    figure.canvas.draw()
    with pytest.raises(OptionError, match=r"leave ax out"):
        plot(scores(), ax=left, view="text")


def test_several_panels_divide_given_axes_of_a_grid():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = plot(grid(), ax=figure.subplots(1, 2)[1])
    assert [ax.get_title(loc="left") for ax in axes] == ["found", "by chance (null)"]
    with pytest.raises(OptionError, match=r"needs \d × \d panels, and the axes given as ax are in no grid"):
        plot(grid(), ax=figure.add_axes((0, 0, 1, 1)))


def test_nothing_of_the_users_matplotlib_changes():
    with matplotlib.rc_context({"font.size": 13, "axes.spines.top": True, "text.usetex": True}):
        before = dict(matplotlib.rcParams)
        for name in ("scores one", "table"):
            result, options = FIGURES[name]
            png(result, dpi=40, width="column", **options)
        with pytest.raises(OptionError):
            plot(scores(), width=900)
        assert dict(matplotlib.rcParams) == before


def test_pyplot_is_never_imported_and_no_figure_stays(elsewhere):
    assert elsewhere["left"] <= 1  # matplotlib's cache of texts keeps the last
    assert not elsewhere["pyplot"]


def test_threads_draw_what_one_thread_draws():
    wanted = [png(table(), dpi=50), png(curves(), dpi=50)]
    before, found = dict(matplotlib.rcParams), []

    def work(i):
        found.append((i % 2, png((table, curves)[i % 2](), dpi=50)))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(data == wanted[i] for i, data in found)
    assert dict(matplotlib.rcParams) == before


def test_the_style_is_for_the_users_own_figures_too():
    import matplotlib.style

    with style():
        assert matplotlib.rcParams["pdf.fonttype"] == 42
        assert matplotlib.rcParams["axes.spines.right"] is False
    assert matplotlib.rcParams["pdf.fonttype"] == 3
    with matplotlib.style.context("ecco_matplotlib.ecco"):
        assert matplotlib.rcParams["svg.hashsalt"] == "ecco"
    assert ecco_matplotlib.style is style
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ecco_matplotlib.nonsense


@pytest.mark.parametrize(
    ("result", "options", "message"),
    [
        (scores(), {"width": "pgae"}, "width takes inches, 'column' or 'page', found 'pgae'. Did you mean 'page'?"),
        (scores(), {"width": 1}, "width takes 2 to 40 inches, found 1."),
        (scores(), {"width": True}, "width takes 2 to 40 inches, found True."),
        (scores(), {"height": 0.2}, "height takes 1 to 40 inches, found 0.2."),
        (scores(), {"dpi": 5}, "dpi takes 30 to 1200 dots per inch, found 5."),
        (table(), {"height": 1.0}, "height=1 inches is too low for this figure; it needs about 1."),
        (lens(24), {"height": 1.0}, "height=1 inches is too low for this figure; it needs about "),
        (scores(), {"layer": 3}, "The figure of a TokenScores takes no option 'layer'; it takes width, height, dpi, "),
        (table(), {"view": "text"}, "The figure of a Table takes no option 'view'; it takes width, height, dpi."),
        (scores(), {"view": "lines"}, "view of token scores takes 'matrix', 'bars' or 'text', found 'lines'."),
        (patterns(), {"view": "bars"}, "view of attention takes 'matrix' or 'lines', found 'bars'."),
        (patterns(), {"view": "lines"}, "view='lines' shows one head; choose it by layer and head."),
        (patterns(), {"layer": 9}, "There is no layer 9 here; there are 0 to 1."),
        (patterns(), {"layer": 0, "head": 4}, "There is no head 4 here; there are 0 to 3."),
        (patterns(), {"head": 1}, "head=1 needs a layer too; there are the layers 0 to 1."),
        (patterns(1, 1, ["a"] * 90), {"view": "lines"}, "Lines between 90 tokens cannot be told apart; take view='ma"),
        ("text", {}, "plot takes a result of an analysis, found str."),
    ],
)  # fmt: skip
def test_options_are_refused_in_one_sentence(result, options, message):
    with pytest.raises(OptionError) as error:
        plot(result, **options)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_targets_that_are_not_there_are_said():
    with pytest.raises(
        TargetError, match=r"^3 was not explained; option 'target' takes one of: 17, 18, 19, 20, 21, 22\.$"
    ):
        plot(scores(), target=3)
    with pytest.raises(TargetError, match="takes one of: 1, 3, a question, 2"):
        plot(two_stacks(), target="an answer")
    nothing = scores(targets=(), values=scores().values.isel(target=[]), completeness=None, change=None)
    with pytest.raises(TargetError, match="no target was explained"):
        plot(nothing)


def test_core_checks_the_options_of_a_file(tmp_path):
    with pytest.raises(OptionError, match="Did you mean 'width'"):
        table().save(tmp_path / "a.svg", widht=3)
    with pytest.raises(OptionError, match=r"option 'view' .* Did you mean 'matrix'"):
        scores().save(tmp_path / "a.svg", view="matrx")


def test_the_size_is_what_was_asked_for():
    figure = figure_of(plot(curves(), width=5.5, height=3.3, dpi=80))
    assert np.allclose(figure.get_size_inches(), (5.5, 3.3), atol=1e-6)
    assert figure.dpi == 80
    tall, low = (figure_of(plot(curves(), height=h)).axes[0].get_position().height * h for h in (5, 3))
    assert tall - low == pytest.approx(2, abs=0.1)
