"""Rollout and flow against sums over all paths and exact minimal cuts on tiny graphs."""

from __future__ import annotations

import itertools
import time
from fractions import Fraction

import networkx
import numpy as np
import pytest
from ecco_attention import flow, flow_of, joined, rollout, rounding, with_residual
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp


def patterns_of(raw, causal):
    """Weights whose rows sum to 1 from any positive numbers."""
    seen = np.tril(np.ones(raw.shape[-2:])) if causal else np.ones(raw.shape[-2:])
    raw = raw * seen
    return raw / raw.sum(-1, keepdims=True)


@st.composite
def patterns(draw, most_tokens=3, most_layers=3):
    layers, heads, n = draw(st.integers(1, most_layers)), draw(st.integers(1, 2)), draw(st.integers(1, most_tokens))
    raw = draw(hnp.arrays(float, (layers, heads, n, n), elements=st.floats(0.0078125, 1, width=16)))
    return patterns_of(raw, draw(st.booleans()))


def by_hand(pattern):
    """Heads averaged and the residual mixed in, number by number."""
    heads, n, _ = pattern.shape
    step = np.array([[sum(pattern[h, q, k] for h in range(heads)) / heads for k in range(n)] for q in range(n)])
    step = 0.5 * step + 0.5 * np.eye(n)
    return np.array([row / sum(row) for row in step])


@given(patterns())
@settings(max_examples=60, deadline=None)
def test_rollout_is_the_sum_over_all_paths(weights):
    steps, n = [by_hand(p) for p in weights], weights.shape[-1]
    expected = np.zeros((n, n))
    for path in itertools.product(range(n), repeat=len(steps) + 1):  # tokens from the first to the last layer's output
        expected[path[-1], path[0]] += np.prod([s[path[i + 1], path[i]] for i, s in enumerate(steps)])
    np.testing.assert_allclose(rollout(weights), expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(rollout(weights).sum(1), 1, rtol=1e-12)


def least_cut(steps, position, token):
    """The maximum flow as the cheapest of all cuts, in exact fractions."""
    n, depth = len(steps[0]), len(steps)
    inner = [(level, t) for level in range(1, depth) for t in range(n)]
    edges = [
        ((level, i), (level - 1, j), Fraction(float(steps[level - 1][i, j])))
        for level in range(depth, 0, -1)
        for i in ([position] if level == depth else range(n))
        for j in ([token] if level == 1 else range(n))
    ]
    costs = []
    for chosen in itertools.product([False, True], repeat=len(inner)):
        side = {node for node, here in zip(inner, chosen) if here} | {(depth, position)}
        costs.append(sum(capacity for a, b, capacity in edges if a in side and b not in side))
    return min(costs)


@given(patterns(most_layers=3), st.data())
@settings(max_examples=40, deadline=None)
def test_flow_is_the_cheapest_cut(weights, data):
    steps, n = [by_hand(p) for p in weights], weights.shape[-1]
    position = data.draw(st.integers(0, n - 1))
    found = flow(weights, position)
    limit = rounding(steps)
    for token in range(n):
        exact = float(least_cut(steps, position, token))
        assert -1e-15 <= exact - found[token] <= limit + 1e-15


@pytest.mark.parametrize("causal", [True, False])
def test_flow_of_a_larger_graph_is_networkxs(causal):
    weights = patterns_of(np.random.default_rng(0).exponential(size=(4, 2, 7, 7)) ** 3, causal)
    steps, position = [with_residual(p) for p in weights], 5
    graph = networkx.DiGraph()
    for level, step in enumerate(steps, 1):
        for i, j in zip(*np.nonzero(step)):
            graph.add_edge((level, int(i)), (level - 1, int(j)), capacity=float(step[i, j]))
    found = flow_of(steps, position)
    for token in range(7):
        reachable = (4, position) in graph and networkx.has_path(graph, (4, position), (0, token))
        expected = networkx.maximum_flow_value(graph, (4, position), (0, token)) if reachable else 0.0
        assert found[token] == pytest.approx(expected, abs=rounding(steps))
    assert not causal or found[6] == 0


@given(patterns(most_tokens=5), st.randoms())
@settings(max_examples=30, deadline=None)
def test_tokens_may_be_renamed(weights, random):
    n = weights.shape[-1]
    order = random.sample(range(n), n)
    renamed = weights[:, :, order][..., order]
    np.testing.assert_allclose(rollout(renamed), rollout(weights)[order][:, order], atol=1e-14)
    np.testing.assert_allclose(flow(renamed, 0), flow(weights, order[0])[order], atol=1e-6)


@pytest.mark.parametrize("layers", [1, 4])
def test_what_comes_later_has_exactly_nothing(layers):
    weights = patterns_of(np.random.default_rng(1).exponential(size=(layers, 3, 6, 6)), causal=True)
    shares = rollout(weights)
    assert not np.triu(shares, 1).any()
    flows = flow(weights, 3)
    assert not flows[4:].any()
    assert (flows[:4] > 0).all()
    assert flows.max() <= 1


def test_attention_to_oneself_alone_stays_there():
    alone = np.broadcast_to(np.eye(4), (3, 2, 4, 4))
    np.testing.assert_array_equal(rollout(alone), np.eye(4))
    np.testing.assert_array_equal(flow(alone, 2), [0, 0, 1, 0])


def test_one_layer_is_half_attention_half_residual():
    weights = np.array([[[[1.0, 0.0], [0.4, 0.6]]]])
    np.testing.assert_allclose(rollout(weights), [[1, 0], [0.2, 0.8]])
    np.testing.assert_allclose(flow(weights, 1), [0.2, 0.8], atol=1e-8)


def test_a_row_with_a_sink_leaves_more_to_the_residual():
    weights = np.array([[[0.2, 0.0], [0.1, 0.1]]])  # rows sum to 0.2: 0.8 goes to a sink
    np.testing.assert_allclose(with_residual(weights), [[1, 0], [1 / 12, 11 / 12]])
    np.testing.assert_array_equal(with_residual(np.zeros((1, 2, 2))), np.eye(2))  # heads that are switched off


def test_attention_that_prefers_none_gives_early_tokens_more():
    n = 8
    alike = np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None]
    weights = np.broadcast_to(alike, (4, 1, n, n))
    shares, flows = rollout(weights)[-1], flow(weights, n - 1)
    assert (np.diff(shares[:-1]) < 0).all()
    assert (np.diff(flows[:-1]) <= 1e-9).all()
    assert flows[0] > 1.5 * flows[-2]


