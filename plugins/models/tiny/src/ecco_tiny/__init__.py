"""Offers small trained models to Ecco-core, which come with this package and need no download."""

from ecco_core import ModelSource, hookimpl

__version__ = "0.1.0"


@hookimpl
def ecco_model_sources() -> list[ModelSource]:
    """Return the one source of this package: `tiny:prose` is the model folder of that name, and so on."""
    return [
        ModelSource(
            name="tiny",
            summary="Models of 0.8 to 2.7 M parameters: a GPT-2, a BERT for reviews, a BERT that fills masks, a T5.",
            target="ecco_tiny.sources:resolve",
            models=("classifier", "masked", "prose", "seq2seq"),
        )
    ]
