import ast
from pathlib import Path
from types import SimpleNamespace

import ecco_norms
import numpy as np
import pytest
import torch
from ecco_norms.norms import norms, resid_norm

import ecco_core as ecco


class FakeContext:
    """What core hands to an analysis, of a model with two layers, three tokens and four units."""

    site, layers = "resid_post", (0, 1)
    states = torch.arange(24.0).reshape(2, 3, 4) - 11
    tokens = ecco.Tokens(range(3), ["a", " b", "c"], ["a", " b", "c"], [1, 1, 0], [0, 0, 0])
    run = SimpleNamespace(tokens=tokens)

    def capture(self, *sites, layers):
        tensors = {("decoder", site, k): self.states[k] for site in sites for k in layers}
        return ecco.Capture(tensors, {"decoder": self.tokens})


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0])
def test_norms_are_numpys(order):
    grid = norms(FakeContext(), order=order)
    expected = np.linalg.norm(FakeContext.states.numpy(), ord=order, axis=-1)
    np.testing.assert_allclose(grid.values.values, expected, rtol=1e-6)
    assert grid.values.dims == ("layer", "position")
    assert grid.values.labels("position") == ("0 a", "1  b", "2 c")


def test_resid_norm_is_one_number_per_token():
    states = FakeContext.states[0]
    np.testing.assert_allclose(resid_norm(states).numpy(), np.linalg.norm(states.numpy(), axis=-1), rtol=1e-6)


def test_specs_name_what_is_there():
    specs = [*ecco_norms.ecco_analyses(), *ecco_norms.ecco_captures()]
    assert [spec.load() for spec in specs] == [norms, resid_norm]


def test_the_plugin_is_as_short_as_we_say():
    source = Path(ecco_norms.__file__).parent
    lines = [line for file in source.glob("*.py") for line in file.read_text().splitlines() if line.strip()]
    assert len(lines) <= 25
    assert all(ast.parse(file.read_text()) for file in source.glob("*.py"))


def test_end_to_end():
    lm = ecco.from_pretrained("tiny:prose")
    run = lm.generate("The captain is called Nora.", max_new_tokens=3)
    grid = run.analyze("norms", layers=[0, 1])
    states = run.capture("resid_post", layers=[0, 1]).stacked("resid_post").float()
    np.testing.assert_allclose(grid.values.values, states.norm(dim=-1).cpu().numpy(), rtol=1e-5)
    assert grid.provenance.analysis == "norms"
    captured = run.capture("resid_norm", layers=[1])
    np.testing.assert_allclose(captured.get("resid_norm", 1).float().cpu().numpy(), grid.values.values[1], rtol=1e-5)
    assert "Norms" in grid.to_text()
