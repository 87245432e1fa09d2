"""Relevance against input times gradient, which runs on the same engine: 50 targets, one thread, in turns.

python plugins/attribution/lrp/speed.py
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import statistics
import sys
import time

import torch
import transformers

import ecco_core as ecco

ROUNDS, OUTPUT, UNITS = 5, 50, 768
TEXT = "The captain is called Nora. The cook is called Felix. Everyone thanked the captain called Nora, who said:"
SHAPES = {
    "distilgpt2's shape": (transformers.GPT2Config, {"n_embd": UNITS, "n_layer": 6, "n_head": 12}),
    "LLaMA-like, 6 layers": (
        transformers.LlamaConfig,
        {"hidden_size": UNITS, "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 12},
    ),
}


def main() -> None:
    """Print medians of processor seconds, and their ratios."""
    torch.set_num_threads(1)
    tokenizer = ecco.from_pretrained("tiny:prose").tokenizer
    for name, (config, sizes) in SHAPES.items():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config(**sizes, vocab_size=8000)).eval()
        run = ecco.from_pretrained((model, tokenizer)).generate(TEXT, max_new_tokens=OUTPUT, min_new_tokens=OUTPUT)
        works = {
            "input x gradient": lambda run=run: run.analyze("input_x_gradient", score="logit"),
            "attnlrp": lambda run=run: run.analyze("lrp"),
            "cp": lambda run=run: run.analyze("lrp", rule="cp"),
        }
        times: dict[str, list[float]] = {work: [] for work in works}
        for n in range(ROUNDS + 1):
            for work, call in works.items():
                start = time.process_time()
                call()
                times[work] += [time.process_time() - start] if n else []
        medians = {work: statistics.median(found) for work, found in times.items()}
        least = medians["input x gradient"]
        for work, seconds in medians.items():
            sys.stdout.write(f"{name:22} {work:18} {seconds:6.2f} s  {seconds / least:.2f}x\n")


if __name__ == "__main__":
    main()
