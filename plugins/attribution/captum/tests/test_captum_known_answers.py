"""The benchmark of known answers: what decides, how a ranking is judged, and which methods its page tells of."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import ecco_core as ecco

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("known_answers", ROOT / "benchmarks" / "known_answers.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module", params=["prose", "classifier", "masked", "seq2seq"])
def known(request, bench):
    lm = ecco.from_pretrained(f"tiny:{request.param}")
    cases = bench.shipped(request.param)
    return lm, [*cases[:20], *cases[45:65]]  # of prose, which goes through 45 templates, two of each


def test_the_answer_follows_what_decides(bench, known):
    lm, cases = known
    right, tried = bench.follows(lm, cases)
    print(f"\n{lm.name}: {right} of {tried}")
    assert tried >= 15
    assert right >= 0.8 * tried


def test_deciding_tokens_hold_the_answer(bench, known):
    lm, cases = known
    found = bench.known_cases(lm, cases)
    assert len(found) >= 0.9 * len(cases)
    for case in found:
        tokens = case.run.transcript.tokens[case.stack]
        assert case.deciding <= set(range(len(tokens)))
        if lm.task != "sequence_classification":
            answer = int(bench.logits_of(case.run).argmax())
            texts = {lm.tokenizer.convert_ids_to_tokens(int(tokens.ids[p])).strip("▁Ġ") for p in case.deciding}
            assert texts == {lm.tokenizer.convert_ids_to_tokens(answer).strip("▁Ġ")}


def test_an_oracle_scores_everything_and_its_opposite_nothing(bench, known):
    lm, cases = known
    rng = np.random.default_rng(0)
    for case in bench.known_cases(lm, cases):
        oracle = np.isin(np.arange(case.n_tokens), list(case.deciding)).astype(float)
        assert bench.best_rank(oracle, case.deciding, rng) == 1
        assert bench.best_rank(-oracle, case.deciding, rng) == case.n_tokens - len(case.deciding) + 1


def test_random_and_constant_rankings_score_at_chance(bench):
    """Of k deciding tokens among n, one is first by k / n; the best one is at rank r by C(n - r, k - 1) / C(n, k)."""
    from math import comb

    n, deciding, draws = 12, {2, 5, 7}, 20_000
    rng = np.random.default_rng(0)
    reciprocal = sum(comb(n - r, len(deciding) - 1) / comb(n, len(deciding)) / r for r in range(1, n))
    for scores in (rng.random, np.ones):  # ties are broken at random
        ranks = np.array([bench.best_rank(scores(n), deciding, rng) for _ in range(draws)])
        assert np.mean(ranks == 1) == pytest.approx(len(deciding) / n, abs=4 * np.sqrt(0.25 * 0.75 / draws))
        assert np.mean(1 / ranks) == pytest.approx(reciprocal, abs=4 * np.std(1 / ranks) / np.sqrt(draws))


def test_wilsons_interval_is_scipys(bench):
    from scipy.stats import binomtest

    for right, n in ((0, 12), (3, 12), (12, 12), (75, 100)):
        expected = binomtest(right, n).proportion_ci(0.95, method="wilson")
        np.testing.assert_allclose(bench.wilson(right / n, n), expected, atol=1e-4)


def test_a_seed_is_averaged_not_counted_as_cases(bench):
    summary = bench.summary([[(1, 1), (2, 1), (1, 1), (4, 2)], [(1, 1), (1, 1), (2, 1), (4, 2)]])
    assert (summary["cases"], summary["first"], summary["by_seed"]) == (4, 0.5, [0.5, 0.5])
    assert summary["story"]["first"] == 0.75
    assert summary["reciprocal"] == pytest.approx((1 + 0.5 + 1 + 0.25) / 4)


def test_seeds_change_methods_that_draw_and_no_others(bench, known):
    lm, cases = known
    case = bench.known_cases(lm, cases[:3])[0]
    assert bench.draws(case, "gradient_shap", {})
    assert not bench.draws(case, "saliency", {})


def test_the_page_tells_of_the_methods_there_are(bench):
    """A method was added or taken away? Run `python benchmarks/known_answers.py --only NAME`."""
    page = bench.PAGE.read_text(encoding="utf-8")
    generated = page.split(bench.BEGIN)[1].split(bench.END)[0]
    named = {bench.label(method, options) for method, options in bench.methods().items()}
    told = set(re.findall(r"^(?:\| |- )(`\w+`(?:, layers?=\d+)?) [|(]", generated, re.MULTILINE))
    assert told == named


def test_the_page_has_every_choice_that_is_measured(bench):
    generated = bench.PAGE.read_text(encoding="utf-8").split(bench.BEGIN)[1].split(bench.END)[0]
    wanted = {bench.label(method, options) for method, options in bench.variants()}
    assert wanted <= set(re.findall(r"^\| (`\w+`, [^|]+?) \|", generated, re.MULTILINE))
