from ecco_faithfulness.results import Faithfulness

from ecco_core.testing import AnalysisContract, RendererContract


def comparison(texts):
    """A table of methods that have these names."""
    rows = [(name, "deletion", None, 0.5, 0.4, 0.6) for name in texts]
    columns = ("method", "measure", "share", "mean", "low", "high")
    return Faithfulness(title=f"About {texts[0]}", columns=columns, rows=rows)


class TestComparisons(AnalysisContract):
    distribution = "ecco-faithfulness"
    options = {
        "methods": ["saliency", "input_x_gradient"],
        "replacements": ["mean", "sample"],
        "fractions": [0.2, 0.5],
        "exact": "off",
        "n_random": 2,
        "n_masks": 4,
        "n_draws": 2,
    }
    media = ("text/",)


class TestPages(RendererContract):
    distribution = "ecco-faithfulness"
    examples = {"Faithfulness": comparison}
