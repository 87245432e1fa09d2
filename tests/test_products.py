"""Products by oneDNN are torch's, to float32's rounding, and nothing but products in float32 goes there."""

from __future__ import annotations

import contextlib

import pytest
import torch
from hypothesis import given, settings, strategies as st

from ecco_core import products
from ecco_core.models import gradients


@pytest.fixture
def by_onednn(monkeypatch):
    """Products by oneDNN whatever processor this is, and how many there were."""
    seen, plain = [], products._linear

    def counted(*args):
        seen.append(args)
        return plain(*args)

    monkeypatch.setattr(products, "_linear", counted)
    monkeypatch.setattr(products, "_onednn_is_faster", lambda: True)
    return seen


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_product_is_the_product(data):
    size = st.integers(1, 40)
    m, k, n, seed = data.draw(size), data.draw(size), data.draw(size), data.draw(st.integers(0, 99))
    rng = torch.Generator().manual_seed(seed)
    left, right, bias = (torch.randn(*shape, generator=rng, dtype=torch.float64) for shape in ((m, k), (k, n), (n,)))
    narrow = [tensor.float() for tensor in (left, right, bias)]
    if data.draw(st.booleans()):
        narrow[0] = narrow[0].t().contiguous().t()
    if data.draw(st.booleans()):
        narrow[1] = narrow[1].t().contiguous().t()
    if data.draw(st.booleans()):
        narrow[0] = torch.stack([narrow[0], narrow[0]], -1)[..., 0]
    with products._ByOneDNN():
        found, added = narrow[0] @ narrow[1], torch.addmm(narrow[2], narrow[0], narrow[1])
    torch.testing.assert_close(found.double(), left @ right, rtol=0, atol=1e-5 * k)
    torch.testing.assert_close(added.double(), left @ right + bias, rtol=0, atol=1e-5 * k)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (torch.ones(2, 3, dtype=torch.float64), torch.ones(3, 2, dtype=torch.float64)),
        (torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(3, 2, dtype=torch.bfloat16)),
        (torch.ones(2, 3, dtype=torch.int64), torch.ones(3, 2, dtype=torch.int64)),
        (torch.ones(0, 3), torch.ones(3, 2)),
        (torch.ones(2, 0), torch.ones(0, 2)),
    ],
)
def test_other_products_are_torchs(by_onednn, left, right):
    with products.fast_products(torch.device("cpu")):
        assert torch.equal(left @ right, torch.full((len(left), 2), left.shape[1], dtype=left.dtype))
    assert not by_onednn


def test_sums_that_are_scaled_or_spread_are_torchs(by_onednn):
    ones = torch.ones(2, 2)
    with products.fast_products(torch.device("cpu")):
        assert torch.equal(torch.addmm(ones, ones, ones, beta=3, alpha=2), ones * 7)
        assert torch.equal(torch.addmm(ones, ones, ones), ones * 3)
    assert not by_onednn


@pytest.mark.parametrize(
    ("kind", "task", "targets"), [("gpt2", "causal", [4, 6]), ("llama", "causal", [4, 6]), ("bert", "masked", [2, 3])]
)
def test_scores_and_gradients_are_those_of_torchs_products(open_tiny, by_onednn, monkeypatch, kind, task, targets):
    scores = open_tiny(kind, task)("the cat sat on the mat and the cat").scores(targets)
    values, found = scores.values_and_gradients(*scores.inputs())
    assert len(by_onednn) > 20
    monkeypatch.setattr(gradients, "fast_products", lambda device: contextlib.nullcontext())
    n = len(by_onednn)
    whole, expected = scores.values_and_gradients(*scores.inputs())
    assert len(by_onednn) == n
    torch.testing.assert_close(values, whole, rtol=1e-5, atol=1e-6)
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * float(other.abs().max()))


def test_a_processor_of_intel_and_a_rounded_pass_keep_torchs(monkeypatch):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert isinstance(products.fast_products(torch.device("cpu")), contextlib.nullcontext)
    assert isinstance(products.fast_products(torch.device("cuda")), contextlib.nullcontext)
    monkeypatch.setattr(products, "_onednn_is_faster", lambda: False)
    assert isinstance(products.fast_products(torch.device("cpu")), contextlib.nullcontext)
