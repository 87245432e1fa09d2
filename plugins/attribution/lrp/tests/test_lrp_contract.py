from ecco_core.testing import AnalysisContract


class TestAnalyses(AnalysisContract):
    distribution = "ecco-lrp"
    media = ("text/",)
