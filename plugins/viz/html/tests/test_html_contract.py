from ecco_core.testing import RendererContract


class TestPages(RendererContract):
    distribution = "ecco-html"
