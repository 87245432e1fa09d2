"""Results made by hand, as realistic as can be without a model: for tests and for looking at."""

from __future__ import annotations

import re

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

STORY = (
    "The captain of the ship is called Nora. She has a small dog, and the dog sleeps under the map table.\n"
    "One evening the crew asked who would steer through the night."
)
ANSWER = ' The captain smiled.\n"I will," said Nora, and the dog followed her.'
ORIGIN = Provenance(
    analysis="integrated_gradients", plugin="ecco-captum 0.1.0", model="tiny:prose", model_type="gpt2",
    options={"steps": 32, "aggregation": "sum", "targets": "generated"}, seed=7, precision="float32",
    device="cpu", versions={"torch": "2.13.0", "transformers": "5.23.0"},
)  # fmt: skip

HOSTILE = (
    "</script><script>window.pwned=1</script>", "<!--", "<img src=x onerror=window.pwned=1>", '"><b onclick="x">',
    "\u2028\u2029", "\x1b[31m\x07", "\ud83d", "\u202egnp.exe\u2066", "&lt;&amp;", "`${alert(1)}`", "\x00", "]]>",
)  # fmt: skip


def pieces(text):
    """Cut a text the way byte-level tokenizers do, blank first."""
    return re.findall(r"\n| ?\w+| ?[^\w\s]+|\s+", text)


def tokens(*texts, labels=None, special=()):
    texts = list(texts)
    ids = [abs(hash(t)) % 50_000 for t in texts]
    starts = [t[:1] in " \n" or i == 0 for i, t in enumerate(texts)]
    return Tokens(ids, texts, labels or [t or "?" for t in texts], starts, [t in special for t in texts])


def single_sources(**stacks):
    return [
        Source(stack=name, positions=(p,), text=t) for name, toks in stacks.items() for p, t in enumerate(toks.texts)
    ]


def story_scores(**changes):
    """Signed, causal, one target per generated token: later tokens have exactly 0, same words attract."""
    prompt, output = pieces(STORY), pieces(ANSWER)
    toks = tokens(*prompt, *output)
    rng = np.random.default_rng(5)
    n, first = len(toks), len(prompt)
    values = np.zeros((n - first, n))
    targets = []
    for i, p in enumerate(range(first, n)):
        row = rng.laplace(0, 0.05, n)
        for j in range(p):
            same = toks.texts[j].strip().lower() == toks.texts[p].strip().lower()
            row[j] += (1.2 if same and toks.texts[p].strip().isalpha() else 0) + 0.35 * np.exp(-(p - j) / 2)
        row[p:] = 0
        values[i] = row * rng.uniform(0.5, 1.6)
        prob = float(rng.uniform(0.2, 0.97))
        targets.append(
            Target(position=p, token_id=int(toks.ids[p]), text=toks.texts[p], value=float(np.log(prob)),
                   probability=prob)
        )  # fmt: skip
    change = values.sum(1) + rng.normal(0, 0.01, n - first)
    made = {
        "title": "Which tokens led to each generated token",
        "provenance": ORIGIN,
        "values": LabelledArray(values, ("target", "source")),
        "tokens": {"decoder": toks},
        "sources": single_sources(decoder=toks),
        "targets": targets,
        "n_input_tokens": first,
        "completeness": LabelledArray(change - values.sum(1), ("target",)),
        "change": LabelledArray(change, ("target",)),
        "baseline": "the embedding of the end-of-text token at every position",
    }
    return TokenScores(**(made | changes))


def small_scores(words=("The", " cat", " sat", " on", " the", " mat"), given=3, **changes):
    """A few tokens, exact numbers: target i, source j has (j + 1) / 8 · (−1)^j, causal."""
    toks = tokens(*words)
    n = len(words)
    values = np.array([[(j + 1) / 8 * (-1) ** j if j < p else 0.0 for j in range(n)] for p in range(given, n)])
    made = {
        "title": "Small",
        "values": LabelledArray(values, ("target", "source")),
        "tokens": {"decoder": toks},
        "sources": single_sources(decoder=toks),
        "targets": [Target(position=p, token_id=int(toks.ids[p]), text=words[p]) for p in range(given, n)],
        "n_input_tokens": given,
    }
    return TokenScores(**(made | changes))


def contrast_scores():
    """Three questions about one token that is not chosen yet, one a contrast; sources are words."""
    prompt = pieces("Nora gave Tom the key because he had asked for it. Then Tom thanked")
    toks = tokens(*prompt)
    n = len(toks)
    rng = np.random.default_rng(1)
    values = rng.normal(0, 0.08, (3, n - 1))
    values[0, 0], values[0, 2], values[0, 11] = 1.1, 0.3, -0.2
    values[1, 0], values[1, 2], values[1, 12] = 0.1, 0.9, 0.7
    values[2, 0], values[2, 2], values[2, 12] = 1.3, -0.8, -0.9
    sources = [Source(stack="decoder", positions=(p,), text=t) for p, t in enumerate(toks.texts)]
    sources[3:5] = [Source(stack="decoder", positions=(3, 4), text=" the key")]
    targets = [
        Target(position=n, token_id=11, text=" Nora", value=-0.3, probability=0.74),
        Target(position=n, token_id=12, text=" Tom", value=-2.1, probability=0.12),
        Target(position=n, token_id=11, text=" Nora", value=1.8, contrast_id=12, contrast_text=" Tom"),
    ]
    return TokenScores(
        title="Why Nora, and not Tom?", provenance=ORIGIN, values=LabelledArray(values, ("target", "source")),
        tokens={"decoder": toks}, sources=sources, targets=targets, n_input_tokens=n,
        notes=("Words that the tokenizer cut into several tokens are scored as a whole.",),
    )  # fmt: skip


