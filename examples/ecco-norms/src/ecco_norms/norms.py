from ecco_core import EccoError, LabelledArray, OptionError, TokenGrid


def resid_norm(resid_post):
    """Length of each token's state ``(token,)``."""
    return resid_post.norm(dim=-1)


def norms(ctx, *, order: float = 2.0) -> TokenGrid:
    """Norm of a site's activation at every layer and token.

    Options:
        order: which norm: 1 sums the sizes of the units, 2 is the length of the vector."""
    capture = ctx.capture(ctx.site, layers=ctx.layers)
    if not (layers := capture.layers(ctx.site)) or capture.get(ctx.site, layers[0]).dim() != 2:
        raise OptionError(f"{ctx.site!r} is not one vector for each layer and token; take a site such as resid_post.")
    norm = capture.stacked(ctx.site).float().norm(p=order, dim=-1).cpu()  # (layer, token)
    if not norm.isfinite().all():
        raise EccoError("The model computes numbers that are not finite, so they have no norm; look at its weights.")
    labels = {"layer": layers, "position": [f"{p} {t}" for p, t in enumerate(ctx.run.tokens.labels)]}
    return TokenGrid(quantity=f"L{order:g} norm", values=LabelledArray(norm, ("layer", "position"), labels))
