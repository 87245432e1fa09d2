"""Results of every kind, small, for the tests of this folder."""

import numpy as np

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
    Report,
    Source,
    Table,
    Target,
    TokenGrid,
    Tokens,
    TokenScores,
)

TEXTS = ("<s>", "The", " captain", " is", " Nora", ".", "\n", "Ask", " [bold]", " 日本", "語", " 👩‍🚀", " Nora", ".")


def tokens(texts):
    n = len(texts)
    return Tokens(range(n), texts, [t or "<E2>" for t in texts], [t[:1] == " " for t in texts], [False] * n)


def token_scores(texts=TEXTS, *, positions=(8, 12), seed=0, values=None, sources=None, target_text=None, **fields):
    rng = np.random.default_rng(seed)
    if sources is None:
        sources = [Source(stack="decoder", positions=(i,), text=t) for i, t in enumerate(texts)]
    if values is None:
        values = rng.normal(size=(len(positions), len(sources)))
        for row, p in enumerate(positions):
            values[row, [s.positions[0] >= p for s in sources]] = 0
    targets = [
        Target(position=p, token_id=1, text=target_text or (texts[p] if p < len(texts) else " next"), value=-0.5,
               probability=0.6)
        for p in positions
    ]  # fmt: skip
    n = len(positions)
    given = {
        "title": "Integrated gradients",
        "provenance": Provenance(analysis="integrated_gradients", model="tiny:prose"),
        "values": LabelledArray(values, ("target", "source")),
        "tokens": {"decoder": tokens(texts)},
        "sources": sources,
        "targets": targets,
        "n_input_tokens": 7,
        "completeness": LabelledArray(np.full(n, -0.012), ("target",)),
        "change": LabelledArray(np.full(n, 4.0), ("target",)),
        "baseline": "zero embeddings",
        "notes": ("read this",),
    }
    return TokenScores(**{**given, **fields})


def every_kind():
    r = np.random.default_rng(1)
    words = np.array([[" the", "cap", " 日本", "[red]x", "\n", ""]] * 4, dtype=object)
    pattern = r.random((2, 3, 40, 40))
    return [
        token_scores(),
        TokenGrid(title="Lens", values=LabelledArray(r.random((4, 6)), ("layer", "position")),
                  texts=LabelledArray(words, ("layer", "position")), quantity="probability"),
        Predictions(title="Candidates", values=LabelledArray(r.random((4, 6)), ("layer", "rank")),
                    texts=LabelledArray(words, ("layer", "rank"))),
        Patterns(title="Attention", values=LabelledArray(pattern, ("layer", "head", "query", "key"))),
        Components(title="NMF", values=LabelledArray(r.random((3, 90)), ("component", "token")),
                   loadings=LabelledArray(r.random((3, 5)), ("component", "unit")), quality={"variance": 0.8}),
        Grid(title="CKA", values=LabelledArray(r.random((5, 5)), ("a", "b")),
             null=LabelledArray(r.random((5, 5)), ("a", "b"))),
        Curves(title="Curves", values=LabelledArray(r.normal(size=(2, 7)), ("curve", "x"), {"curve": ["one", "two"]})),
        Points(title="Map", values=LabelledArray(r.normal(size=(4, 2)), ("point", "axis")), labels=list("abcd")),
        Table(title="Heads", columns=("head", "score", "kind"), rows=[(i, i / 3, None) for i in range(70)]),
        Fitted(title="Lens", parameters={"w": np.zeros((3, 4))}, settings={"rate": 0.1}),
        Report([token_scores(), Table(title="Heads", columns=("head",), rows=[(1,)])], title="Both of them"),
    ]  # fmt: skip
