"""ecco-captum: feature attribution through Captum's own classes, many targets at once."""

from ecco_core import AnalysisSpec, hookimpl

_TAGS = ("attribution", "gradient")


@hookimpl
def ecco_analyses() -> list[AnalysisSpec]:
    """Offer the attribution methods."""
    return [
        AnalysisSpec(
            name="integrated_gradients",
            summary="Gradients summed along a path from a baseline; adds up to the change in score",
            target="ecco_captum.gradients:integrated_gradients",
            takes=("targets",),
            needs_model=True,
            aliases=("ig",),
            tags=_TAGS,
            reference="Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, ICML 2017",
        ),
        AnalysisSpec(
            name="saliency",
            summary="Gradient of the score with respect to each token's embedding",
            target="ecco_captum.gradients:saliency",
            takes=("targets",),
            needs_model=True,
            tags=_TAGS,
            reference="Simonyan, Vedaldi, Zisserman: Deep Inside Convolutional Networks, ICLR 2014 workshop",
        ),
        AnalysisSpec(
            name="input_x_gradient",
            summary="Embedding times gradient: the first-order effect of each token",
            target="ecco_captum.gradients:input_x_gradient",
            takes=("targets",),
            needs_model=True,
            aliases=("grad_x_input",),
            tags=_TAGS,
            reference="Shrikumar, Greenside, Kundaje: Learning Important Features, ICML 2017",
        ),
    ]
