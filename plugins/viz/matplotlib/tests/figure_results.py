"""Results made by hand, one or more of each kind, and what a figure's texts cover; for the tests of figures."""

from __future__ import annotations

import functools
import re
import zlib

import attrs
import numpy as np
from ecco_matplotlib import plot

from ecco_core import (
    Components,
    Curves,
    Fitted,
    Grid,
    LabelledArray,
    Patterns,
    Points,
    Predictions,
    Provenance,
    Result,
    Source,
    Table,
    Target,
    TokenGrid,
    Tokens,
    TokenScores,
)

TEXT = "The captain of the ship is called Nora. She has a small dog. The captain smiled and the dog slept."
ORIGIN = Provenance(analysis="integrated_gradients", model="tiny:prose", interventions=("mlp_post of layer 3 × 0",))
NOTE = "What a layer before the last would say is a guess: the head was only trained to read the last one."
HOSTILE = (
    "$x_1$", "$\\frac{1}{", "\\alpha", "_a_^b", "a\\$b$", "%s{0}{", "<script>alert(1)</script>", "--><b>", "&lt;",
    "\x00\x07\x1b[31m", "\n\n\t ", "\u202egnp.exe", "\ud83d", "\ue000", "", " ", "מלון", "مرحبا", "漢字かな", "한국어",
    "🙂👩‍🚀",
    "x" * 400, "]]>", "url(http://a.b/c)",
)  # fmt: skip


def tokens(texts):
    texts = list(texts)
    ids = [zlib.crc32(t.encode("utf-8", "backslashreplace")) for t in texts]
    return Tokens(ids, texts, [t or "<E2>" for t in texts], [t[:1] == " " for t in texts], [False] * len(texts))


def pieces(text=TEXT):
    return re.findall(r" ?\w+|[^\w\s]", text)


def scores(texts=None, n_targets=6, **changes):
    """Causal scores of the last tokens: later sources are exactly 0."""
    toks = tokens(texts or pieces())
    n, rng = len(toks), np.random.default_rng(1)
    first = n - n_targets
    values = np.array([[rng.normal() if j < p else 0.0 for j in range(n)] for p in range(first, n)])
    made = {
        "title": "Which tokens led to each generated token", "provenance": ORIGIN,
        "notes": (NOTE,), "baseline": "the token '<|endoftext|>' in every place", "n_input_tokens": first,
        "values": LabelledArray(values, ("target", "source")), "tokens": {"decoder": toks},
        "sources": [Source(stack="decoder", positions=(p,), text=t) for p, t in enumerate(toks.texts)],
        "targets": [Target(position=p, token_id=int(toks.ids[p]), text=toks[p], value=-1.5, probability=0.22)
                    for p in range(first, n)],
        "completeness": LabelledArray(np.full(n_targets, 0.01), ("target",)),
        "change": LabelledArray(np.full(n_targets, 2.0), ("target",)),
    }  # fmt: skip
    return TokenScores(**(made | changes))


def two_stacks():
    """Scores of an encoder-decoder, spans as sources, a class and a neuron among the targets."""
    encoder, decoder = tokens(["Wer", " ist", " Nora", "?"]), tokens(["<pad>", " Who", " is"])
    sources = [Source(stack="encoder", positions=(0, 1), text="Wer ist"),
               *(Source(stack="encoder", positions=(p,), text=encoder[p]) for p in (2, 3)),
               *(Source(stack="decoder", positions=(p,), text=decoder[p]) for p in range(3))]  # fmt: skip
    targets = [
        Target(position=1, token_id=int(decoder.ids[1]), text=" Who", contrast_id=3, contrast_text=" What"),
        Target(position=3, token_id=2, text=" Nora"),
        Target(position=7, token_id=1, text="a question", kind="class", score="logit"),
        Target(position=2, token_id=17, text=" is", kind="neuron", score="unit 17 of mlp_post in layer 2"),
    ]
    values = np.arange(24).reshape(4, 6) / 10
    return TokenScores(values=LabelledArray(values, ("target", "source")), sources=sources, targets=targets,
                       tokens={"encoder": encoder, "decoder": decoder}, n_input_tokens=1, signed=False,
                       aggregation="l2")  # fmt: skip


