"""Prints what the model writes: python training/show.py src/ecco_tiny/models/prose.

First samples of prose, then candidates for a demonstration: a prompt, its greedy continuation, and for
every continued token that repeats a prompt token the three sources that integrated gradients rank first.
"""

import argparse
from pathlib import Path

import torch
from attribution import integrated_gradients
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

OPENINGS = (
    "The :mod:`json` module",
    ".. function:: open_file(path, mode='r')\n\n   ",
    "Return a new list containing",
    "Python programmers often",
    ".. class:: Connection(address)\n\n   A",
)
DEMONSTRATIONS = (
    "The countries to visit:\n\n1. Austria\n2. Norway\n3. Portugal\n4. Egypt\n\nThe same list once more:\n\n1.",
    "The captain is called Nora. The road to Lisbon was closed. Everyone waited for the captain called",
    "The captain is called Nora and the baker is called Victor. It was raining all day."
    " In the evening the captain called",
    "The captain is called Nora. The baker is called Victor. It was raining all day."
    " Everyone waited for the baker called Victor. Nobody had seen the captain called",
    "The option *timeout* defaults to *seconds*. The option *buffer* defaults to *bytes*."
    " The default of *timeout* is *",
    "The shopping list says bread, butter, honey, milk and cherries. In the shop they asked for bread, butter,",
    "The function ``connect`` returns ``socket``. The function ``reader`` returns ``bytes``."
    " As described above, ``connect`` returns ``",
    "Nora gave the lantern to Peter. Oscar gave the violin to Maria. It was Nora who gave the",
    "Nora lives in Lisbon and Peter lives in Oslo. The train took Nora back to",
    "The winners are:\n\n1. Nora\n2. Oscar\n3. Maria\n\nThe winners, once again:\n\n1.",
)


def continued(model: PreTrainedModel, tokens: list[int], count: int, temperature: float = 0.0) -> list[int]:
    """Return `count` further tokens: the likeliest ones, or sampled at a temperature."""
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 40} if temperature else {}
    made = model.generate(torch.tensor([tokens]), max_new_tokens=count, **sampling)
    return made[0, len(tokens) :].tolist()


def show_samples(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int) -> None:
    """Print one greedy and one sampled continuation of every opening."""
    for opening in OPENINGS:
        tokens = tokenizer(opening)["input_ids"]
        for temperature in (0.0, 0.7):
            text = tokenizer.decode(continued(model, tokens, count, temperature))
            print(f"--- temperature {temperature}\n{opening}|{text}")


def show_demonstration(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str) -> None:
    """Print a prompt's continuation and where its repeated words came from."""
    tokens = tokenizer(prompt)["input_ids"]
    made = continued(model, tokens, 16)
    print(f"=== {prompt!r} ({len(tokens)} tokens)\n  => {tokenizer.decode(made)!r}")
    for index, token in enumerate(made):
        word = tokenizer.decode([token])
        if token not in tokens or len(word.strip()) < 3:
            continue
        context = tokens + made[:index]
        parts = []
        for result in integrated_gradients(model, context, token, "endoftext").values():
            best = result.scores.topk(3)
            sources = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            parts.append(", ".join(f"{tokenizer.decode([context[i]])!r}@{i} {v:+.2f}" for i, v in sources))
        earlier = [i for i, known in enumerate(context) if known == token]
        print(f"  {word!r} at {len(context)}, earlier at {earlier}: logprob {parts[0]} | logit {parts[1]}")


def main() -> None:
    """Print samples and demonstrations from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=80)
    parser.add_argument("--prompt", action="append", help="a demonstration prompt of your own")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    model = AutoModelForCausalLM.from_pretrained(arguments.folder, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder, local_files_only=True)
    if not arguments.prompt:
        show_samples(model, tokenizer, arguments.tokens)
    for prompt in arguments.prompt or DEMONSTRATIONS:
        show_demonstration(model, tokenizer, prompt)


if __name__ == "__main__":
    main()
