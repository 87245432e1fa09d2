"""Time a comparison of 5 methods on a 60-token run with 20 targets, on distilgpt2's shape with random weights.

    python plugins/faithfulness/perturbation/speed.py [threads]

Prints the seconds of the methods by themselves and of the whole comparison, the number of masked inputs, and how busy
the machine was before. Random weights are as fast as trained ones, and their scores mean nothing.
"""

import os
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers

import ecco_core as ecco

METHODS = ("saliency", "input_x_gradient", "deep_lift", "feature_ablation", "attention_rollout")


def model(tokenizer):
    """The shape of distilgpt2."""
    config = transformers.GPT2Config(n_layer=6)  # 768 units, 12 heads, vocabulary 50257
    torch.manual_seed(0)
    return ecco.from_pretrained((transformers.GPT2LMHeadModel(config).eval(), tokenizer))


def main():
    """Time it."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    print(f"load of the machine before: {os.getloadavg()[0]:.2f}; threads: {torch.get_num_threads()}")
    tokenizer = ecco.from_pretrained("tiny:prose").tokenizer
    text = "The captain is called Nora. The cook is called Felix. Everyone thanked the captain called Nora. " * 5
    ids = tokenizer(text)["input_ids"][:60]
    run = model(tokenizer)({"input_ids": [ids]})
    targets = list(range(40, 60))
    run.analyze("saliency", targets=targets)  # what the first call loads
    alone = 0.0
    for name in METHODS:
        start = time.perf_counter()
        run.analyze(name, targets=targets)
        alone += time.perf_counter() - start
        print(f"  {name}: {time.perf_counter() - start:.1f} s")
    start, cpu = time.perf_counter(), time.process_time()
    result = run.analyze("faithfulness", methods=METHODS, targets=targets)
    whole, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(f"{len(METHODS)} methods, {len(run)} tokens, {len(targets)} targets: {whole:.1f} s ({cpu:.0f} s of processor "
          f"time), by themselves the methods {alone:.1f} s; "
          f"{result.forwards} masked inputs of {result.tokens} tokens")  # fmt: skip
    print(f"load of the machine after: {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()
