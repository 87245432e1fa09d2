"""Attribution through ``run.analyze`` against a naive loop, generation against the bare model: ratios in one process.

    python benchmarks/attribution.py [--json FILE]
    python benchmarks/attribution.py --peers [--growth] [--long] [--json FILE]

With ``--peers`` the same work is done by Inseq and Ecco 0.1.2, too, which are installed into environments of their own
from the package index, once (`peers/compare.py`); the table is written into docs/benchmarks.md.

Else the model has distilgpt2's shape with random weights; 30 prompt tokens and 50 generated ones are explained in
float32. The naive loop is what people write: per target one forward over its prefix and one backward. Agreement is
measured in float32 as it was timed, and again in float64.
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

import numpy as np
import torch
from peers import compare
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import ecco_core as ecco

PROMPT, TARGETS = 30, 50


def language_model() -> Any:
    """distilgpt2's shape with random weights, and a byte-level tokenizer without merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="!")
    torch.manual_seed(0)
    config = GPT2Config(n_layer=6, bos_token_id=0, eos_token_id=None, pad_token_id=0)
    return ecco.from_pretrained((GPT2LMHeadModel(config).eval(), tokenizer))


def seconds(work: Callable[[], Any], repeats: int) -> list[float]:
    """Wall times of `repeats` calls after one that warms up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def naive(lm: Any, ids: torch.Tensor) -> list[torch.Tensor]:
    """Input × gradient of each target's log-probability, one prefix after the other."""
    embed = lm.model.get_input_embeddings()
    rows = []
    for position in range(PROMPT, PROMPT + TARGETS):
        x = embed(ids[None, :position]).detach().requires_grad_()
        score = lm.model(inputs_embeds=x).logits[0, -1].log_softmax(-1)[ids[position]]
        rows.append((torch.autograd.grad(score, x)[0] * x.detach())[0].sum(-1))
    return rows


def difference(result: Any, rows: list[torch.Tensor]) -> float:
    """Largest difference between the two, as a share of the largest score."""
    scale = max(float(row.abs().max()) for row in rows)
    pairs = zip(result.values.values, rows)
    return max(float(np.abs(got[: len(row)] - row.numpy()).max()) for got, row in pairs) / scale


def main() -> None:
    """Measure, print a table, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--repeats", type=int, default=3)
    compare.arguments(parser)
    options = parser.parse_args()
    if options.peers:
        compare.main(options)
        return
    lm = language_model()
    text = "Return the number of items in the container."[:PROMPT]
    run = lm.generate(text, max_new_tokens=TARGETS, do_sample=True, seed=0)
    assert (run.n_input_tokens, len(run)) == (PROMPT, PROMPT + TARGETS)

    ours = seconds(lambda: run.analyze("input_x_gradient"), options.repeats)
    loop = seconds(lambda: naive(lm, run.ids), options.repeats)
    figures = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "input_x_gradient_50_targets_s": statistics.median(ours),
        "naive_loop_s": statistics.median(loop),
        "speedup": statistics.median(loop) / statistics.median(ours),
        "difference_float32": difference(run.analyze("input_x_gradient"), naive(lm, run.ids)),
    }
    figures |= generation(lm, text, options.repeats * 3)
    lm.model.double()
    figures["difference_float64"] = difference(run.analyze("input_x_gradient"), naive(lm, run.ids))
    for name, value in figures.items():
        print(f"{name:<34} {value:.4g}" if isinstance(value, float) else f"{name:<34} {value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def generation(lm: Any, text: str, repeats: int) -> dict[str, float]:
    """`lm.generate` against the model's own generate, taken in turns; medians."""
    ids = lm.tokenizer(text, return_tensors="pt").input_ids
    mask = torch.ones_like(ids)
    bare, ours = [], []
    for _ in range(repeats):
        bare += seconds(lambda: lm.model.generate(ids, attention_mask=mask, max_new_tokens=50, do_sample=False), 1)
        ours += seconds(lambda: lm.generate(text, max_new_tokens=50, do_sample=False), 1)
    return {
        "generate_50_tokens_bare_s": statistics.median(bare),
        "generate_50_tokens_ours_s": statistics.median(ours),
        "generation_ratio": statistics.median(ours) / statistics.median(bare),
    }


if __name__ == "__main__":
    main()
