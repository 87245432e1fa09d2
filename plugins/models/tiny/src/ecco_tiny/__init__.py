"""Offers small trained models to Ecco-core, which come with this package and need no download."""

from ecco_core import ModelSource, hookimpl

__version__ = "0.1.0"


@hookimpl
def ecco_model_sources() -> list[ModelSource]:
    """Return the one source of this package: `tiny:prose` is the model folder of that name."""
    return [
        ModelSource(
            name="tiny",
            summary="A 2.7 M parameter GPT-2 that writes like the Python manual and copies names and lists.",
            target="ecco_tiny.sources:resolve",
            models=("prose",),
        )
    ]
