"""``ecco demo``: a tour on a model that needs no network; each capability is a chapter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ecco_core.session.run import Run

MODEL = "tiny:prose"
PROMPT = "The captain is called Nora."
TOKENS = 12


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
    from ecco_core.cli.main import quiet_transformers
    from ecco_core.cli.run import _check_suffixes
    from ecco_core.session.language_model import from_pretrained

    _check_suffixes((save,))
    quiet_transformers()
    lm = from_pretrained(MODEL)
    click.echo(f"{lm.name} continues a prompt:\n")
    run = lm.generate(PROMPT, max_new_tokens=TOKENS, do_sample=False)
    click.echo(f"    {run!r}\n".replace("\n", "\n    "))
    for chapter in (_why_this_token,):
        for line in chapter(run, save):
            click.echo(line, color=True)


def _why_this_token(run: Run, save: Path) -> Iterator[str]:
    """Attribution: what led to the copied token, and the page for all of them."""
    from ecco_core import rendering

    position = _copied(run)
    yield f"Why {run.tokens[position]!r}? Integrated gradients:\n"
    yield rendering.terminal_or_plain(run.analyze("integrated_gradients", targets=[position]))
    page = run.analyze("integrated_gradients").save(save)
    yield f"\nAll generated tokens, to point at: {page}"


def _copied(run: Run) -> int:
    """Position of the first generated word that stands in the prompt already; else the last token."""
    tokens, n = run.tokens, run.n_input_tokens
    earlier = {t for t in tokens.texts[:n] if t.strip().istitle() and len(t) > 3}
    return next((p for p in range(n, len(tokens)) if tokens[p] in earlier), len(tokens) - 1)
