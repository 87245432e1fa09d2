"""The probes on arrays: against scikit-learn, closed forms and naive loops, without models."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections import Counter

import numpy as np
import pytest
from ecco_probing import by_type, control_labels, fit, grouped_splits, interval, predict, probe
from hypothesis import assume, given, settings, strategies as st
from scipy.stats import t
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import scale


def clusters(n=120, units=6, classes=3, apart=12.0, seed=0):
    """Rows around one far corner per class."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return rng.normal(size=(n, units)) + apart * np.eye(units)[y], y


@pytest.mark.parametrize("classifier", ["linear", "mlp"])
def test_what_a_plane_separates_is_read_without_an_error(classifier):
    x, y = clusters()
    assert probe(x, y, classifier=classifier).scores["accuracy"].tolist() == [1.0] * 5


def test_labels_that_have_nothing_to_do_with_the_states_score_chance():
    inside = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scores = probe(rng.normal(size=(200, 5)), np.arange(200) % 2, seed=seed).scores["accuracy"]
        _, low, high = interval(scores)
        inside += low <= 0.5 <= high
    assert inside >= 17  # 95 % of 20, and P(16 or fewer) is 2 %


def test_one_hot_word_types_carry_any_task_where_types_are_shared_and_none_where_they_are_not():
    types = np.repeat(np.arange(40), 10)
    x, y = np.eye(40)[types], types % 2
    runs = np.tile(np.arange(10), 40)  # each run has each type once
    shared = probe(x, y, runs, types, penalty=0.1).scores
    assert shared["accuracy"].tolist() == shared["control"].tolist() == shared["word_type"].tolist() == [1.0] * 5
    assert shared["selectivity"].tolist() == [0.0] * 5
    assert shared["seen"].tolist() == [1.0] * 5
    apart = probe(x, y, types, types, splits=20).scores
    assert (apart["accuracy"] == apart["majority"]).all()
    assert (apart["word_type"] == apart["majority"]).all()
    assert apart["seen"].tolist() == [0.0] * 20
    assert abs(apart["control"].mean() - 0.5) < 0.15


@pytest.mark.parametrize("classes", [2, 4])
def test_the_scores_are_those_of_scikit_learn_on_units_standardised_by_the_training_rows(classes):
    x, y = clusters(classes=classes, apart=1.5, seed=3)
    x *= np.array([1, 100, 0.01, 5, 1, 1])
    x[0, :2] = 1e6  # it would drown both units of the splits that test it
    parts = grouped_splits(y, seed=4)
    found = probe(x, y, parts=parts, penalty=3.0).scores["accuracy"]
    for score, (train, test) in zip(found, parts):
        mean, deviation = x[train].mean(0), x[train].std(0)
        reference = LogisticRegression(C=1 / 3.0, max_iter=1000).fit((x[train] - mean) / deviation, y[train])
        assert score == accuracy_score(y[test], reference.predict((x[test] - mean) / deviation))
    assert 0.5 < found.mean() < 1  # else any probe would do


def test_a_fit_is_at_the_minimum_of_the_loss_that_is_documented():
    x, y = clusters(apart=1.0, seed=5)
    penalty = 7.0
    parameters, _, converged = fit(x, y, penalty=penalty)
    assert converged
    rest = predict(parameters, x) - np.eye(3)[y]  # gradient of the cross-entropy in the logits
    weights = parameters["weights_0"] * x.std(0)
    assert np.abs(rest.T @ scale(x) + penalty * weights).max() < 0.05  # lbfgs stops near it
    assert np.abs(rest.T @ scale(x)).max() > 5  # it would not hold without the penalty
    assert np.abs(rest.sum(0)).max() < 0.05


@pytest.mark.parametrize("n", [150, 900])
def test_an_mlp_is_at_a_minimum_of_the_same_loss_however_many_rows(n):
    x, y = clusters(n=n, apart=1.0, seed=5)
    penalty = 7.0
    parameters, _, converged = fit(x, y, classifier="mlp", penalty=penalty, hidden_units=9)
    assert converged
    hidden = np.maximum(x @ parameters["weights_0"].T + parameters["bias_0"], 0)
    pull = (predict(parameters, x) - np.eye(3)[y]).T @ hidden
    assert np.abs(pull + penalty * parameters["weights_1"]).max() < 0.05 * np.abs(pull).max()
    assert np.abs(pull).max() > 3


