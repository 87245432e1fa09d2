"""Probes on arrays: accuracy on held-out rows, a control task and baselines beside it, over several splits.

Everything takes numpy arrays and knows neither models nor runs.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
CLASSIFIERS = ("linear", "mlp")


@dataclass(frozen=True)
class Probed:
    """What a probe scored.

    Attributes:
        scores: name -> ``(split,)``, shares of the tested rows, 0 to 1. ``accuracy`` of the probe; ``majority`` of
            always saying the most frequent label of the training rows. Where types were given, also ``control``:
            accuracy of the same probe on a control task; ``selectivity``: accuracy minus control, -1 to 1;
            ``word_type`` of saying the most frequent label that the type had in training, the majority's where it had
            none; and ``seen``: how many of the tested rows have a type that training saw.
        unconverged: share of the fits, those of the control task included, that stopped before they converged.
    """

    scores: Mapping[str, Array]
    unconverged: float


def probe(
    x: Array,
    y: Sequence[Any] | Array,
    groups: Sequence[Any] | Array | None = None,
    types: Sequence[Any] | Array | None = None,
    *,
    classifier: str = "linear",
    penalty: float = 10.0,
    hidden_units: int = 64,
    splits: int = 5,
    folds: int = 5,
    seed: int = 0,
    parts: Sequence[tuple[Array, Array]] = (),
) -> Probed:
    """Fit probes on random splits of the rows and score them on the rows left out.

    Each unit is standardised by mean and deviation of the training rows. In a control task each type has one random
    label, drawn from the labels of the rows; it is drawn anew for each split.

    Args:
        x: states ``(row, unit)``. `y`: one label per row.
        groups: one per row; rows of one group are never in training and test both. Each row its own if left out.
        types: the word type of each row, for the control task and the word-type baseline; neither if left out.
        classifier: ``linear``: logistic regression; ``mlp``: one hidden layer of `hidden_units` ReLUs.
        penalty: λ in Σ cross-entropy over rows (nats) + λ/2 · Σ weights².
        splits: how many splits. `folds`: one of that many parts of the rows is tested.
        seed: start of everything random: splits, control tasks, the weights that an MLP starts from.
        parts: splits that `grouped_splits` made before; new ones if left out.

    Raises:
        ValueError: x is no matrix of finite numbers or does not vary; y, groups or types are not one per row; there is
            one class only; a class has fewer groups than folds; an option is out of its range.

    References:
        Hewitt & Liang: Designing and Interpreting Probes with Control Tasks, EMNLP 2019 (control tasks, selectivity).
        Alain & Bengio: Understanding intermediate layers using linear classifier probes, 2016.
    """
    x, labels = _checked(x, y)
    _check_options(classifier, penalty, hidden_units, seed)
    kinds = None if types is None else _codes(types, len(x), "types")
    rng = np.random.default_rng(seed)
    scored: dict[str, list[float]] = defaultdict(list)
    converged = []
    for train, test in parts or grouped_splits(y, groups, splits=splits, folds=folds, seed=seed):
        tasks = {"accuracy": labels} | ({} if kinds is None else {"control": control_labels(labels, kinds, rng)})
        start = int(rng.integers(2**31))
        for name, task in tasks.items():
            model, well = _fitted(x[train], task[train], classifier, penalty, hidden_units, start)
            scored[name].append(float(np.mean(model.predict(x[test]) == task[test])))
            converged.append(well)
        scored["majority"].append(float(np.mean(labels[test] == np.bincount(labels[train]).argmax())))
        if kinds is not None:
            scored["selectivity"].append(scored["accuracy"][-1] - scored["control"][-1])
            said = by_type(labels[train], kinds[train], kinds[test])
            scored["word_type"].append(float(np.mean(labels[test] == said)))
            scored["seen"].append(float(np.mean(np.isin(kinds[test], kinds[train]))))
    return Probed({name: np.array(values) for name, values in scored.items()}, 1 - float(np.mean(converged)))


def grouped_splits(
    y: Sequence[Any] | Array,
    groups: Sequence[Any] | Array | None = None,
    *,
    splits: int = 5,
    folds: int = 5,
    seed: int = 0,
) -> list[tuple[Array, Array]]:
    """Return (training rows, test rows) of each split; labels are about as frequent in all parts.

    The first `folds` splits are one cross-validation, which tests each row once; the next ones are another.

    Args:
        y, groups, splits, folds, seed: as of `probe`.

    Raises:
        ValueError: one class only, a class with fewer groups than folds, or fewer than 2 splits or folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    for name, value in (("splits", splits), ("folds", folds)):
        if value < 2:
            raise ValueError(f"{name} is a number from 2, found {value}.")
    labels = _codes(y, len(y), "labels")
    codes = np.arange(len(labels)) if groups is None else _codes(groups, len(labels), "groups")
    names = np.unique(np.asarray(y))
    _check_classes(names, labels, codes, folds, "rows" if groups is None else "groups of rows")
    rng = np.random.default_rng(seed)
    kind, given = (StratifiedKFold, None) if groups is None else (StratifiedGroupKFold, codes)
    found: list[tuple[Array, Array]] = []
    while len(found) < splits:
        folded = kind(folds, shuffle=True, random_state=int(rng.integers(2**31)))
        found += folded.split(labels, labels, given)
    for train, test in found[:splits]:
        absent = np.setdiff1d(labels, labels[train])
        if len(absent) or not len(test):
            what = f"all rows of the class {str(names[absent[0]])!r}" if len(absent) else "no rows"
            raise ValueError(f"The groups are too few or too uneven: a test part has {what}; give more groups.")
    return found[:splits]


