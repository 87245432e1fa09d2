import ecco_core as ecco
from ecco_core.testing import AnalysisContract


class TestAnalyses(AnalysisContract):
    distribution = "ecco-probing"
    options = {"splits": 2}
    media = ("text/",)

    def given(self, spec, runs):
        if spec.name == "apply_probe":
            return {"fitted": fitted(self.lm().generate(list(self.texts), max_new_tokens=2))}
        given = super().given(spec, runs) | {"labels": labels(runs)}
        return given | ({"layers": 1} if spec.name == "fit_probe" else {})


def fitted(runs):
    """A probe of layer 1."""
    return ecco.analyze("fit_probe", runs, labels=labels(runs), layers=1)


def labels(runs):
    """Two classes of tokens, in turn."""
    return [("odd", "even")[place % 2] for place in range(sum(map(len, runs)))]
