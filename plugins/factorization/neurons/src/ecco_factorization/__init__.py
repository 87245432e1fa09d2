"""ecco-factorization: factors of neuron activations for Ecco: NMF, PCA, ICA, k-means, UMAP, and single neurons.

The numerics are pure functions on arrays, imported when first used: ``from ecco_factorization import
nonnegative_factors`` needs neither a model nor a run.
"""

import importlib
from typing import Any

from ecco_core import AnalysisSpec, hookimpl

#: Public name -> the module it lives in.
_PUBLIC = {
    "nonnegative_factors": "nonnegative",
    "semi_nonnegative_factors": "nonnegative",
    "principal_components": "decompositions",
    "independent_components": "decompositions",
    "clusters": "decompositions",
    "embedding": "decompositions",
    "trustworthiness": "decompositions",
    "match_loadings": "matching",
    "stability": "matching",
    "elbow": "matching",
    "explained_variance": "matching",
    "relative_error": "matching",
    "telling_apart": "telling",
    "alike": "telling",
    "match_components": "results",
    "NeuronFactors": "results",
    "NeuronGrid": "results",
}
__all__ = sorted(_PUBLIC)

_TAKES = ("layers", "positions", "labels")  # `site` is an option of their own: its default here are the neurons

# name, module, kind of result, summary, paper, aliases
_ANALYSES = (
    ("nmf", "factoring", "Components", "Groups of neurons that fire together, and where: non-negative factors",
     "Lee, Seung: Learning the parts of objects, Nature 1999; Ding, Li, Jordan 2010 for semi-NMF", ()),
    ("pca", "factoring", "Components", "Directions in which activations vary most over the tokens",
     "Jolliffe: Principal Component Analysis, 2002", ()),
    ("ica", "factoring", "Components", "Directions whose activations over the tokens are most independent",
     "Hyvärinen, Oja: Independent component analysis: algorithms and applications, 2000", ()),
    ("kmeans", "factoring", "Components", "Groups of tokens with similar activations",
     "Arthur, Vassilvitskii: k-means++: the advantages of careful seeding, 2007", ("k_means",)),
    ("umap", "factoring", "Points", "Tokens as points, near where their activations are alike",
     "McInnes, Healy, Melville: UMAP: Uniform Manifold Approximation and Projection, 2018", ()),
    ("neuron_activations", "neurons", "TokenGrid", "Single neurons over the text; finds the neuron of a bracket",
     "Mann, Whitney: On a test of whether one of two random variables is stochastically larger, 1947", ()),
    ("top_neurons", "neurons", "Table", "The neurons that fire most at each token", "", ()),
    ("neuron_map", "neurons", "TokenGrid", "Neurons × tokens, neurons that fire together side by side",
     "Bar-Joseph, Gifford, Jaakkola: Fast optimal leaf ordering for hierarchical clustering, 2001", ()),
)  # fmt: skip


@hookimpl
def ecco_analyses() -> list[AnalysisSpec]:
    """Offer the analyses."""
    return [
        AnalysisSpec(
            name=name,
            summary=summary,
            target=f"ecco_factorization.{module}:{name}",
            produces=produces,
            inputs="runs",
            takes=_TAKES,
            needs_model=True,
            aliases=aliases,
            tags=("neurons", "factorization" if module == "factoring" else "activations"),
            reference=paper,
        )
        for name, module, produces, summary, paper, aliases in _ANALYSES
    ]


def __getattr__(name: str) -> Any:
    """Import a public function when it is first used."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
