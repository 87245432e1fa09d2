from ecco_core.testing import AnalysisContract


class TestAnalyses(AnalysisContract):
    distribution = "ecco-lens"
    options = {"watch": ["a", "b"]}
    media = ("text/",)
