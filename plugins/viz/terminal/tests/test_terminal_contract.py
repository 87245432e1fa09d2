from ecco_core.testing import RendererContract


class TestViews(RendererContract):
    distribution = "ecco-terminal"