def test_encoder_and_decoder_are_one_graph():
    rng = np.random.default_rng(2)
    encoder = patterns_of(rng.exponential(size=(2, 2, 3, 3)), causal=False)
    decoder = patterns_of(rng.exponential(size=(2, 2, 4, 4)), causal=True)
    cross = rng.exponential(size=(2, 2, 4, 3))
    cross /= cross.sum(-1, keepdims=True)
    steps = joined(encoder, decoder, cross)
    of_encoder = by_hand(encoder[1]) @ by_hand(encoder[0])
    own, other = np.eye(4), np.zeros((4, 3))
    for within, to_encoder in zip(decoder, cross):
        step = by_hand(within)
        own, other = step @ own, step @ other
        own, other = 0.5 * own, 0.5 * other + 0.5 * to_encoder.mean(0) @ of_encoder
    from ecco_attention import rollout_of

    shares = rollout_of(steps)
    np.testing.assert_allclose(shares[3:], np.concatenate([other, own], axis=1), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(shares.sum(1), 1)
    assert all(np.allclose(step.sum(1), 1) for step in steps)
    flows = flow_of(steps, 3 + 1)
    assert not flows[3 + 2 :].any()
    assert (flows[:5] > 0).all()


def test_flow_to_one_position_of_a_hundred_tokens_and_twelve_layers_is_fast():
    weights = patterns_of(np.random.default_rng(3).exponential(size=(12, 12, 100, 100)) ** 3, causal=True)
    start = time.perf_counter()
    flows = flow(weights, 99)
    assert time.perf_counter() - start < 5
    assert (flows > 0).all()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: rollout([]), "There is no layer"),
        (lambda: flow([], 0), "There is no layer"),
        (lambda: rollout(np.ones((2, 3, 3)) / 3), "A pattern has 3 axes"),
        (lambda: rollout(np.ones((1, 1, 0, 0))), "none of them empty"),
        (lambda: rollout(np.full((1, 1, 2, 2), np.nan)), "NaN or infinite"),
        (lambda: rollout(-np.ones((1, 1, 2, 2))), "found a weight of -1"),
        (lambda: rollout(np.ones((1, 1, 2, 2))), "a row that sums to 2"),
        (lambda: rollout(np.ones((1, 1, 2, 3)) / 3), "as many queries as keys"),
        (lambda: flow(np.ones((1, 1, 2, 2)) / 2, 2), "No position 2; there are 2, from 0 to 1"),
        (lambda: flow(np.ones((1, 1, 2, 2)) / 2, -1), "No position -1"),
        (lambda: joined([], [np.eye(2)[None]], []), "Each decoder layer attends to the encoder; found 1 and 0 layers"),
    ],
)
def test_bad_numbers_are_refused_in_one_sentence(made, message):
    with pytest.raises(ValueError, match=message) as raised:
        made()
    assert "\n" not in str(raised.value)
