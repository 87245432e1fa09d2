"""Whether measures of faithfulness prefer the methods that find what is known to decide; writes docs/believe.md.

    python benchmarks/known_faithfulness.py [--models NAME ...] [--cases N] [--tables] [--json FILE]

Cases and models are those of known_answers.py. Each method explains each case; each measure of ecco-faithfulness
grades the explanation without knowing the answer; how high a deciding token ranks in it grades it by the answer. The
page tells how well the two agree, over methods and within cases. Figures go to a JSON file, which is not committed,
and from there as tables into the page. `--tables` measures nothing. One thread, about twenty minutes.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ecco_faithfulness.results import LOWER_IS_BETTER
from known_answers import MODELS, ROOT, Case, best_rank, known_cases, shipped, table, text_scores
from scipy.stats import spearmanr

import ecco_core as ecco

PAGE, FIGURES = ROOT / "docs" / "believe.md", ROOT / ".scratch" / "known_faithfulness.json"
BEGIN, END = "<!-- written by benchmarks/known_faithfulness.py: begin -->\n", "<!-- end -->"
METHODS = (
    "integrated_gradients", "saliency", "input_x_gradient", "deep_lift", "gradient_shap", "occlusion", "lrp",
    "raw_attention", "attention_rollout", "attention_flow", "attention_norms",
)  # fmt: skip
#: How tokens are taken away besides the default, and by which measures that is graded then.
OTHERWISE: dict[str, Any] = {"replacement": "sample", "n_draws": 1, "metrics": ("deletion", "insertion")}
DRAWS = 1000
Array = np.ndarray[Any, np.dtype[np.float64]]


def measure(name: str, n_cases: int) -> dict[str, Any]:
    """Grades of every method on every case: by each measure, and by the known answer."""
    lm = ecco.from_pretrained(f"tiny:{name}")
    cases = known_cases(lm, shipped(name))[:n_cases]
    runs = [case.run for case in cases]
    started = time.perf_counter()
    result = ecco.analyze("faithfulness", runs, methods=METHODS, exact="off")
    seconds = time.perf_counter() - started
    otherwise = ecco.analyze("faithfulness", runs, methods=METHODS, exact="off", **OTHERWISE)
    methods = [method for method in result.each.labels("method") if method in METHODS]
    sampled = [f"{measure}, sampled tokens" for measure in otherwise.each.labels("measure")]
    return {
        "methods": methods,
        "measures": [*result.each.labels("measure"), *sampled],
        # (method, measure, case)
        "grades": np.concatenate([each.each.sel(method=methods).values for each in (result, otherwise)], 1).tolist(),
        "found": [[reciprocal_rank(case, method, n) for n, case in enumerate(cases)] for method in methods],
        "notes": [*result.notes, *otherwise.notes],
        "forwards": result.forwards,
        "seconds": seconds,
    }


def reciprocal_rank(case: Case, method: str, n: int) -> float:
    """1 over the rank of the best-placed deciding token; 1 if it is first."""
    scores = text_scores(case, case.run.analyze(method))
    return 1 / best_rank(scores, case.deciding, np.random.default_rng(n))


def rank_correlation(one: Array, other: Array) -> float:
    """Spearman's; NaN where one of them does not vary, or a number is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(spearmanr(one, other).statistic)


def over_methods(grades: Array, found: Array) -> float:
    """Over methods: the mean grade against the mean reciprocal rank; of arrays ``(method, case)``."""
    return rank_correlation(np.nanmean(grades, axis=1), found.mean(1))


def within_cases(grades: Array, found: Array) -> Array:
    """Per case, the correlation over methods; NaN where all methods do alike, which tells nothing."""
    return np.array([rank_correlation(grades[:, n], found[:, n]) for n in range(found.shape[1])])


def interval(statistic: Callable[[np.ndarray], float], n: int) -> tuple[float, float, float]:
    """A statistic of the numbers of `n` cases, and its 95 % interval over resampled cases."""
    draws = [statistic(some) for some in np.random.default_rng(0).integers(0, n, (DRAWS, n))]
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return statistic(np.arange(n)), float(low), float(high)


def of_means(grades: Array, found: Array) -> tuple[float, float, float]:
    """The correlation over methods."""
    return interval(lambda some: over_methods(grades[:, some], found[:, some]), found.shape[1])


def mean_of(each: Array) -> tuple[float, float, float]:
    """The mean over cases."""
    return interval(lambda some: float(np.nanmean(each[some])), len(each))


