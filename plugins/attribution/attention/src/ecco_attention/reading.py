"""Read attention off runs, and say in one sentence where there is none to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ecco_core import ArchitectureError, Context

if TYPE_CHECKING:
    import numpy as np

    from ecco_core import Capture, Intervention, Run

Which = Literal["self", "encoder", "cross"]
_WHOLE = 0.99  # rows that sum to less have given some of their attention to no key


def place_of(ctx: Context, which: Which) -> tuple[str, str]:
    """Return the site and the stack of a kind of attention, that this model has.

    Raises:
        ArchitectureError: it has no such attention, or none that can be read.
    """
    run = ctx.run
    stack = "encoder" if which == "encoder" else run.transcript.stack
    site = "cross_pattern" if which == "cross" else "pattern"
    tokens = run.transcript.tokens
    if stack not in tokens or (which == "cross" and len(tokens) < 2):
        raise ArchitectureError(
            f"This run of a {run.lm.model_type} model has tokens of its {run.transcript.stack} only: which='self' is "
            "all of its attention."
        )
    require(run, stack, site)
    return site, stack


def require(run: Run, stack: str, *sites: str) -> None:
    """Check that sites of the attention can be read.

    Raises:
        ArchitectureError: one cannot.
    """
    have = run.lm.architecture.sites(stack)
    if not any(site.endswith("pattern") for site in have):
        raise ArchitectureError(
            f"No attention can be read in the {stack} of this {run.lm.model_type} model: it has none, or no module "
            "that attends is known."
        )
    missing = [site for site in sites if site not in have]
    if missing:
        raise ArchitectureError(
            f"The {stack} of this {run.lm.model_type} model shows no {missing[0]}, only patterns: its attention does "
            "not run where its parts can be read, or no module is known that puts its heads together; raw_attention, "
            "attention_rollout and attention_flow need no more than patterns."
        )


def require_every_layer(run: Run, stack: str, site: str) -> None:
    """Check that each layer of a stack has attention, as what follows it through all layers needs.

    Raises:
        ArchitectureError: some have none.
    """
    architecture = run.lm.architecture
    missing = sorted(set(range(architecture.n_layers(stack))) - set(architecture.layers_with(site, stack)))
    if missing:
        named = ", ".join(map(str, missing[:8])) + " …" * (len(missing) > 8)
        raise ArchitectureError(
            f"Attention cannot be followed through all layers of this {run.lm.model_type} model: its {stack} has none "
            f"that can be read in layer{'s' * (len(missing) > 1)} {named}; raw_attention and attention_norms work on "
            "the layers that attend."
        )


def changed_after_weights(run: Run) -> Intervention | None:
    """Return the first intervention on what attention puts out, which its weights do not show; None without one."""
    return next((change for change in run.under if change.site.removeprefix("cross_") in ("z", "attn_out")), None)


def patterns_in(ctx: Context, run: Run, capture: Capture, site: str, stack: str) -> list[np.ndarray]:
    """Patterns of the captured layers, each ``(head, query, key)``; a note where rows sum to less than 1.

    Raises:
        ArchitectureError: they are not of the run's tokens, or no numbers.
    """
    import numpy as np

    tokens = run.transcript.tokens
    expected = len(tokens[stack]), len(tokens["encoder" if site == "cross_pattern" else stack])
    found, least = [], 1.0
    for layer in capture.layers(site, stack):
        pattern = capture.numpy(site, layer, stack)
        if pattern.shape[1:] != expected:
            raise ArchitectureError(
                f"The attention of layer {layer} has the shape {pattern.shape} of (head, query, key), where this run "
                f"has {expected[0]} × {expected[1]} tokens: this {run.lm.model_type} model attends to something else."
            )
        if not np.isfinite(pattern).all():
            raise ArchitectureError(f"The attention of layer {layer} holds NaN or infinite numbers.")
        found.append(pattern)
        least = min(least, float(pattern.sum(-1, dtype=np.float64).min()))
    if least < _WHOLE:
        ctx.note(
            f"some rows of attention sum to less than 1, down to {least:.3g}: the rest goes to no token (attention "
            "sinks of the model, or an intervention)"
        )
    return found
