from ecco_core.testing import AnalysisContract


class TestAnalyses(AnalysisContract):
    distribution = "ecco-factorization"
    options = {"n_components": 3, "n_seeds": 2, "n_neurons": 4, "n_clusters": 2}
    media = ("text/",)