def translation_scores():
    """Encoder and decoder, unsigned."""
    english = tokens(*pieces("The small dog sleeps under the table."), "</s>", special=("</s>",))
    german = tokens("<pad>", *pieces("Der kleine Hund schläft unter dem Tisch."), special=("<pad>",))
    rng = np.random.default_rng(2)
    m, n = len(english), len(german)
    values = np.zeros((n - 1, m + n))
    for i, p in enumerate(range(1, n)):
        values[i, :m] = rng.exponential(0.06, m) + 0.8 * np.exp(-((np.arange(m) - i) ** 2) / 0.5)
        values[i, m : m + p] = rng.exponential(0.08, p)
    return TokenScores(
        title="Saliency of a translation", provenance=ORIGIN, values=LabelledArray(values, ("target", "source")),
        tokens={"encoder": english, "decoder": german}, sources=single_sources(encoder=english, decoder=german),
        targets=[Target(position=p, token_id=int(german.ids[p]), text=german.texts[p], value=-0.2, probability=0.81)
                 for p in range(1, n)],
        n_input_tokens=1, aggregation="l2", signed=False,
        notes=("Saliency has no sign: it says how much a token mattered, not which way.",),
    )  # fmt: skip


def class_scores(names=("negative", "positive"), **changes):
    """What a sequence classifier says of a whole text, one target per class; nothing is later than anything."""
    toks = tokens("[CLS]", *pieces("slow, but a joy"), "[SEP]", special=("[CLS]", "[SEP]"))
    n = len(toks)
    values = np.array([[(j + 1) / 8 * (-1) ** (i + j) for j in range(n)] for i in range(len(names))])
    made = {
        "title": "Why this class?", "provenance": ORIGIN, "values": LabelledArray(values, ("target", "source")),
        "tokens": {"encoder": toks}, "sources": single_sources(encoder=toks), "n_input_tokens": n,
        "targets": [Target(position=n, token_id=i, text=name, stack="encoder", kind="class", value=-0.5,
                           probability=0.6) for i, name in enumerate(names)],
    }  # fmt: skip
    return TokenScores(**(made | changes))


def named_scores():
    """What a token classifier says of each token: the class stands at the token, whose own score is not 0."""
    toks = tokens(*pieces("Nora met Felix"))
    targets = [Target(position=p, token_id=i, text=name, stack="encoder", kind="class")
               for p, (i, name) in enumerate([(1, "PERSON"), (0, "O"), (1, "PERSON")])]  # fmt: skip
    values = LabelledArray(np.arange(9).reshape(3, 3) / 8 - 0.5, ("target", "source"))
    return TokenScores(title="Names", values=values, tokens={"encoder": toks}, n_input_tokens=3, targets=targets,
                       sources=single_sources(encoder=toks))  # fmt: skip


def masked_scores():
    """What a masked model fills into a mask, and what it says of a word that it did not see."""
    toks = tokens(*pieces("We met Nora. She is"), " [MASK]", ".", special=(" [MASK]",))
    n = len(toks)
    values = np.array([[(j + 1) / 8 * (j != p) for j in range(n)] for p in (2, 6)])
    targets = [Target(position=2, token_id=int(toks.ids[2]), text=" Nora", stack="encoder", kind="masked"),
               Target(position=6, token_id=-5, text=" kind", stack="encoder", kind="masked")]  # fmt: skip
    return TokenScores(title="Masked", values=LabelledArray(values, ("target", "source")), tokens={"encoder": toks},
                       sources=single_sources(encoder=toks), targets=targets, n_input_tokens=n)  # fmt: skip