def control_labels(y: Array, types: Array, rng: np.random.Generator) -> Array:
    """Return a random label for each type, drawn from the labels of the rows, as one label per row.

    Args:
        y: label of each row. `types`: type of each row. `rng`: where chance comes from.

    Raises:
        ValueError: there is one type, or one label, only.

    References:
        Hewitt & Liang 2019, section 2.1.
    """
    _, kinds = np.unique(types, return_inverse=True)
    if kinds.max() == 0 or (y == y[0]).all():
        raise ValueError("A control task needs two types and two labels or more, found one only.")
    while True:  # of few types all may draw one label, which would be no task
        drawn = rng.choice(y, size=kinds.max() + 1)
        if (drawn != drawn[0]).any():
            return np.asarray(drawn[kinds])


def by_type(y: Array, types: Array, tested: Array) -> Array:
    """Return the most frequent label of each tested type in training; the majority's label for a type not met.

    Args:
        y: labels of the training rows, numbers from 0. `types`: their types, numbers from 0.
        tested: types of the tested rows.
    """
    counts = np.zeros((max(types.max(), tested.max()) + 1, y.max() + 1), dtype=int)
    np.add.at(counts, (types, y), 1)
    best = np.where(counts.any(1), counts.argmax(1), counts.sum(0).argmax())
    return np.asarray(best[tested])


def interval(scores: Array, folds: int = 5, floor: float = 0.0) -> tuple[float, float, float]:
    """Return mean, low and high end of a 95 % interval of scores on random splits.

    Splits share most of their training rows, so the variance of the mean is not 1/n of theirs but
    (1/n + tested/trained) of it. Scores that are all equal give an interval without width.

    Args:
        scores: ``(split,)``. `folds`: as of `probe`. `floor`: least possible score; the most is 1.

    References:
        Nadeau & Bengio: Inference for the Generalization Error, Machine Learning 52, 2003 (corrected resampled t).
    """
    from scipy.stats import t

    n, mean = len(scores), float(np.mean(scores))
    if n < 2:
        raise ValueError(f"An interval needs 2 splits or more, found {n}.")
    half = t.ppf(0.975, n - 1) * np.sqrt((1 / n + 1 / (folds - 1)) * np.var(scores, ddof=1))
    return mean, float(max(mean - half, floor)), float(min(mean + half, 1.0))


def fit(
    x: Array,
    y: Sequence[Any] | Array,
    *,
    classifier: str = "linear",
    penalty: float = 10.0,
    hidden_units: int = 64,
    seed: int = 0,
) -> tuple[dict[str, Array], tuple[str, ...], bool]:
    """Fit one probe on all rows, to keep it.

    Args:
        x, y, classifier, penalty, hidden_units, seed: as of `probe`.

    Returns:
        Its parameters, standardisation included: ``weights_0 (hidden or class, unit)``, ``bias_0`` and, of an MLP,
        ``weights_1 (class, hidden)``, ``bias_1``; the names of the classes; and whether the fit converged.

    Raises:
        ValueError: as `probe`.
    """
    x, labels = _checked(x, y)
    _check_options(classifier, penalty, hidden_units, seed)
    names = tuple(str(name) for name in np.unique(np.asarray(y)))
    model, converged = _fitted(x, labels, classifier, penalty, hidden_units, seed)
    scaler, last = model[0], model[-1]
    layers = [(last.coef_, last.intercept_)] if classifier == "linear" else _layers(last)
    weights, bias = layers[-1]
    if len(names) == 2:  # one score for two classes: that of the first is 0
        layers[-1] = np.vstack([0 * weights, weights]), np.concatenate([0 * bias, bias])
    weights, bias = layers[0]
    weights = weights / scaler.scale_
    layers[0] = weights, bias - weights @ scaler.mean_
    named = {f"{part}_{i}": np.asarray(array) for i, layer in enumerate(layers) for part, array in _parts(layer)}
    return named, names, converged


