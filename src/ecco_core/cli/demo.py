"""``ecco demo``: a tour on a model that needs no network; each capability is a chapter."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ecco_core import errors
from ecco_core.cli.main import quiet_transformers
from ecco_core.cli.showing import check_suffixes

if TYPE_CHECKING:
    from ecco_core.data.results import Result
    from ecco_core.session.run import Run

MODEL = "tiny:prose"
PROMPT = (
    "We met a captain called Nora. We met a cook called Felix. They talked until midnight.\n\n"
    "The name of the captain was"
)
OTHER = " Felix"
TOKENS = 8
TWICE = "apple river stone cloud apple river stone cloud apple river stone cloud"
CODE = (
    "The function open(file, mode) returns a file object. See also: print(), and the list [1, 2, 3].\n\n"
    "    >>> print(len([1, 2]))\n    2\n\n    >>> str(3)"
)
BRACKET = {"token": "(", "n_neurons": 3}
CLASSIFIER, OPPOSITE = "tiny:classifier", "positive"
REVIEW = "The actors were charming and the songs were good, but the story was a waste of time."
METHODS = ["integrated_gradients", "saliency", "lrp"]


@click.command()
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    default=Path("ecco-demo.html"),
    show_default=True,
    help="Where to write the page.",
)
def demo(save: Path) -> None:
    """Explain what a small model says, offline: prints it, and writes a page."""
    from ecco_core.data.shown import visible
    from ecco_core.session.opening import from_pretrained

    check_suffixes((save,))
    quiet_transformers()
    lm = from_pretrained(MODEL)
    run = lm.generate(PROMPT, max_new_tokens=TOKENS, do_sample=False)
    prompt, output = run.tokens.part(slice(0, run.n_input_tokens)).text, run.output_text
    click.echo(f"{lm.name} reads:     {visible(prompt)}\n{' ' * len(lm.name)} and goes on: {visible(output)}\n")
    for chapter in (_why_this_token, _why_not_another, _page, _layers, _heads, _neurons, _alike, _read_off, _sentiment,
                    _which_to_believe):  # fmt: skip
        try:
            for line in chapter(run, save):
                click.echo(line, color=True)
        except errors.AnalysisNotFoundError as error:  # a plugin is not installed
            click.echo(f"{error}\n")


def _why_this_token(run: Run, save: Path) -> Iterator[str]:
    """Attribution: what led to the copied token."""
    position = _copied(run)
    yield f"Why {run.tokens[position]!r}? Integrated gradients:\n"
    yield _shown(run.analyze("integrated_gradients", targets=[position]))


def _why_not_another(run: Run, save: Path) -> Iterator[str]:
    """Contrast: what spoke for the copied token rather than the other name."""
    position = _copied(run)
    yield f"\nAnd why {run.tokens[position]!r} rather than {OTHER!r}?\n"
    yield _shown(run.analyze("integrated_gradients", targets=[position], contrast=OTHER))


def _layers(run: Run, save: Path) -> Iterator[str]:
    """Logit lens: where in the model the copied token wins."""
    position = _copied(run)
    yield f"\nWhat would each layer say instead of {run.tokens[position]!r}?\n"
    yield _shown(run.analyze("candidates", position=position, top_k=4))
    yield _shown(run.analyze("rankings_watch", watch=[run.tokens[position], OTHER], position=position))


def _heads(run: Run, save: Path) -> Iterator[str]:
    """Attention: what was carried to the place of the copied token, and the heads that copy."""
    yield "\nWhat did attention carry there?\n"
    yield _shown(run.analyze("attention_norms", targets=[_copied(run)]))
    yield "\nWhich heads look at what came after the same word before? Words at random, said twice:\n"
    yield _shown(run.lm(TWICE).analyze("head_scores", measure="induction"))


def _neurons(run: Run, save: Path) -> Iterator[str]:
    """Factors: groups of neurons, and the neuron of a bracket."""
    code = run.lm(CODE)
    yield f"\nNeurons that fire together while {run.lm.name} reads a page of a manual:\n"
    yield _shown(code.analyze("nmf", n_components=4))
    yield "\nAnd the neurons that tell an opening bracket from all other tokens:\n"
    yield _shown(code.analyze("neuron_activations", **BRACKET))


def _alike(run: Run, save: Path) -> Iterator[str]:
    """Similarity: how much the layers' states have in common."""
    yield "\nHow alike are the layers?\n"
    yield _shown(run.analyze("cka", bootstrap=0))


def _read_off(run: Run, save: Path) -> Iterator[str]:
    """Probing: from which layer on a token's class can be read off, beyond knowing words by heart."""
    from ecco_core.running import analyze

    yield "\nFrom which layer on can classes of Python tokens be read off, and would a probe learn anything?\n"
    functions: list[Any] = [function for _, function in inspect.getmembers(errors, inspect.isfunction)]
    sources = run.lm([inspect.getsource(function) for function in (*functions, _copied, _read_off, _page, _neurons)])
    yield _shown(analyze("probe", sources, concept="python", splits=3))


def _sentiment(run: Run, save: Path) -> Iterator[str]:
    """The original's example: which words of a review led a classifier to its verdict."""
    review = _review()
    (target,) = review.scores().targets
    yield f"\nA review: {REVIEW}\n{CLASSIFIER} finds it {target.text}. Which words led to that?\n"
    yield _shown(review.analyze("integrated_gradients", contrast=OPPOSITE))


def _which_to_believe(run: Run, save: Path) -> Iterator[str]:
    """Relevance propagation, and methods compared by what the model does without the words that they rank first."""
    review = _review()
    yield "\nThe same by relevance propagation:\n"
    yield _shown(review.analyze("lrp", contrast=OPPOSITE))
    yield "\nWhich of the methods to believe here?\n"
    yield _shown(review.analyze("faithfulness", methods=METHODS, metrics=["deletion", "insertion"]))


def _review() -> Run:
    from ecco_core.session.opening import from_pretrained

    found: Run = from_pretrained(CLASSIFIER)(REVIEW)
    return found


def _shown(result: Result) -> str:
    from ecco_core.rendering import terminal_or_plain

    return terminal_or_plain(result)


def _page(run: Run, save: Path) -> Iterator[str]:
    """The page for all generated tokens."""
    page = run.analyze("integrated_gradients").save(save)
    yield f"\nAll generated tokens, to point at in a browser: {page}"


def _copied(run: Run) -> int:
    """Position of the first generated word that stands in the prompt already; else the last token."""
    tokens, n = run.tokens, run.n_input_tokens
    earlier = {t for t in tokens.texts[:n] if t.strip().istitle() and len(t) > 3}
    return next((p for p in range(n, len(tokens)) if tokens[p] in earlier), len(tokens) - 1)