@pytest.mark.parametrize("classifier", ["linear", "mlp"])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_kept_probe_predicts_as_scikit_learn_does(classifier, classes):
    x, y = clusters(classes=classes, apart=2.0)
    names = np.array(["ant", "bee", "cow"])[y]
    parameters, found, _ = fit(x, names, classifier=classifier, penalty=2.0, hidden_units=7, seed=1)
    assert found == ("ant", "bee", "cow")[:classes]
    linear, mlp = (
        LogisticRegression(C=0.5, max_iter=1000),
        MLPClassifier((7,), solver="lbfgs", alpha=2.0, max_iter=500, random_state=1),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = (linear if classifier == "linear" else mlp).fit(scale(x), y)
    assert np.allclose(predict(parameters, x), reference.predict_proba(scale(x)), atol=1e-6)


def test_the_baselines_are_those_of_a_naive_count():
    rng = np.random.default_rng(0)
    y, types = rng.integers(3, size=90), rng.integers(30, size=90)
    parts = grouped_splits(y, seed=1)
    scores = probe(rng.normal(size=(90, 2)), y, types=types, parts=parts).scores
    assert (scores["selectivity"] == scores["accuracy"] - scores["control"]).all()
    for split, (train, test) in enumerate(parts):
        most = Counter(sorted(y[train].tolist())).most_common(1)[0][0]
        said = []
        for kind in types[test]:
            met = sorted(y[train][types[train] == kind].tolist())
            said.append(Counter(met).most_common(1)[0][0] if met else most)
        assert scores["majority"][split] == np.mean(y[test] == most)
        assert scores["word_type"][split] == np.mean(y[test] == said)
    assert by_type(np.array([0, 1, 1]), np.array([0, 2, 2]), np.array([0, 1, 2, 9])).tolist() == [0, 1, 1, 1]


def test_a_control_task_gives_each_type_one_label_as_often_as_the_rows_have_it():
    types = np.repeat(np.arange(3000), 2)
    y = (np.arange(6000) % 4 == 0).astype(int)
    control = control_labels(y, types, np.random.default_rng(0))
    assert all(len(set(control[types == kind])) == 1 for kind in range(0, 3000, 100))
    assert abs(control.mean() - 0.25) < 0.03
    two = control_labels(np.array([0, 1]), np.array([5, 9]), np.random.default_rng(1))
    assert sorted(two) == [0, 1]  # never one label only, which would be no task
    with pytest.raises(ValueError, match="two types and two labels"):
        control_labels(y, np.zeros(6000), np.random.default_rng(0))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 14), st.integers(0, 2)), min_size=30, max_size=60), st.integers(0, 99))
def test_no_group_is_in_training_and_test_and_each_row_is_tested_once(rows, seed):
    groups, y = np.array(rows).T
    assume(len(set(y)) > 1 and all(len(set(groups[y == label])) >= 3 for label in set(y)))
    try:
        parts = grouped_splits(y, groups, splits=3, folds=3, seed=seed)
    except ValueError as error:
        assume("too few or too uneven" not in str(error))
        raise
    for train, test in parts:
        assert not set(groups[train]) & set(groups[test])
        assert sorted([*train, *test]) == list(range(len(y)))
        assert set(y[train]) == set(y)
    assert sorted(np.concatenate([test for _, test in parts])) == list(range(len(y)))


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000))
def test_the_units_order_scale_and_offset_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    x, y = clusters(n=60, apart=1.5, seed=seed)
    changed = (x * rng.uniform(0.5, 50, 6) + rng.normal(size=6))[:, rng.permutation(6)]
    one, other = (probe(states, y, seed=seed, splits=2).scores["accuracy"] for states in (x, changed))
    assert np.allclose(one, other, atol=1.01 / 12)  # at most a row on the border


def test_the_seed_decides_everything_random():
    x, y = clusters(apart=1.0)
    types = np.arange(len(y)) // 2
    one, same, other = (probe(x, y, types=types, classifier="mlp", splits=2, seed=s) for s in (1, 1, 2))
    assert all((one.scores[name] == same.scores[name]).all() for name in one.scores)
    assert any((one.scores[name] != other.scores[name]).any() for name in one.scores)


def test_the_interval_is_the_corrected_one():
    scores = np.array([0.5, 0.6, 0.8])
    half = t.ppf(0.975, 2) * np.sqrt((1 / 3 + 0.25) * scores.var(ddof=1))
    assert interval(scores, floor=-1) == pytest.approx((19 / 30, 19 / 30 - half, min(1, 19 / 30 + half)))
    assert interval(scores + 0.2)[2] == 1.0
    assert interval(scores)[1] == pytest.approx(19 / 30 - half)
    assert interval(scores - 0.4)[1] == 0.0
    with pytest.raises(ValueError, match="2 splits or more, found 1"):
        interval(scores[:1])