def predict(parameters: Mapping[str, Array], x: Array) -> Array:
    """Return the probabilities ``(row, class)`` that a probe of `fit` gives to states ``(row, unit)``.

    Raises:
        ValueError: the states have another number of units than the probe, or are no finite numbers.
    """
    from scipy.special import softmax

    x = _matrix(x)
    units = parameters["weights_0"].shape[1]
    if x.shape[1] != units:
        raise ValueError(f"The probe reads {units} units, the states have {x.shape[1]}.")
    x = x @ parameters["weights_0"].T + parameters["bias_0"]
    if "weights_1" in parameters:
        x = np.maximum(x, 0) @ parameters["weights_1"].T + parameters["bias_1"]
    return np.asarray(softmax(x, axis=1))


def _layers(mlp: Any) -> list[tuple[Array, Array]]:
    return [(weights.T, bias) for weights, bias in zip(mlp.coefs_, mlp.intercepts_)]


def _parts(layer: tuple[Array, Array]) -> list[tuple[str, Array]]:
    return [("weights", layer[0]), ("bias", layer[1])]


def _fitted(x: Array, y: Array, classifier: str, penalty: float, hidden_units: int, seed: int) -> tuple[Any, bool]:
    """A fitted scikit-learn pipeline, and whether the fit converged."""
    from sklearn.dummy import DummyClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    if (y == y[0]).all():  # the training part of a control task with few types
        model: Any = DummyClassifier()
    elif classifier == "linear":
        model = LogisticRegression(C=1 / penalty, max_iter=1000)
    else:
        # all rows at once: in mini-batches, scikit-learn would weigh the penalty once per batch
        model = MLPClassifier((hidden_units,), solver="lbfgs", alpha=penalty, max_iter=500, random_state=seed)
    # on problems this small, threads of BLAS wait for each other: two take 15 times as long as one
    with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pipeline = make_pipeline(StandardScaler(), model).fit(x, y)
    stopped = [w for w in caught if issubclass(w.category, ConvergenceWarning)]
    for other in (w for w in caught if w not in stopped):
        warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    return pipeline, not stopped


def _checked(x: Array, y: Sequence[Any] | Array) -> tuple[Array, Array]:
    """The states as floats and the labels as numbers from 0."""
    x = _matrix(x)
    labels = _codes(y, len(x), "labels")
    if (x == x[0]).all():
        raise ValueError(f"All {x.shape[1]} units are constant over the {len(x)} rows: there is nothing to read.")
    _check_classes(np.unique(np.asarray(y)), labels, np.arange(len(x)), 1, "rows")
    return x, labels


def _matrix(x: Array) -> Array:
    try:
        x = np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors of other types or with gradients
        raise ValueError(
            f"States are a matrix of numbers (row, unit), found a {type(x).__name__} that numpy cannot read: "
            f"{str(error).rstrip('.')}."
        ) from error
    if x.ndim != 2 or not x.size or x.dtype.kind not in "fiu":
        raise ValueError(f"States are a matrix of numbers (row, unit), found {x.dtype} of the shape {x.shape}.")
    x = x.astype(np.float64 if x.dtype.itemsize > 4 else np.float32, copy=False)
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        row, unit = bad[0]
        raise ValueError(f"The states hold {x[row, unit]} at row {row}, unit {unit}; a probe needs finite numbers.")
    if float(np.abs(x).max()) > 1e150:
        raise ValueError("The states hold units beyond the range of the squares of float64: divide them.")
    return x


def _codes(values: Sequence[Any] | Array, n: int, what: str) -> Array:
    """Values as numbers from 0, in the order of their names."""
    values = np.asarray(values)
    if values.shape != (n,):
        raise ValueError(f"There are {n} rows; {what} are one per row, found the shape {values.shape}.")
    missing = [i for i, value in enumerate(values.tolist()) if value is None or value != value]
    if missing:
        raise ValueError(f"The {what} hold {values[missing[0]]} at row {missing[0]}; leave such rows out.")
    return np.unique(values, return_inverse=True)[1]


def _check_classes(names: Array, labels: Array, groups: Array, least: int, what: str) -> None:
    if len(names) < 2:
        found = f"only the class {str(names[0])!r}" if len(names) else "no class"
        raise ValueError(f"A probe tells classes from each other; found {found}, expected two or more.")
    for number, name in enumerate(names):
        n = len(np.unique(groups[labels == number]))
        if n < least:
            raise ValueError(
                f"The class {str(name)!r} is in {n} {what}; {least} are needed, so that each split can train on "
                "some and test on others: give more text, or leave the class out."
            )


def _check_options(classifier: str, penalty: float, hidden_units: int, seed: int) -> None:
    if classifier not in CLASSIFIERS:
        raise ValueError(f"There is no classifier {classifier!r}; there are {', '.join(CLASSIFIERS)}.")
    if not 0 < penalty < np.inf:
        raise ValueError(f"penalty is a number above 0, found {penalty}.")
    if hidden_units < 1:
        raise ValueError(f"hidden_units is a number from 1, found {hidden_units}.")
    if seed < 0:
        raise ValueError(f"seed is a number from 0, found {seed}.")