def world_scores():
    """Scripts of the world: right to left, CJK, emoji, split characters, control characters."""
    texts = ["Emoji", " 👩‍🚀", " 🇫🇷", " 日本", "語", "の", "文章", "。", " \u202eevil", " \x1b[31mred", "", "", "𓀀",
             " नमस्ते", "\t", "\n", "\n", "  indented"]  # fmt: skip
    labels = [t or ("<F0 93>" if i == 10 else "<80>") for i, t in enumerate(texts)]
    toks = tokens(*texts, labels=labels)
    n = len(toks)
    values = np.tril(np.random.default_rng(3).normal(0, 1, (n, n)), -1)[n // 2 :]
    targets = [Target(position=p, token_id=int(toks.ids[p]), text=texts[p] or labels[p]) for p in range(n // 2, n)]
    return TokenScores(
        title="Scripts of the world", values=LabelledArray(values, ("target", "source")), tokens={"decoder": toks},
        sources=single_sources(decoder=toks), targets=targets, n_input_tokens=n // 2,
    )  # fmt: skip


def arabic_scores():
    return small_scores(tuple("مرحبا بالعالم . هذا نص قصير".replace(" ", "| ").split("|")))


def long_scores(n=2000, m=200):
    """As many numbers as a page has to bear."""
    words = tokens(*(f" word{i % 97}" for i in range(n)))
    values = np.tril(np.random.default_rng(0).laplace(0, 0.3, (n, n)), -1)[n - m :]
    return TokenScores(
        title=f"{n} tokens, {m} targets", values=LabelledArray(values, ("target", "source")),
        tokens={"decoder": words}, sources=single_sources(decoder=words), n_input_tokens=n - m,
        targets=[Target(position=p, token_id=int(words.ids[p]), text=words.texts[p], value=-0.1, probability=0.9)
                 for p in range(n - m, n)],
    )  # fmt: skip


def hostile_scores():
    toks = tokens(*HOSTILE, labels=[h or "?" for h in HOSTILE])
    n = len(toks)
    values = np.tril(np.ones((n, n)), -1)
    targets = [
        Target(position=p, token_id=p, text=t, contrast_id=1, contrast_text=HOSTILE[0]) for p, t in enumerate(HOSTILE)
    ]
    nasty = HOSTILE[0] + HOSTILE[5] + HOSTILE[6]
    return TokenScores(
        title=nasty, notes=(nasty, "<!-- <script>"), baseline=nasty, values=LabelledArray(values, ("target", "source")),
        tokens={"decoder": toks}, sources=single_sources(decoder=toks), targets=targets, n_input_tokens=2,
        provenance=Provenance(analysis=nasty, model=nasty, options={nasty: nasty}, interventions=(nasty,)),
    )  # fmt: skip


def every_kind():
    """One realistic result of each kind."""
    rng = np.random.default_rng(4)
    layers, words = tuple(range(6)), tuple(pieces("The captain is called Nora."))
    similar = np.clip(1 - 0.09 * np.abs(np.subtract.outer(np.arange(6), np.arange(6))) + rng.normal(0, 0.01, (6, 6)),
                      0, 1)  # fmt: skip
    lens = np.sort(rng.uniform(0.02, 0.98, (6, len(words))), axis=0)
    early = (" the", " and", " of", " was", " his", " a")
    guess = np.array([[words[j] if lens[i, j] > 0.5 else early[(i + j) % 6]
                       for j in range(len(words))] for i in range(6)], dtype=object)  # fmt: skip
    grid = {"layer": layers, "position": [f"{i} {w}" for i, w in enumerate(words)]}
    attention = rng.dirichlet(np.ones(6), (2, 4, 6))
    return [
        story_scores(),
        TokenGrid(title="Logit lens", quantity="probability of the top token", provenance=ORIGIN,
                  values=LabelledArray(lens, ("layer", "position"), grid),
                  texts=LabelledArray(guess, ("layer", "position"), grid)),
        Predictions(title="Candidates for position 5",
                    values=LabelledArray([[0.8, 0.1, 0.02], [0.4, 0.3, 0.1]], ("layer", "rank"), {"layer": (3, 5)}),
                    texts=LabelledArray([[" Nora", " Tom", "\n"], [" Tom", " Nora", "<b>"]], ("layer", "rank"))),
        Patterns(title="Attention", values=LabelledArray(attention, ("layer", "head", "query", "key"))),
        Components(title="Factors of the neurons", quality={"explained variance": 0.83, "stability": 0.61},
                   values=LabelledArray(rng.exponential(1, (4, 6)), ("component", "token"), {"token": words}),
                   loadings=LabelledArray(rng.normal(0, 1, (4, 32)), ("component", "unit"))),
        Grid(title="Similarity of layers (debiased CKA)", provenance=ORIGIN,
             notes=("An untrained copy reaches 0.31: read higher values as more than chance.",),
             values=LabelledArray(similar, ("layer", "layer of the other"))),
        Curves(title="Rank of a token", values=LabelledArray(rng.normal(0, 2, (2, 5)), ("curve", "x"),
                                                             {"curve": (" Nora", " Tom"), "x": (0, 1, 2, 3, 4)})),
        Points(title="Tokens in a plane", values=LabelledArray(rng.normal(0, 1, (4, 2)), ("point", "axis")),
               labels=(" a", " b", " c", " d")),
        Table(title="Probes", columns=("layer", "accuracy", "control task", "kept"),
              rows=((0, 0.61, 0.55, True), (1, 0.84, 0.56, False), (2, -0.5, None, True))),
        Fitted(title="Tuned lens", parameters={"weight": np.zeros((6, 8, 8)), "bias": np.zeros((6, 8))},
               settings={"steps": 250, "learning_rate": 1e-3}),
        Report(title="Why Nora?", results=(small_scores(), named_scores())),
    ]  # fmt: skip


def row_at(result, position):
    """Scores ``(source,)`` of the first target at `position`."""
    return next(row for target, row in zip(result.targets, result.values.values) if target.position == position)
