from ecco_core.testing import AnalysisContract


class TestMethods(AnalysisContract):
    distribution = "ecco-captum"
    options = {"n_steps": 4, "n_samples": 12, "layer": 1, "unit": 3, "allow_degenerate": True}
    refuses = {"captum_lrp": "Captum's LRP has no rule for"}  # of transformers, as it says
    media = ("text/",)

    def given(self, spec, runs):
        if spec.name == "noise_tunnel":  # what it is given goes to the method that it runs
            return {"n_samples": 4}
        return super().given(spec, runs)
