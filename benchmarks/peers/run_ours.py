"""The same work through ``run.analyze``, and the limit that it is compared with. python run_ours.py MODEL"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from serve import Work, serve

import ecco_core as ecco
from ecco_core.products import fast_products

METHODS = ("input_x_gradient", "saliency", "integrated_gradients", "occlusion", "deep_lift")
CPU = torch.device("cpu")
ROWS = (400, 800, 1600)  # of a matrix product: the fastest counts
SHARE_S = 0.3  # how long a rate is measured


def works(folder: str) -> dict[str, Work]:
    """Name -> work."""
    lm = ecco.from_pretrained(folder)

    def run_of(prompt: str, text: str) -> Any:
        assert text.startswith(prompt)
        return lm.generate(prompt, output=text[len(prompt) :])

    def attribute(method: str, prompt: str, text: str, **options: Any) -> tuple[list[int], dict[str, Any]]:
        run = run_of(prompt, text)
        result = run.analyze(method, score="prob", **options)
        found = {"values": result.values.values, "notes": list(result.notes)}
        if result.completeness is not None:
            found["missed"] = result.completeness.values / result.change.values
        return run.tokens.ids.tolist(), found

    def limit(prompt: str, text: str, n_steps: int = 1) -> tuple[list[int], dict[str, Any]]:
        run = run_of(prompt, text)
        by = {
            "products as torch's own": contextlib.nullcontext,
            "as fast as ours": functools.partial(fast_products, CPU),
        }
        shape = lm.model.config, len(run), run.n_input_tokens, n_steps
        return run.tokens.ids.tolist(), {"limit": {name: fastest(*shape, scope) for name, scope in by.items()}}

    return {"limit": limit} | {name: functools.partial(attribute, name) for name in METHODS}


def fastest(config: Any, length: int, start: int, steps: int, scope: Callable[[], Any]) -> dict[str, float]:
    """How long the matrix products of one forward and one backward per target take, each over what its target sees.

    Counted are the products of the blocks (per row of a forward one, per row of a backward one), of attention (two in
    a forward, four in a backward; only what lies before each token), and of the head (one each, at the targets' rows).
    The rate of each is measured here and now. No weight's gradient is needed.

    Args:
        config: GPT-2's. `length`: tokens. `start`: the first target. `steps`: inputs, each of which has all this.
        scope: makes the context that products are computed in.
    """
    d, layers, heads, inner = config.n_embd, config.n_layer, config.n_head, config.n_inner or 4 * config.n_embd
    prefixes = np.arange(start, length, dtype=float)
    forward, backward, targets = steps * (length - 1.0), steps * prefixes.sum(), steps * float(len(prefixes))
    seen = steps * (length - 1) * length / 2, steps * (prefixes * (prefixes + 1) / 2).sum()  # pairs of tokens
    operations, seconds = 0.0, 0.0

    def add(flop: float, per_second: float) -> None:
        nonlocal operations, seconds
        operations, seconds = operations + flop, seconds + flop / per_second

    def rate(shape: tuple[int, ...], right: torch.Tensor) -> float:
        """Operations per second of ``(shape) @ right``, the median of some calls."""
        left = torch.randn(*shape)
        with scope():
            return 2 * left.numel() * right.shape[-1] / median_seconds(lambda: torch.matmul(left, right))

    for rows_in, rows_out in ((d, 3 * d), (d, d), (d, inner), (inner, d)):
        weight = torch.randn(rows_in, rows_out)
        add(2 * layers * rows_in * rows_out * forward, max(rate((n, rows_in), weight) for n in ROWS))
        add(2 * layers * rows_in * rows_out * backward, max(rate((n, rows_out), weight.T) for n in ROWS))
    keys = torch.randn(10 * heads, d // heads, length)
    pairs = rate((10 * heads, length, d // heads), keys)
    add(2 * layers * d * (2 * seen[0] + 4 * seen[1]), pairs)
    head = torch.randn(config.vocab_size, d)
    n = min(int(targets), 100)
    add(2 * d * config.vocab_size * targets, rate((n, d), head.T))
    add(2 * d * config.vocab_size * targets, rate((n, config.vocab_size), head))
    return {"gflop": operations / 1e9, "seconds": seconds, "gflop_per_s": operations / seconds / 1e9}


def median_seconds(work: Callable[[], Any]) -> float:
    """Median time of as many calls as fit into the time there is: the processor's on one thread, else by the clock."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    work()
    times: list[float] = []
    until = time.perf_counter() + SHARE_S
    while time.perf_counter() < until or len(times) < 3:
        start = clock()
        work()
        times.append(clock() - start)
    return float(np.median(times))


if __name__ == "__main__":
    serve(works(sys.argv[1]))
