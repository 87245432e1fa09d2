from ecco_core.testing import AnalysisContract


class TestAnalyses(AnalysisContract):
    distribution = "ecco-attention"
    texts = ("Nora thanked Nora and Nora", "The cook is called Felix. Everyone thanked the cook and the")
    media = ("text/",)
