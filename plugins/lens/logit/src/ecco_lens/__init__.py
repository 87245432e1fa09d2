"""ecco-lens: what a model would say at each layer, for Ecco: logit lens, candidates, rankings."""

from __future__ import annotations

from typing import Any

from ecco_core import AnalysisSpec, hookimpl

#: Functions on arrays of logits, of use without a model: ``from ecco_lens import ranks_of``.
__all__ = ["kl_divergence", "logprobs_of", "ranks_of", "top_tokens"]

_LENS = "nostalgebraist: interpreting GPT: the logit lens, 2020"
_KL = "Belrose et al.: Eliciting Latent Predictions from Transformers with the Tuned Lens, 2023"

# name, kind of result, option groups, summary, reference, aliases
_ANALYSES = (
    ("logit_lens", "TokenGrid", ("layers", "positions"), "The token that each layer puts first, and its probability",
     _LENS, ()),
    ("lens_kl", "TokenGrid", ("layers", "positions"), "How far each layer is from what the model predicts, in nats",
     _KL, ("layer_kl",)),
    ("candidates", "Predictions", ("layers",), "The best tokens of each layer for one position", _LENS,
     ("layer_predictions",)),
    ("rankings", "TokenGrid", ("layers", "positions"), "Rank of each chosen token at each layer", _LENS, ()),
    ("rankings_watch", "TokenGrid", ("layers",), "Rank of watched tokens at each layer, for one position", _LENS, ()),
    ("predict", "Predictions", ("positions",), "The model's best candidates for the next token, or masked ones", "",
     ("predict_token",)),
)  # fmt: skip


@hookimpl
def ecco_analyses() -> list[AnalysisSpec]:
    """Offer the analyses."""
    return [
        AnalysisSpec(
            name=name,
            summary=summary,
            target=f"ecco_lens.{'candidates' if kind == 'Predictions' else 'grids'}:{name}",
            produces=kind,
            takes=takes,
            needs_model=True,
            aliases=aliases,
            tags=("lens", "layers") if "layers" in takes else ("prediction",),
            reference=reference,
        )
        for name, kind, takes, summary, reference, aliases in _ANALYSES
    ]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from ecco_lens import distributions

        return getattr(distributions, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
