"""ecco-lrp: relevance propagation: how much of a logit each token, layer, head and neuron brought."""

from ecco_core import AnalysisSpec, hookimpl

_PAPERS = (
    "Achtibat et al.: AttnLRP, ICML 2024; Ali et al.: XAI for Transformers: Better Explanations through Conservative "
    "Propagation (CP-LRP), ICML 2022"
)
# name, kind of result, groups of common options, summary, aliases
_ANALYSES = (
    ("lrp", "TokenScores", ("targets", "features"),
     "Relevance of each token for a logit, passed back by rules that keep its sum (AttnLRP, CP-LRP)",
     ("attnlrp", "attn_lrp", "relevance")),
    ("lrp_layers", "TokenGrid", ("targets", "layers"),
     "Relevance of each token's state after each layer: where the relevance of a logit comes together", ()),
    ("lrp_heads", "Grid", ("targets", "layers"),
     "Relevance of each attention head for a logit", ()),
    ("lrp_neurons", "Table", ("targets", "layers"),
     "The neurons with the most relevance for a logit, and the tokens at which they have it", ()),
)  # fmt: skip


@hookimpl
def ecco_analyses() -> list[AnalysisSpec]:
    """Offer the analyses."""
    return [
        AnalysisSpec(
            name=name,
            summary=summary,
            target=f"ecco_lrp.analyses:{name}",
            produces=kind,
            takes=takes,
            defaults={"score": "logit"},
            needs_model=True,
            aliases=aliases,
            tags=("attribution", "relevance", "gradient"),
            reference=_PAPERS,
        )
        for name, kind, takes, summary, aliases in _ANALYSES
    ]
