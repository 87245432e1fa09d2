"""``ecco demo``: a tour on a model that needs no network; each capability is a chapter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecco_core.cli.main import quiet_transformers
from ecco_core.cli.run import check_suffixes

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
CLASSIFIER, OPPOSITE = "tiny:classifier", "positive"
REVIEW = "The actors were charming and the songs were good, but the story was a waste of time."


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
    for chapter in (_why_this_token, _why_not_another, _page, _sentiment):
        for line in chapter(run, save):
            click.echo(line, color=True)


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


def _sentiment(run: Run, save: Path) -> Iterator[str]:
    """The original's example: which words of a review led a classifier to its verdict."""
    from ecco_core.session.opening import from_pretrained

    review = from_pretrained(CLASSIFIER)(REVIEW)
    (target,) = review.scores().targets
    yield f"\nA review: {REVIEW}\n{CLASSIFIER} finds it {target.text}. Which words led to that?\n"
    yield _shown(review.analyze("integrated_gradients", contrast=OPPOSITE))


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
