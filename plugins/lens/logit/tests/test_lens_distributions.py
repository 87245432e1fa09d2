"""The functions on logits, against scipy in float64, closed forms and plain loops."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from ecco_lens import kl_divergence, logprobs_of, ranks_of, top_tokens
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, rel_entr, softmax

FINITE = st.floats(-50, 50, width=32)
LOGITS = arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(2, 40)), elements=FINITE)
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(13, 57)) * 4


@settings(deadline=None)
@given(LOGITS, st.data())
def test_top_tokens_are_those_of_a_sort_and_their_logprobs_scipys(logits, data):
    k = data.draw(st.integers(1, logits.shape[1]))
    ids, logprobs = top_tokens(logits, k)
    assert ids.shape == logprobs.shape == (len(logits), k)
    np.testing.assert_array_equal(np.take_along_axis(logits, ids, 1), -np.sort(-logits, axis=1)[:, :k])
    assert all(len(set(row)) == k for row in ids)
    expected = np.take_along_axis(log_softmax(logits.astype(np.float64), axis=1), ids, 1)
    np.testing.assert_allclose(logprobs, expected, atol=2e-5)


@settings(deadline=None)
@given(LOGITS, st.data())
def test_a_rank_is_one_and_how_many_are_greater(logits, data):
    n = data.draw(st.integers(1, 3))
    ids = data.draw(arrays(np.int64, (len(logits), n), elements=st.integers(0, logits.shape[1] - 1)))
    expected = [[1 + sum(float(x) > float(row[i]) for x in row) for i in own] for row, own in zip(logits, ids)]
    np.testing.assert_array_equal(ranks_of(logits, ids), expected)
    shifted = logits.astype(np.float64) + 3.0
    np.testing.assert_allclose(logprobs_of(shifted, ids), logprobs_of(logits, ids), atol=2e-5)


@settings(deadline=None)
@given(LOGITS, st.integers(0, 2**32 - 1))
def test_divergence_is_that_of_scipy_and_never_below_zero(logits, seed):
    others = np.random.default_rng(seed).normal(size=logits.shape) * 3
    p, q = (softmax(x.astype(np.float64), axis=1) for x in (logits, others))
    np.testing.assert_allclose(kl_divergence(logits.astype(np.float64), others), rel_entr(p, q).sum(1), atol=1e-9)
    assert np.all(kl_divergence(logits, others.astype(np.float32)) >= 0)
    assert np.all(kl_divergence(logits, logits) == 0)


def test_closed_forms():
    uniform = np.zeros((1, 8))
    assert logprobs_of(uniform, [[3]])[0, 0] == pytest.approx(-np.log(8))
    certain = np.array([[0.0, -np.inf, -np.inf, -np.inf, -np.inf, -np.inf, -np.inf, -np.inf]])
    assert kl_divergence(certain, uniform)[0] == pytest.approx(np.log(8))
    assert kl_divergence(uniform, certain)[0] == np.inf
    assert ranks_of(uniform, [[0, 7]]).tolist() == [[1, 1]]
    assert ranks_of(certain, [[0, 7]]).tolist() == [[1, 2]]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_of_any_precision_are_taken_as_what_they_are(kind):
    rows = torch.tensor(ROWS).to(kind)
    ids, logprobs = top_tokens(rows, 5)
    assert isinstance(ids, np.ndarray)
    expected = np.take_along_axis(log_softmax(rows.double().numpy(), axis=1), ids, 1)
    np.testing.assert_allclose(logprobs, expected, atol=1e-12 if kind == torch.float64 else 1e-5)
    assert logprobs.dtype == (np.float64 if kind == torch.float64 else np.float32)


@pytest.mark.filterwarnings("error")
def test_what_needs_a_gradient_and_what_is_read_only_is_taken_too():
    rows = ROWS.copy()
    rows.flags.writeable = False
    expected = top_tokens(ROWS, 2)[1]
    np.testing.assert_array_equal(top_tokens(rows, 2)[1], expected)
    np.testing.assert_array_equal(top_tokens(torch.tensor(ROWS, requires_grad=True), 2)[1], expected)


BAD = ROWS.copy()
BAD[5, 3] = np.nan
HUGE = ROWS.copy()
HUGE[2, 0] = np.inf
NO_NUMBERS = "The logits of row {} are no numbers"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: top_tokens(ROWS, 0), "k is from 1 to the number of tokens, 57, found 0"),
        (lambda: top_tokens(ROWS, 58), "k is from 1 to the number of tokens, 57, found 58"),
        (lambda: top_tokens(BAD, 1), NO_NUMBERS.format(5)),
        (lambda: ranks_of(BAD, np.zeros((13, 1), int)), NO_NUMBERS.format(5)),
        (lambda: logprobs_of(HUGE, np.zeros((13, 1), int)), NO_NUMBERS.format(2)),
        (lambda: kl_divergence(ROWS, HUGE), NO_NUMBERS.format(2)),
        (lambda: top_tokens(np.full((2, 3), -np.inf), 1), NO_NUMBERS.format(0)),
        (lambda: top_tokens(ROWS[0], 1), r"Logits are floats \(row, token\), found torch.float64 of the shape \(57,\)"),
        (lambda: top_tokens(ROWS[:0], 1), r"of the shape \(0, 57\)"),
        (lambda: top_tokens(np.ones((2, 3), int), 1), "found torch.int64"),
        (lambda: kl_divergence(ROWS, ROWS[:4]), "of one shape are compared"),
        (lambda: ranks_of(ROWS, np.zeros((12, 1), int)), r"ids are integers \(13, n\)"),
        (lambda: ranks_of(ROWS, np.zeros((13, 1))), "ids are integers"),
        (lambda: ranks_of(ROWS, np.full((13, 1), 57)), "ids are from 0 to 56, found 57 to 57"),
        (lambda: ranks_of(ROWS, np.full((13, 1), -1)), "ids are from 0 to 56, found -1 to -1"),
    ],
)
def test_bad_arrays_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_package_is_light_until_a_function_is_used():
    code = (
        "import sys, ecco_lens\n"
        "assert not {'torch', 'numpy', 'transformers', 'scipy'} & set(sys.modules)\n"
        "assert ecco_lens.ranks_of([[1.0, 2.0]], [[0]]).tolist() == [[2]]\n"
        "assert 'transformers' not in sys.modules\n"
        "try: ecco_lens.nonsense\n"
        "except AttributeError as error: assert 'nonsense' in str(error)\n"
        "else: raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