def test_fits_that_do_not_converge_are_counted_and_not_printed():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 20)), rng.integers(3, size=300)  # few hidden units learn them by heart, slowly
    endless = {"classifier": "mlp", "penalty": 1e-6, "hidden_units": 4}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert probe(x, y, **endless).unconverged in (0.2, 0.4, 0.6, 0.8, 1.0)
        assert not all(fit(x, y, seed=seed, **endless)[2] for seed in range(5))
        assert probe(x, y).unconverged == 0.0


GOOD = np.random.default_rng(0).normal(size=(12, 2))
TWO = ["a", "b"] * 6


def with_one(value):
    x = GOOD.copy()
    x[3, 1] = value
    return x


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: probe(GOOD, ["a"] * 12), "found only the class 'a', expected two or more"),
        (lambda: probe(GOOD, TWO[:11]), "There are 12 rows; labels are one per row, found the shape (11,)"),
        (lambda: probe(GOOD, TWO, range(11)), "There are 12 rows; groups are one per row"),
        (lambda: probe(GOOD, TWO, types=[1]), "There are 12 rows; types are one per row"),
        (lambda: probe(GOOD, ["a"] * 9 + ["b"] * 3), "The class 'b' is in 3 rows; 5 are needed"),
        (lambda: probe(GOOD, TWO, [0, 1] * 4 + [2, 3, 2, 3]), "is in 2 groups of rows; 5 are needed"),
        (lambda: probe(with_one(np.nan), TWO), "The states hold nan at row 3, unit 1"),
        (lambda: probe(with_one(np.inf), TWO), "The states hold inf at row 3, unit 1"),
        (lambda: probe(np.ones((12, 2)), TWO), "All 2 units are constant over the 12 rows"),
        (lambda: probe(GOOD[0], TWO), "a matrix of numbers (row, unit), found float64 of the shape (2,)"),
        (lambda: probe(GOOD.astype(str), TWO), "a matrix of numbers (row, unit), found <U"),
        (lambda: probe(GOOD, TWO, classifier="svm"), "There is no classifier 'svm'; there are linear, mlp"),
        (lambda: probe(GOOD, TWO, penalty=0.0), "penalty is a number above 0, found 0.0"),
        (lambda: probe(GOOD, TWO, penalty=np.nan), "penalty is a number above 0, found nan"),
        (lambda: probe(GOOD, TWO, hidden_units=0), "hidden_units is a number from 1, found 0"),
        (lambda: probe(GOOD, TWO, splits=1), "splits is a number from 2, found 1"),
        (lambda: probe(GOOD, TWO, folds=1), "folds is a number from 2, found 1"),
        (lambda: probe(GOOD, TWO, seed=-1), "seed is a number from 0, found -1"),
        (lambda: probe(GOOD, ["a", None] * 6), "labels hold None at row 1"),
        (lambda: probe(GOOD, [0.0, np.nan] * 6), "labels hold nan at row 1"),
        (lambda: probe(GOOD, TWO, types=["x"] * 5 + [None] * 7), "types hold None at row 5"),
        (lambda: probe([[1.0, 2.0], [3.0]], TWO), "a matrix of numbers (row, unit), found a list that numpy cannot"),
        (lambda: probe(GOOD * 1e200, TWO), "units beyond the range of the squares of float64"),
        (lambda: fit(GOOD, ["a"] * 12), "found only the class 'a'"),
        (
            lambda: predict({"weights_0": np.ones((2, 3)), "bias_0": np.ones(2)}, GOOD),
            "reads 3 units, the states have 2",
        ),
        (lambda: grouped_splits([]), "found no class, expected two or more"),
    ],
)
def test_bad_input_is_said_in_a_sentence(call, said):
    with pytest.raises(ValueError) as caught:
        call()
    assert said in str(caught.value)


def test_units_that_are_constant_beside_others_change_nothing():
    x, y = clusters(n=60, apart=1.5)
    padded = np.hstack([x, np.full((60, 2), 3.0)])
    assert (probe(x, y).scores["accuracy"] == probe(padded, y).scores["accuracy"]).all()


def test_the_package_is_light_and_its_functions_need_no_framework():
    heavy = "{'numpy', 'scipy', 'sklearn', 'torch', 'transformers'}"
    code = f"import sys, ecco_probing; assert not {heavy} & set(sys.modules); assert 'probe' in dir(ecco_probing)\n"
    code += "import ecco_probing.analyses as a; assert not {'sklearn', 'torch', 'scipy'} & set(sys.modules)\n"
    code += "from ecco_probing import probe, sentences; import numpy as np\n"
    code += "probe(np.random.default_rng(0).normal(size=(20, 2)), [0, 1] * 10); assert 'torch' not in sys.modules\n"
    code += (
        "try: ecco_probing.nonsense\nexcept AttributeError as e: assert 'nonsense' in str(e)\nelse: raise SystemExit(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
