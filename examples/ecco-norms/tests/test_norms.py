import numpy as np

from ecco_core.testing import AnalysisContract, CaptureContract, invariances


class TestNorms(AnalysisContract):
    name = "norms"
    invariances = {"rotated": invariances.rotated}

    def test_norms_are_numpys(self):
        run, (order, site) = self.lm()("The captain is called Nora."), (3.0, "mlp_post")
        states = run.capture(site).stacked(site).numpy()
        norms = run.analyze("norms", order=order, site=site).values.values
        np.testing.assert_allclose(norms, np.linalg.norm(states, ord=order, axis=-1), rtol=1e-6)


class TestNorm(CaptureContract):
    name = "resid_norm"