def taken_by(grades: Array, found: Array) -> Array:
    """Per case, whether the method that a measure grades best puts a deciding token first; ties share."""
    best = grades == np.nanmax(grades, axis=0)
    return np.asarray((best * (found == 1)).sum(0) / best.sum(0))


def tables(figures: dict[str, Any]) -> str:
    """All of the generated part of the page."""
    models = figures["models"]
    columns = [f"`tiny:{name}`" for name in models]
    measures = next(iter(models.values()))["measures"]
    found = {name: np.array(one["found"]) for name, one in models.items()}
    grades = {
        name: {
            measure: np.array(one["grades"], dtype=float)[:, m]
            * (-1 if measure.split(",")[0] in LOWER_IS_BETTER else 1)
            for m, measure in enumerate(one["measures"])
        }
        for name, one in models.items()
    }

    def lines(statistic: Any, form: str) -> list[list[str]]:
        return [[m, *(said(statistic(grades[name][m], found[name]), form) for name in models)] for m in measures]

    single = {name: (array == 1).mean(1) for name, array in found.items()}
    compared = [
        ["the best single method", *(said((float(np.max(one)),), ".0%") for one in single.values())],
        ["a method at random", *(said((float(np.mean(one)),), ".0%") for one in single.values())],
    ]
    preferred = [
        [m, *(prefer(models[n]["methods"], np.nanmean(grades[n][m], axis=1), single[n]) for n in models)]
        for m in measures
    ]
    shares = [[f"`{method}`", *(share(models[n]["methods"], single[n], method) for n in models)] for method in METHODS]
    cases = ", ".join(f"{array.shape[1]} ({name})" for name, array in found.items())
    took = ", ".join(f"{one['seconds']:.0f} s and {one['forwards']:,} masked inputs ({n})" for n, one in models.items())
    return "\n\n".join(
        [
            f"Measured {figures['date']}, torch {figures['torch']}, one thread. {len(METHODS)} methods, "
            f"cases: {cases}. By the defaults, grading them took {took}.",
            "### Over methods: rank correlation of a measure's mean with the mean reciprocal rank of what decides\n\n"
            + table(["measure", *columns], lines(of_means, "+.2f")),
            "### Within a case: the same over the methods' explanations of one text, averaged over cases\n\n"
            + table(["measure", *columns], lines(lambda g, f: mean_of(within_cases(g, f)), "+.2f")),
            "### A deciding token is first in the explanation that a measure grades best: % of cases\n\n"
            + table(["measure", *columns], [*lines(lambda g, f: mean_of(taken_by(g, f)), ".0%"), *compared]),
            "### The method that a measure prefers over all cases, and how often a deciding token is first in it\n\n"
            + table(["measure", *columns], preferred),
            "### The methods on these cases: % with a deciding token first\n\n" + table(["method", *columns], shares),
        ]
    )


def said(numbers: tuple[float, ...], form: str) -> str:
    """A number, and the interval behind it if there is one."""
    first, *ends = (format(number, form) for number in numbers)
    return f"{first} ({' – '.join(ends)})" if ends else first


def prefer(methods: list[str], means: Array, shares: Array) -> str:
    """The method with the best mean grade, and its share of cases."""
    best = int(np.nanargmax(means))
    return f"`{methods[best]}` {shares[best]:.0%}"


def share(methods: list[str], shares: Array, method: str) -> str:
    """One method's share of cases, where it works."""
    return format(shares[methods.index(method)], ".0%") if method in methods else "refused"


def main() -> None:
    """Measure, keep the figures, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS, help="others keep their figures")
    parser.add_argument("--cases", type=int, default=60, help="most cases of a model")
    parser.add_argument("--tables", action="store_true", help="only write the page, from the figures there are")
    parser.add_argument("--json", type=Path, default=FIGURES, help="where the figures are kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {"models": {}}
    if options.json.is_file() and (options.tables or set(options.models) != set(MODELS)):
        figures = json.loads(options.json.read_text(encoding="utf-8"))
    if not options.tables:
        figures |= {"date": time.strftime("%Y-%m-%d"), "torch": torch.__version__}
        options.json.parent.mkdir(exist_ok=True)
        for name in options.models:
            figures["models"][name] = measure(name, options.cases)
            options.json.write_text(json.dumps(figures) + "\n", encoding="utf-8")
            print(f"{name}: {figures['models'][name]['seconds']:.0f} s", flush=True)
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{tables(figures)}\n\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
