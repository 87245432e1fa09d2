from ecco_core.testing import ModelSourceContract


class TestModels(ModelSourceContract):
    distribution = "ecco-tiny"
