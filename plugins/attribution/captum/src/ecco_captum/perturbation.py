"""The perturbation methods: what happens to the scores when features are taken away."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from ecco_captum.groups import MOST_SAMPLES, check_range
from ecco_core import Context, OptionError, TokenScores

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ecco_captum.masking import Masked

EXACT = 12  # features of exact Shapley values: 4,096 masks
_LEAST_SAMPLES = 200


def feature_ablation(ctx: Context, *, baseline: str = "auto", internal_batch_size: int | None = None) -> TokenScores:
    """Drop of the score when one feature is taken away.

    Options:
        baseline: what takes its place: auto, mean, zero, sample, a token's text, or a text of as many tokens.
        internal_batch_size: masks in one forward; chosen to fit if left out.
    """
    from captum.attr import FeatureAblation

    masked, described = _masked(ctx, baseline, internal_batch_size)
    return _result(ctx, masked, _explained(ctx, FeatureAblation(masked), masked), described)


def occlusion(
    ctx: Context, *, window: int = 1, stride: int = 1, baseline: str = "auto", internal_batch_size: int | None = None
) -> TokenScores:
    """Drop of the score when a window of neighbouring features is taken away, averaged over the windows of a feature.

    Options:
        window: features in a window.
        stride: features from one window to the next.
        baseline: what takes its place: auto, mean, zero, sample, a token's text, or a text of as many tokens.
        internal_batch_size: masks in one forward; chosen to fit if left out.
    """
    from captum.attr import Occlusion

    n = len(ctx.features)
    if not 1 <= window <= n:
        raise OptionError(f"window is from 1 to the number of features, {n}, found {window}.")
    if not 1 <= stride <= window:
        raise OptionError(f"stride is from 1 to the window, {window}, or features are left out; found {stride}.")
    masked, described = _masked(ctx, baseline, internal_batch_size)
    windows = {"sliding_window_shapes": (window,), "strides": (stride,)}
    return _result(ctx, masked, _explained(ctx, Occlusion(masked), masked, **windows), described)


def feature_permutation(ctx: Context, *, n_samples: int = 10, internal_batch_size: int | None = None) -> TokenScores:
    """Drop of the score when a feature's tokens are exchanged for others of the text, averaged over random choices.

    Captum's FeaturePermutation exchanges features between the texts of a batch; within one text, its tokens are
    shuffled, and each feature in turn takes what the shuffling put in its place.

    Options:
        n_samples: how many shufflings.
        internal_batch_size: masks in one forward; chosen to fit if left out.
    """
    import torch
    from captum.attr import FeatureAblation

    from ecco_captum.masking import Masked

    check_range("n_samples", n_samples, 1, MOST_SAMPLES)
    found: Any = 0.0
    for _ in ctx.progress(range(n_samples)):
        orders = [torch.from_numpy(ctx.rng.permutation(e.shape[1])) for e in ctx.scores.inputs()]
        shuffled = tuple(e[:, order] for e, order in zip(ctx.scores.inputs(), orders))
        masked = Masked(ctx, shuffled, internal_batch_size)
        found = found + _explained(ctx, FeatureAblation(masked), masked) / n_samples
    return _result(ctx, masked, found, f"tokens of the same text, {n_samples} times at random")


def shapley_value_sampling(
    ctx: Context, *, n_samples: int = 25, baseline: str = "auto", internal_batch_size: int | None = None
) -> TokenScores:
    """Average rise of the score when a feature joins others, over random orders of joining.

    The values of a target add up to its score here minus its score with every feature taken away.

    Options:
        n_samples: how many orders.
        baseline: what stands for absence: auto, mean, zero, sample, a token's text, or a text of as many tokens.
        internal_batch_size: masks in one forward; chosen to fit if left out.
    """
    from captum.attr import ShapleyValueSampling

    check_range("n_samples", n_samples, 1, MOST_SAMPLES)
    masked, described = _masked(ctx, baseline, internal_batch_size)
    with _seeded(ctx):
        values = _explained(ctx, ShapleyValueSampling(masked), masked, n_samples=n_samples)
    return _result(ctx, masked, values, described, complete=True)


def shapley_values(ctx: Context, *, baseline: str = "auto", internal_batch_size: int | None = None) -> TokenScores:
    """Average rise of the score when a feature joins others, over all orders of joining: exact, of up to 12 features.

    Options:
        baseline: what stands for absence: auto, mean, zero, sample, a token's text, or a text of as many tokens.
        internal_batch_size: masks in one forward; chosen to fit if left out.
    """
    import numpy as np
    import torch

    n = len(ctx.features)
    if n > EXACT:
        raise OptionError(
            f"Exact Shapley values of {n} features need 2^{n} forward passes; up to {EXACT} are offered. Take larger "
            "features ('words', 'sentences', spans), or shapley_value_sampling."
        )
    masked, described = _masked(ctx, baseline, internal_batch_size)
    masks = torch.tensor(list(itertools.product((0.0, 1.0), repeat=n)))
    scores = _scores(ctx, masked, masks)
    present = masks.numpy().astype(bool)
    sizes = present.sum(1)
    weights = np.array([math.factorial(k) * math.factorial(n - k - 1) / math.factorial(n) for k in range(n)])
    values = np.empty((scores.shape[1], n))
    for f in range(n):
        without = np.flatnonzero(~present[:, f])
        joined = without + (1 << (n - 1 - f))
        values[:, f] = weights[sizes[without]] @ (scores[joined] - scores[without])
    return _result(ctx, masked, values, described, complete=True)


def kernel_shap(
    ctx: Context, *, n_samples: int | None = None, baseline: str = "auto", internal_batch_size: int | None = None
) -> TokenScores:
    """Shapley values as the weighted least-squares fit of a linear model to scores of random masks.

    Options:
        n_samples: how many masks; 200 and ten times the features if left out.
        baseline: what stands for absence: auto, mean, zero, sample, a token's text, or a text of as many tokens.
        internal_batch_size: masks in one forward; chosen to fit if left out.
    """
    import numpy as np
    import torch

    masked, described = _masked(ctx, baseline, internal_batch_size)
    n, ones = len(ctx.features), torch.ones(1, len(ctx.features))
    count = _samples(ctx, n_samples)
    if n == 1:
        values = (masked.here - masked(torch.zeros(1, 1))[0]).numpy()[:, None]
        return _result(ctx, masked, values, described, complete=True)
    masks = kernel_masks(count, n, ctx.rng)
    both = torch.cat([torch.zeros(1, n), ones])
    empty, full = masked(both).numpy()
    scores = _scores(ctx, masked, torch.from_numpy(masks).float())
    seen = masked.seen()
    values = np.zeros(seen.shape)
    for own in np.unique(seen, axis=0):  # what a target cannot see has no value, and takes none from the others
        rows = (seen == own).all(1)
        values[np.ix_(rows, own)] = constrained_fit(masks[:, own], (scores - empty)[:, rows], (full - empty)[rows])
    return _result(ctx, masked, values, described, complete=True)


def kernel_masks(count: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Masks ``(mask, feature)`` of 0 and 1 drawn by the Shapley kernel, each followed by its complement.

    A size k from 1 to n − 1 has a probability proportional to 1 / (k (n − k)); a mask of it is any, alike.
    """
    import numpy as np

    sizes = np.arange(1, n)
    weights = 1 / (sizes * (n - sizes))
    masks = np.zeros((count, n))
    for row, size in zip(masks, rng.choice(sizes, size=(count + 1) // 2, p=weights / weights.sum())):
        row[rng.permutation(n)[:size]] = 1
    masks[(count + 1) // 2 :] = 1 - masks[: count // 2]
    return masks


def constrained_fit(masks: np.ndarray, scores: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Least-squares weights of features, which add up to `total`: the infinite weight of the empty and full mask.

    Args:
        masks: ``(mask, feature)`` of 0 and 1, drawn by the Shapley kernel. `scores`: ``(mask, target)`` above the
            empty mask's. `total`: ``(target,)``.

    Returns:
        ``(target, feature)``. Lundberg & Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017,
        eq. 8; the constraint is eliminated with the last feature.
    """
    import numpy as np

    last = masks[:, -1:]
    free, *_ = np.linalg.lstsq(masks[:, :-1] - last, scores - last * total, rcond=None)
    return np.concatenate([free, total[None] - free.sum(0, keepdims=True)]).T


def lime(
    ctx: Context,
    *,
    n_samples: int | None = None,
    alpha: float = 0.001,
    width: float = 0.25,
    baseline: str = "auto",
    internal_batch_size: int | None = None,
) -> TokenScores:
    """Weights of a sparse linear model fitted to scores of random masks, near ones counting more.

    Options:
        n_samples: how many masks; 200 and ten times the features if left out.
        alpha: strength of the lasso, in shares of the scores' standard deviation; 0 is a plain fit.
        width: of the exponential kernel, over the share of features taken away.
        baseline: what stands for absence: auto, mean, zero, sample, a token's text, or a text of as many tokens.
        internal_batch_size: masks in one forward; chosen to fit if left out.
    """
    import numpy as np
    import torch

    check_range("alpha", alpha, 0, 1)
    check_range("width", width, 0.05, 100)  # below, the farthest masks would count nothing at all
    masked, described = _masked(ctx, baseline, internal_batch_size)
    count, n = _samples(ctx, n_samples), len(ctx.features)
    masks = ctx.rng.integers(0, 2, size=(count, n)).astype(np.float64)
    drawn = torch.from_numpy(masks).float()
    scores = _scores(ctx, masked, drawn)
    near = np.exp(-((1 - masks.mean(1)) ** 2) / width**2)
    return _result(ctx, masked, sparse_fit(masks, scores, near, alpha), described)


def sparse_fit(masks: np.ndarray, scores: np.ndarray, weights: np.ndarray, alpha: float) -> np.ndarray:
    """Lasso weights ``(target, feature)`` of scores ``(mask, target)`` on masks ``(mask, feature)``.

    Ribeiro, Singh, Guestrin: "Why Should I Trust You?", KDD 2016, eq. 1 with an L1 penalty.
    """
    import numpy as np
    from sklearn.linear_model import Lasso, LinearRegression

    values = np.zeros((scores.shape[1], masks.shape[1]))
    for t, column in enumerate(scores.T):
        spread = column.std()
        if spread > 0:
            model = Lasso(alpha=alpha, max_iter=10_000, random_state=0) if alpha else LinearRegression()
            values[t] = model.fit(masks, column / spread, sample_weight=weights).coef_ * spread
    return values


def _masked(ctx: Context, baseline: str, batch_size: int | None) -> tuple[Masked, str]:
    from ecco_captum.baselines import baseline as baseline_of
    from ecco_captum.masking import Masked

    start, described = baseline_of(baseline, ctx)
    return Masked(ctx, start, batch_size), described


def _scores(ctx: Context, masked: Masked, masks: torch.Tensor) -> np.ndarray:
    """Scores ``(mask, target)`` of many masks, with progress."""
    import torch

    starts = range(0, len(masks), 64)
    return torch.cat([masked(masks[start : start + 64]) for start in ctx.progress(starts)]).numpy()


def _samples(ctx: Context, given: int | None) -> int:
    count = _LEAST_SAMPLES + 10 * len(ctx.features) if given is None else given
    if count < len(ctx.features):
        raise OptionError(
            f"n_samples is at least the number of features, {len(ctx.features)}, or the fit is arbitrary; found "
            f"{count}."
        )
    check_range("n_samples", count, 1, MOST_SAMPLES)
    return count


def _seeded(ctx: Context) -> Any:
    """Captum draws from torch's global state: seed it for the block, and put it back."""
    import contextlib

    import torch

    @contextlib.contextmanager
    def scope() -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(ctx.rng.integers(2**63)))  # torch takes no seed beyond 64 bits, ours has no end
            yield

    return scope()


def _explained(ctx: Context, explainer: Any, masked: Masked, **options: Any) -> np.ndarray:
    """What one of Captum's classes says about masks: ``(target, feature)``."""
    import torch

    ones = torch.ones(1, len(masked.features))
    found: torch.Tensor = explainer.attribute(ones, baselines=0, perturbations_per_eval=32, **options)
    return found.double().reshape(len(ctx.scores.targets), -1).numpy()


def _result(ctx: Context, masked: Masked, values: np.ndarray, described: str, *, complete: bool = False) -> TokenScores:
    import numpy as np
    import torch

    change = None
    if complete:
        change = (masked.here - masked(torch.zeros(1, len(masked.features)))[0]).numpy()
    return ctx.scores.result(
        np.where(masked.seen(), values, 0.0),
        target_values=masked.here.numpy(),
        change=change,
        baseline=described,
        features=masked.features,
        aggregation="",
    )