def lens(layers=4, texts=None, **changes):
    words = texts or pieces()
    rng = np.random.default_rng(2)
    shape = (layers, len(words))
    coords = {"layer": tuple(range(layers)), "position": [f"{i} {w}" for i, w in enumerate(words)]}
    cells = np.array([[words[(i * j) % len(words)] for j in range(shape[1])] for i in range(layers)], dtype=object)
    made = {
        "title": "Logit lens: what each layer would say", "quantity": "probability of the top token, 0 to 1",
        "values": LabelledArray(rng.uniform(0, 1, shape), ("layer", "position"), coords), "notes": (NOTE,),
        "texts": LabelledArray(cells, ("layer", "position"), coords), "provenance": ORIGIN,
    }  # fmt: skip
    return TokenGrid(**(made | changes))


def ranks():
    values = LabelledArray([[812, 40, 3], [95, 2, 1]], ("layer", "token"), {"token": (" Nora", " Tom", " a")})
    return TokenGrid(title="Rank of watched tokens", quantity="rank among 4,096 tokens, 1 is the best", values=values)


def predictions(rows=4):
    values = np.sort(np.random.default_rng(3).dirichlet(np.ones(12), rows), axis=1)[:, ::-1]
    texts = np.array([[f" word{i}{j}" for j in range(12)] for i in range(rows)], dtype=object)
    dims = ("layer", "rank")
    return Predictions(title="Candidates of each layer for position 9", values=LabelledArray(values, dims),
                       texts=LabelledArray(texts, dims), notes=(NOTE,))  # fmt: skip


def patterns(layers=2, heads=4, texts=None):
    toks = tokens(texts or pieces()[:12])
    n = len(toks)
    raw = np.tril(np.random.default_rng(4).exponential(1, (layers, heads, n, n)))
    return Patterns(title="Self-attention", tokens={"decoder": toks},
                    values=LabelledArray(raw / raw.sum(-1, keepdims=True), ("layer", "head", "query", "key"))
                    )  # fmt: skip


def components(signed=False):
    toks, rng = tokens(pieces()), np.random.default_rng(5)
    values = rng.normal(0, 1, (5, len(toks))) if signed else rng.exponential(1, (5, len(toks)))
    units = [f"{i // 8}:{i % 8}" for i in range(32)]
    return Components(title="NMF: 5 components of mlp_post", values=LabelledArray(values, ("component", "token")),
                      loadings=LabelledArray(rng.normal(0, 1, (5, 32)), ("component", "unit"), {"unit": units}),
                      tokens=toks, quality={"explained variance": 0.83, "stability of component 0": 0.5})  # fmt: skip


def grid(null="varying"):
    values = np.clip(1 - 0.09 * np.abs(np.subtract.outer(np.arange(5), np.arange(5))), 0, 1)
    nulls = {"varying": values / 3, "constant": np.full((5, 5), 0.2), "none": None}[null]
    arrays = {"low": values - 0.05, "high": values + 0.04, "null": nulls}
    dims = ("layer", "other layer")
    return Grid(title="Similarity of layers (debiased CKA)", notes=(NOTE,), values=LabelledArray(values, dims),
                **{k: LabelledArray(v, dims) for k, v in arrays.items() if v is not None})  # fmt: skip


def curves(names=("accuracy, unseen words", "accuracy, seen words", "control task", "majority"), x=(0, 1, 2, 3, 4)):
    values = 0.7 + np.random.default_rng(6).normal(0, 0.02, (len(names), len(x)))
    dims, coords = ("curve", "layer"), {"curve": names, "layer": x}
    return Curves(title="Accuracy of a linear probe", values=LabelledArray(values, dims, coords), notes=(NOTE,),
                  low=LabelledArray(values - 0.04, dims, coords), high=LabelledArray(values + 0.03, dims, coords)
                  )  # fmt: skip


def points(n=31, axes=2):
    labels = tuple(f"{i} {w}" for i, w in zip(range(n), pieces() * n))
    return Points(title="UMAP of the tokens", labels=labels,
                  values=LabelledArray(np.random.default_rng(7).normal(0, 1, (n, axes)), ("point", "axis"),
                                       {"axis": [f"UMAP {i + 1}" for i in range(axes)]}))  # fmt: skip


def table():
    rows = ((0, " the captain of the ship " * 6, 0.61, True), (1, "Nora", 0.5512345, False), (2, "Tom", None, True))
    return Table(title="Probes", columns=("layer", "tokens", "accuracy", "kept"), rows=rows)


