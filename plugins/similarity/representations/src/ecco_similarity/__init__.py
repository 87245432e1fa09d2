"""ecco-similarity: how alike representations are; measures as functions on arrays, and as analyses of runs.

Every measure takes two numpy arrays ``(sample, unit)`` of the same samples, and returns a number:

    from ecco_similarity import cka
    cka(x, y)                      # no model, no run: numpy only

Functions and classes are imported when they are first used.
"""

import lazy_loader

from ecco_core import AnalysisSpec, hookimpl

__getattr__, _, __all__ = lazy_loader.attach_stub(__name__, __file__)

_TAKES = ("sites", "layers", "positions", "labels")

# name, summary, paper
_MEASURES = (
    ("cka", "Centred kernel alignment of layers, debiased: alike up to rotation and scale",
     "Kornblith et al.: Similarity of Neural Network Representations Revisited, ICML 2019; Song et al., JMLR 2012"),
    ("cca", "Mean canonical correlation of layers: alike up to any invertible linear map",
     "Hotelling: Relations between Two Sets of Variates, Biometrika 1936"),
    ("svcca", "Mean canonical correlation of the layers' leading principal components",
     "Raghu et al.: SVCCA, NeurIPS 2017"),
    ("pwcca", "Canonical correlations, weighted by how much of the first layer they account for",
     "Morcos, Raghu, Bengio: Insights on Representational Similarity, NeurIPS 2018"),
    ("procrustes", "How well one layer lies on another after the best rotation",
     "Ding, Denain, Steinhardt, NeurIPS 2021; Williams et al.: Generalized Shape Metrics, NeurIPS 2021"),
    ("rsa", "Rank correlation of the distances between tokens in two layers",
     "Kriegeskorte, Mur, Bandettini: Representational Similarity Analysis, Frontiers 2008"),
    ("knn_overlap", "Share of a token's nearest neighbours that two layers agree on",
     "Huh et al.: The Platonic Representation Hypothesis, ICML 2024"),
)  # fmt: skip


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})  # the hooks too, which core looks for


@hookimpl
def ecco_analyses() -> list[AnalysisSpec]:
    """The analyses of this plugin."""
    return [
        AnalysisSpec(
            name=name,
            summary=summary,
            target=f"ecco_similarity.analyses:{name}",
            produces="Grid",
            inputs="runs",
            takes=_TAKES,
            needs_model=True,
            tags=("similarity",),
            reference=reference,
        )
        for name, summary, reference in _MEASURES
    ]
