"""Measures `prose` and writes figures.json: python training/evaluate.py src/ecco_tiny/models/prose.

Bits per character on the held-out files, copying on held-out prompts, and whether integrated gradients
rank an earlier occurrence of the copied token first.  Also writes the prompts to copy_prompts.json.
"""

import argparse
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from attribution import BASELINES, STEPS, TARGETS, integrated_gradients
from bits import bits_per_character
from copying import HELD_OUT_SEED, CopyPrompt, held_out_prompts
from corpus import read_corpus
from release import write_json
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

Figures = dict[str, object]


@dataclass(frozen=True)
class CopyCase:
    """A prompt as tokens, with the token that repeats an earlier one and where that stands."""

    prompt: CopyPrompt
    tokens: list[int]
    answer: int
    earlier: tuple[int, ...]


def copy_case(tokenizer: PreTrainedTokenizerBase, prompt: CopyPrompt) -> CopyCase | None:
    """Return the prompt as a case, or None if its next token stands nowhere in it (split differently)."""
    tokens = tokenizer(prompt.text)["input_ids"]
    whole = tokenizer(prompt.text + prompt.answer)["input_ids"]
    if whole[: len(tokens)] != tokens:
        return None
    answer = whole[len(tokens)]
    earlier = tuple(index for index, token in enumerate(tokens) if token == answer)
    return CopyCase(prompt, tokens, answer, earlier) if earlier else None


def is_right(model: PreTrainedModel, case: CopyCase) -> bool:
    """Tell whether the likeliest next token is the answer."""
    with torch.inference_mode():
        return int(model(torch.tensor([case.tokens])).logits[0, -1].argmax()) == case.answer


def measure_copying(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[CopyPrompt]
) -> tuple[Figures, list[CopyCase], list[bool]]:
    """Return how often the likeliest token is right, with the cases and whether each one was."""
    cases = [case for case in (copy_case(tokenizer, prompt) for prompt in prompts) if case]
    right = [is_right(model, case) for case in cases]
    wrong = Counter(case.prompt.template for case, good in zip(cases, right, strict=True) if not good)
    lengths = sorted(len(case.tokens) for case in cases)
    figures: Figures = {
        "prompts": len(prompts),
        "next_token_repeats_an_earlier_one": len(cases),
        "argmax_right": sum(right),
        "share_right": sum(right) / len(cases),
        "median_prompt_tokens": lengths[len(lengths) // 2],
        "longest_prompt_tokens": lengths[-1],
        "wrong_by_template": dict(wrong.most_common()),
    }
    return figures, cases, right


def measure_attribution(
    model: PreTrainedModel, cases: list[CopyCase], right: list[bool], baseline: str
) -> list[Figures]:
    """Return, for each target, how often integrated gradients rank an earlier occurrence first."""
    hits: dict[str, list[bool]] = {target: [] for target in TARGETS}
    gaps: dict[str, list[float]] = {target: [] for target in TARGETS}
    for case in cases:
        for target, result in integrated_gradients(model, case.tokens, case.answer, baseline).items():
            hits[target].append(int(result.scores.argmax()) in case.earlier)
            gaps[target].append(abs(result.gap) / max(abs(result.difference), 1e-6))
    return [
        attribution_row(cases, right, hits[target], gaps[target]) | {"baseline": baseline, "target": target}
        for target in TARGETS
    ]


def attribution_row(cases: list[CopyCase], right: list[bool], hits: list[bool], gaps: list[float]) -> Figures:
    """Return the counts for one baseline and target, with both denominators."""
    of_right = sum(hit and good for hit, good in zip(hits, right, strict=True))
    missed = Counter(
        case.prompt.template for case, good, hit in zip(cases, right, hits, strict=True) if good and not hit
    )
    return {
        "earlier_occurrence_first_of_right": of_right,
        "right": sum(right),
        "share_of_right": of_right / max(1, sum(right)),
        "earlier_occurrence_first_of_all": sum(hits),
        "all": len(cases),
        "share_of_all": sum(hits) / len(cases),
        "median_relative_completeness_gap": sorted(gaps)[len(gaps) // 2],
        "missed_by_template": dict(missed.most_common()),
    }


def measure_bits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Figures:
    """Return the bits per character on the held-out files, in both ways of cutting windows."""
    training, held_out = read_corpus()
    texts = list(held_out.values())
    overlapping = bits_per_character(model, tokenizer, texts, 256)
    touching = bits_per_character(model, tokenizer, texts, 512)
    return {
        "training_files": len(training),
        "training_characters": sum(map(len, training.values())),
        "held_out_files": sorted(held_out),
        "stride_256": asdict(overlapping),
        "non_overlapping": asdict(touching),
    }


def evaluate(folder: Path, prompts: int, unseen: int, attribution: bool, seed: int) -> Figures:
    """Return all figures of the model in a folder."""
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    figures: Figures = {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "loaded_dtype": str(model.dtype),
        "bits": measure_bits(model, tokenizer),
    }
    print(json.dumps(figures["bits"], indent=1), flush=True)
    for name, listed in (
        ("copying", held_out_prompts(prompts, seed)),
        ("copying_unseen_templates", held_out_prompts(unseen, unseen_templates=True)),
    ):
        counts, cases, right = measure_copying(model, tokenizer, listed)
        figures[name] = counts
        print(name, json.dumps(counts), flush=True)
        if attribution:
            baselines = BASELINES if name == "copying" else BASELINES[:1]
            figures[f"attribution_{name}"] = [
                row for baseline in baselines for row in measure_attribution(model, cases, right, baseline)
            ]
            print_table(figures[f"attribution_{name}"])
    figures["integration_points"] = STEPS
    return figures


def print_table(rows: object) -> None:
    """Print one line for each combination of baseline and target."""
    assert isinstance(rows, list)
    print(f"{'baseline':10} {'target':8} {'first, of right':>22} {'first, of all':>22} {'gap':>9}")
    for row in rows:
        right = f"{row['earlier_occurrence_first_of_right']}/{row['right']} = {row['share_of_right']:.1%}"
        whole = f"{row['earlier_occurrence_first_of_all']}/{row['all']} = {row['share_of_all']:.1%}"
        gap = row["median_relative_completeness_gap"]
        print(f"{row['baseline']:10} {row['target']:8} {right:>22} {whole:>22} {gap:>9.1e}", flush=True)


def main() -> None:
    """Run the evaluation from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--unseen", type=int, default=70)
    parser.add_argument("--no-attribution", action="store_true")
    parser.add_argument("--figures", type=Path, help="where to write; default: figures.json in the folder")
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED, help="other prompts; give --figures too")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    prompts = [asdict(prompt) for prompt in held_out_prompts(arguments.prompts)]
    figures = evaluate(
        arguments.folder, arguments.prompts, arguments.unseen, not arguments.no_attribution, arguments.seed
    )
    write_json(arguments.figures or arguments.folder / "figures.json", figures)
    if arguments.figures is None:
        write_json(arguments.folder / "copy_prompts.json", prompts)


if __name__ == "__main__":
    main()