def fitted():
    return Fitted(title="A linear probe", parameters={"weights": np.zeros((2, 192)), "bias": np.zeros(2)},
                  settings={"classes": ["a", "b"], "penalty": 0.01, "site": "resid_post"}, notes=(NOTE,))  # fmt: skip


@attrs.frozen(kw_only=True, eq=False, repr=False)
class OfAPlugin(Result):
    """A kind that inherits from no other: shown by its blocks."""

    values: LabelledArray


def of_a_plugin():
    return OfAPlugin(title="New", values=LabelledArray([[1.0, -2.0, 3.0], [4.0, 5.0, np.nan]], ("thing", "other")))


#: name -> (result, options of its figure)
FIGURES = {
    "scores": (scores(), {}),
    "scores one": (scores(), {"target": 20}),
    "scores as a matrix of one": (scores(), {"target": 20, "view": "matrix"}),
    "scores as text": (scores(), {"view": "text"}),
    "scores of two stacks": (two_stacks(), {}),
    "scores of two stacks as text": (two_stacks(), {"view": "text", "target": 1}),
    "scores of a class": (two_stacks(), {"target": "a question"}),
    "lens": (lens(), {}),
    "deep lens": (lens(24), {}),
    "divergence": (lens(texts=None, quantity="KL divergence, in nats"), {}),
    "ranks": (ranks(), {}),
    "predictions": (predictions(), {}),
    "one prediction": (predictions(1), {}),
    "patterns": (patterns(), {}),
    "patterns of a layer": (patterns(heads=7), {"layer": 1}),
    "pattern of a head": (patterns(), {"layer": 0, "head": 2}),
    "pattern as lines": (patterns(), {"layer": 0, "head": 2, "view": "lines"}),
    "components": (components(), {}),
    "signed components": (components(signed=True), {}),
    "grid": (grid(), {}),
    "grid, one null": (grid("constant"), {}),
    "curves": (curves(), {}),
    "many curves": (curves(tuple(f"curve number {i}" for i in range(15))), {}),
    "one curve": (curves(("accuracy",), ("embedding", "layer 0", "layer 1")), {}),
    "points": (points(), {}),
    "points in space": (points(200, 3), {}),
    "points on a line": (points(9, 1), {}),
    "table": (table(), {}),
    "fitted": (fitted(), {}),
    "kind of a plugin": (of_a_plugin(), {}),
}  # fmt: skip


@functools.cache
def drawn(name, width="page"):
    """The axes of one of FIGURES, drawn once for all tests; not to be changed."""
    result, options = FIGURES[name]
    return plot(result, width=width, dpi=100, **options)


def figure_of(axes):
    """The figure of what plot() returned."""
    return getattr(axes, "flat", [axes])[0].figure


def drawn_texts(figure, monkeypatch):
    """(text, extent in pixels) of each text that is really drawn: not the ticks outside of an axis."""
    from matplotlib.text import Text

    found, draw = [], Text.draw
    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", lambda self, renderer, *a, **k: (found.append(self), draw(self, renderer))[1])
        figure.canvas.draw()
    seen = {id(t): t for t in found if t.get_visible() and t.get_text().strip()}.values()
    return [(t, Text.get_window_extent(t, figure.canvas.get_renderer())) for t in seen]


def collisions(figure, monkeypatch, slack=1.0):
    """What overlaps, and what leaves the figure, in words."""
    texts, bad = drawn_texts(figure, monkeypatch), []
    wide, high = figure.bbox.width, figure.bbox.height
    for i, (text, box) in enumerate(texts):
        if box.x0 < -slack or box.y0 < -slack or box.x1 > wide + slack or box.y1 > high + slack:
            bad.append(f"{text.get_text()[:40]!r} leaves the figure: {box.extents.round(1)} of {wide:.0f} × {high:.0f}")
        for other, its in texts[i + 1 :]:
            across = min(box.x1, its.x1) - max(box.x0, its.x0)
            up = min(box.y1, its.y1) - max(box.y0, its.y0)
            if across > slack and up > slack:
                bad.append(f"{text.get_text()[:40]!r} and {other.get_text()[:40]!r} overlap by {across:.1f} × {up:.1f}")
    return bad
