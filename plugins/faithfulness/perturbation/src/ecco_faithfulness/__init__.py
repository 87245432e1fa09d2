"""ecco-faithfulness: measured faithfulness of attributions, which explanation to believe.

The functions on arrays are imported when they are used: `counts`, `order`, `area`, `rank_correlation`, `infidelity`,
`max_sensitivity`, `best_subsets`; `resampled`, `means`, `interval`, `recommendation`, `agreement`; and the results
`Faithfulness` and `ReplacementEffect`.
"""

from typing import Any

from ecco_core import AnalysisSpec, RendererSpec, hookimpl

_LAZY = (
    dict.fromkeys(
        ("counts", "order", "area", "rank_correlation", "infidelity", "max_sensitivity", "best_subsets"), "measures"
    )
    | dict.fromkeys(("resampled", "means", "interval", "recommendation", "agreement"), "intervals")
    | dict.fromkeys(("Faithfulness", "ReplacementEffect"), "results")
)
_PAPERS = (
    "DeYoung et al.: ERASER, ACL 2020; Petsiuk et al.: RISE, BMVC 2018; Samek et al., TNNLS 2017; "
    "Yeh et al.: On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019"
)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


@hookimpl
def ecco_analyses() -> list[AnalysisSpec]:
    """Offer the analyses."""
    shared: dict[str, Any] = {
        "produces": "Table",
        "inputs": "runs",
        "takes": ("targets", "features"),
        "defaults": {"score": "prob"},
        "needs_model": True,
        "tags": ("faithfulness", "evaluation"),
        "reference": _PAPERS,
    }
    return [
        AnalysisSpec(
            name="faithfulness",
            summary="Which attributions to believe: what happens without the tokens that each method ranks first",
            target="ecco_faithfulness.analyses:faithfulness",
            aliases=("compare_methods",),
            **shared,
        ),
        AnalysisSpec(
            name="replacement_effect",
            summary="Whether methods come in the same order however tokens are taken away",
            target="ecco_faithfulness.analyses:replacement_effect",
            **shared,
        ),
    ]


@hookimpl
def ecco_renderers() -> list[RendererSpec]:
    """Offer pages of a comparison: its tables, and its curves drawn; they are put together from ecco-html's."""
    return [
        RendererSpec(
            name="html_faithfulness",
            summary="A comparison of attribution methods as a fragment: table and curves",
            target="ecco_faithfulness.pages:fragment",
            accepts=("Faithfulness",),
            media_type="text/html",
        ),
        RendererSpec(
            name="html_faithfulness_page",
            summary="A comparison of attribution methods as a document: table and curves",
            target="ecco_faithfulness.pages:document",
            accepts=("Faithfulness",),
            media_type="text/html;profile=document",
            suffixes=(".html", ".htm"),
        ),
    ]
