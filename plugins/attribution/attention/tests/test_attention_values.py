"""Norms of weighted values against naive loops, and against the attention's own output in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ecco_attention import carried, transformed, value_norms, value_vectors

RNG = np.random.default_rng(0)


def sizes(heads=4, groups=2, queries=3, keys=5, unit=2, out=6):
    pattern = RNG.dirichlet(np.ones(keys), size=(heads, queries))
    return pattern, RNG.normal(size=(keys, groups, unit)), RNG.normal(size=(heads * unit, out))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_norms_are_the_definition_number_by_number(groups):
    pattern, values, projection = sizes(groups=groups)
    heads, queries, keys = pattern.shape
    f = transformed(values, projection, heads)
    found = value_norms(pattern, values, projection)
    for q in range(queries):
        for k in range(keys):
            added = np.zeros(6)
            for h in range(heads):
                v = values[k, h * groups // heads]
                piece = sum(v[u] * projection[h * 2 + u] for u in range(2))
                np.testing.assert_allclose(f[h, k], piece)
                added += pattern[h, q, k] * piece
            np.testing.assert_allclose(value_vectors(pattern, values, projection)[q, k], added, atol=1e-14)
            assert found[q, k] == pytest.approx(np.sqrt((added**2).sum()))


def test_values_that_cancel_over_heads_count_nothing():
    pattern = np.ones((2, 1, 1))
    assert value_norms(pattern, np.ones((1, 2, 1)), np.array([[1.0], [-1.0]])).item() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, v, w: (p, v[:, 0], w), "do not fit 4 heads"),
        (lambda p, v, w: (p[:3], v, w), "do not fit 3 heads"),
        (lambda p, v, w: (p, v, w[:-1]), "do not fit 4 heads"),
        (lambda p, v, w: (p, v[:-1], w), "The pattern has 5 keys, there are 4 values"),
        (lambda p, v, w: (p * 2, v, w), "a row that sums to 2"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        value_norms(*change(*sizes()))


MODELS = [
    ("gpt2", "causal"),  # Conv1D
    ("llama", "causal"),  # grouped heads, no bias
    ("qwen2", "causal"),  # grouped heads, bias in the values
    ("opt", "causal"),
    ("gpt_neox", "causal"),
    ("bert", "masked"),
    ("modernbert", "masked"),
    ("bart", "seq2seq"),
    ("t5", "seq2seq"),
]


def run_of(lm):
    if lm.task == "seq2seq":
        return lm.generate("the cat sat", output=" on the mat")
    return lm("the cat <mask> on the mat" if lm.task == "masked" else "the cat sat on the mat")


@pytest.mark.parametrize(("kind", "task"), MODELS)
def test_the_values_of_all_keys_and_the_bias_are_what_attention_puts_out(open_tiny, kind, task):
    lm = open_tiny(kind, task, torch.float64)
    run = run_of(lm)
    stack = run.transcript.stack
    for prefix in ("", "cross_") if task == "seq2seq" else ("",):
        sites = [prefix + site for site in ("pattern", "v", "attn_out", "z")]
        capture = run.capture(*sites)
        for layer in capture.layers(sites[0]):
            pattern, v, out = (capture.numpy(site, layer) for site in sites[:3])
            module = lm.architecture.place(sites[3], layer, stack).module
            bias = 0 if getattr(module, "bias", None) is None else module.bias.detach().numpy()
            matrix = carried.projection(run, sites[3], layer, stack)[0].detach().numpy()
            sums = value_vectors(pattern, v, matrix).sum(1) + bias
            assert np.linalg.norm(sums - out) <= 1e-12 * np.linalg.norm(out)


@pytest.mark.parametrize(("kind", "task"), MODELS)
def test_scores_are_what_is_lost_with_a_key(open_tiny, kind, task):
    """The norm of one key's part, by the model's own projection with that key's weights and without, each layer."""
    lm = open_tiny(kind, task, torch.float64)
    run = run_of(lm)
    target = 3
    row, stack = target - (task != "masked"), run.transcript.stack
    result = run.analyze("attention_norms", targets=[target])
    if task == "masked":  # the token is masked when it is explained
        ids = run.ids.tolist()
        ids[target] = lm.tokenizer.mask_token_id
        run = lm(lm.tokenizer.decode(ids))
        assert run.ids.tolist() == ids
    expected = {}
    for prefix, keys in [("", stack)] + [("cross_", "encoder")] * (task == "seq2seq"):
        sites = [prefix + site for site in ("pattern", "v", "z")]
        capture, layers = run.capture(*sites), lm.architecture.n_layers(stack)
        total = 0
        for layer in range(layers):
            pattern, v, z = (capture.get(site, layer) for site in sites)
            module = lm.architecture.place(sites[2], layer, stack).module
            v = v.repeat_interleave(len(pattern) // v.shape[1], dim=1)
            parts = pattern[:, row].T[:, :, None] * v  # (key, head, unit)
            with torch.no_grad():
                whole = module(z[row])
                lost = torch.stack([whole - module(z[row] - part.flatten()) for part in parts])
            total = total + lost.norm(dim=-1) / layers
        expected[keys] = total.numpy()
    sources = [(source.stack, source.positions[0]) for source in result.sources]
    wanted = [expected[stack][position] for stack, position in sources]
    np.testing.assert_allclose(result.values.values[0], wanted, rtol=1e-9, atol=1e-12)
