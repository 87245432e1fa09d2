"""ecco-attention: attention for Ecco: patterns, rollout, flow, value-weighted norms, what each head does."""

import importlib
from typing import Any

from ecco_core import AnalysisSpec, hookimpl

#: Pure functions on arrays, by the module that they are imported from when they are asked for.
_FUNCTIONS = {
    "paths": ("flow", "flow_of", "joined", "rollout", "rollout_of", "rounding", "with_residual"),
    "summaries": ("attended", "entropy", "is_causal", "looked_at", "uniform"),
    "values": ("transformed", "value_norms", "value_vectors"),
}
_ABNAR = "Abnar, Zuidema: Quantifying Attention Flow in Transformers, ACL 2020"
_OLSSON = "Olsson et al.: In-context Learning and Induction Heads, 2022"
_KOBAYASHI = "Kobayashi et al.: Attention is Not Only a Weight, EMNLP 2020"

# name, module, summary, kind of result, option groups, paper
_ANALYSES = (
    ("attention", "patterns", "Attention patterns of each layer and head", "Patterns", ("layers",), ""),
    ("head_scores", "patterns", "What each head does: induction, previous or duplicate token, entropy", "Grid",
     ("layers",), _OLSSON),
    ("raw_attention", "explain", "Attention weights averaged over heads and layers, per target", "TokenScores",
     ("targets", "layers"), ""),
    ("attention_rollout", "explain", "Attention multiplied through all layers: each token's share", "TokenScores",
     ("targets",), _ABNAR),
    ("attention_flow", "explain", "The most attention that can flow to each token through all layers", "TokenScores",
     ("targets",), _ABNAR),
    ("attention_norms", "explain", "Length of the values that attention carries, not its weights alone", "TokenScores",
     ("targets", "layers"), _KOBAYASHI),
)  # fmt: skip


@hookimpl
def ecco_analyses() -> list[AnalysisSpec]:
    """Offer the analyses."""
    return [
        AnalysisSpec(
            name=name,
            summary=summary,
            target=f"ecco_attention.{module}:{name}",
            produces=kind,
            takes=takes,
            needs_model=True,
            tags=("attention", *(("attribution",) if "targets" in takes else ())),
            reference=paper,
        )
        for name, module, summary, kind, takes, paper in _ANALYSES
    ]


def __getattr__(name: str) -> Any:
    for module, names in _FUNCTIONS.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *(name for names in _FUNCTIONS.values() for name in names)])
