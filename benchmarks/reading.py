"""Capturing neurons and generating, against the bare model: medians of ratios, taken in turns in one process.

    python benchmarks/reading.py [--json FILE] [--repeats 25] [--threads 1]

The model has distilgpt2's shape with random weights, float32, batch 1. A capture reads the neurons (mlp_post) of all
layers of a run, and needs no logits; a bare forward makes them. Generation is greedy, with no intervention, and both
sides are told the same. The order of the two sides alternates; a ratio compares two neighbours in time; beside the
median of the wall times' ratios stands their middle half, and the median of the processor times' ratios, which other
programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from attribution import language_model

LENGTHS = (64, 256, 512)
NEW_TOKENS = 50


def seconds(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall time and processor time of one call."""
    start, busy = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - busy


def compared(ours: Callable[[], Any], bare: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """Medians of both, of the ratio of neighbours and its middle half; of processor time too. One pair warms up."""
    pairs = []
    for n in range(-1, repeats):
        taken = {side: seconds(side) for side in ((ours, bare) if n % 2 else (bare, ours))}
        pairs.append((taken[ours], taken[bare]))
    walls, busy = ([(a[k], b[k]) for a, b in pairs[1:]] for k in (0, 1))
    low, median, high = statistics.quantiles([a / b for a, b in walls], n=4)
    mine, theirs = (statistics.median(side) for side in zip(*walls))
    return {
        "ours_s": mine,
        "bare_s": theirs,
        "ratio": median,
        "middle_half": [low, high],
        "processor_ratio": statistics.median(a / b for a, b in busy),
    }


def capturing(lm: Any, length: int, repeats: int) -> dict[str, Any]:
    """All neurons of a run of `length` tokens against a bare forward with logits."""
    run = lm("".join(chr(97 + n % 26) for n in range(length)))
    assert len(run) == length
    ids, layers = run.ids[None], lm.model.config.n_layer

    def capture() -> None:
        run.release()
        found = run.capture("mlp_post")
        assert found.layers("mlp_post") == tuple(range(layers))

    def forward() -> None:
        with torch.no_grad():
            assert lm.model(ids).logits.shape == (1, length, lm.model.config.vocab_size)

    return compared(capture, forward, repeats)


def generating(lm: Any, repeats: int) -> dict[str, Any]:
    """`lm.generate` from text to run against the model's own generate from ids to ids."""
    text = "Return the number of items in"
    ids = lm.tokenizer(text, return_tensors="pt").input_ids
    options: dict[str, Any] = {"max_new_tokens": NEW_TOKENS, "do_sample": False}
    mask = torch.ones_like(ids)
    bare = lm.model.generate(ids, attention_mask=mask, **options)[0].tolist()
    assert lm.generate(text, **options).tokens.ids.tolist() == bare
    assert len(bare) == ids.shape[1] + NEW_TOKENS
    return compared(
        lambda: lm.generate(text, **options), lambda: lm.model.generate(ids, attention_mask=mask, **options), repeats
    )


def main() -> None:
    """Measure, print a table, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lm = language_model()
    figures = {f"capture, {n} tokens": capturing(lm, n, options.repeats) for n in LENGTHS}
    figures[f"generate, {NEW_TOKENS} tokens"] = generating(lm, options.repeats)
    print(f"torch {torch.__version__}, {options.threads} thread(s), {options.repeats} repeats")
    for name, f in figures.items():
        low, high = f["middle_half"]
        said = f"ours {f['ours_s'] * 1e3:8.1f} ms   bare {f['bare_s'] * 1e3:8.1f} ms"
        print(f"{name:<20} {said}   {f['ratio']:.3f} ({low:.3f}-{high:.3f}), processor {f['processor_ratio']:.3f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
