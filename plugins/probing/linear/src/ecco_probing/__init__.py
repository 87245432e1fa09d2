"""ecco-probing: probes for Ecco: what can be read off a model's states, against control tasks and baselines.

The functions on arrays (`probe`, `fit`, `predict`, `grouped_splits`, `control_labels`, `interval`), the label makers
(`python_classes`, `word_kinds`) and `sentences` are imported when they are used.
"""

from typing import Any

from ecco_core import AnalysisSpec, hookimpl

_LAZY = dict.fromkeys(
    ("Probed", "probe", "fit", "predict", "grouped_splits", "control_labels", "by_type", "interval"), "probes"
) | dict.fromkeys(("python_classes", "word_kinds", "lexicon", "sentences"), "tasks")
_PAPER = "Hewitt, Liang: Designing and Interpreting Probes with Control Tasks, EMNLP 2019"


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
    return [
        AnalysisSpec(
            name="probe",
            summary="How well a probe reads labels off each layer, against a control task and baselines",
            target="ecco_probing.analyses:probe",
            produces="Curves",
            inputs="runs",
            takes=("sites", "layers", "labels"),
            needs_model=True,
            tags=("probing",),
            reference=_PAPER,
        ),
        AnalysisSpec(
            name="probe_comparison",
            summary="What probes read off hidden states and off neurons, layer by layer",
            target="ecco_probing.analyses:probe_comparison",
            produces="Curves",
            inputs="runs",
            takes=("layers", "labels"),
            needs_model=True,
            tags=("probing",),
            reference="Alammar: Ecco, ACL 2021 demo; " + _PAPER,
        ),
        AnalysisSpec(
            name="fit_probe",
            summary="A probe fitted at one layer, to keep",
            target="ecco_probing.analyses:fit_probe",
            produces="Fitted",
            inputs="runs",
            takes=("sites", "layers", "labels"),
            needs_model=True,
            tags=("probing",),
            reference="Alain, Bengio: Understanding intermediate layers using linear classifier probes, 2016",
        ),
        AnalysisSpec(
            name="apply_probe",
            summary="What a fitted probe says of each token",
            target="ecco_probing.analyses:apply_probe",
            produces="Predictions",
            needs_model=True,
            tags=("probing",),
        ),
    ]
