"""Measures whether attribution finds what decided: python training/decided.py src/ecco_tiny/models/masked.

Integrated gradients of the plugin `ecco-captum` explain the answer of every known case that the model answers rightly.
What is counted is how often one of the deciding tokens gets the highest score of all tokens of the text, with the
default baseline (`found`) and, for an encoder-decoder, with `<pad>` as the baseline (`found_with_pad`).  The figures
are added to `figures.json`.
"""

import argparse
import json
from pathlib import Path

import torch
from release import write_json

import ecco_core as ecco
from ecco_core import LanguageModel, Run

ANALYSIS = "integrated_gradients"


def run_of(lm: LanguageModel, case: dict[str, object]) -> tuple[Run, str]:
    """Return the run of a case, and what the model answers."""
    run = lm(case["text"])
    if lm.task == "sequence_classification":
        return run, lm.classes[int(run.logits().argmax())]
    if lm.task == "masked":
        return run, lm.tokenizer.convert_ids_to_tokens(int(run.logits()[case["mask_token"]].argmax()))
    return run, lm.tokenizer.decode(run.next_token())


def deciding_first(run: Run, case: dict[str, object], baseline: str = "auto") -> bool:
    """Tell whether a deciding token has the highest score of the text's."""
    result = run.analyze(ANALYSIS, baseline=baseline)
    text = [source.stack != "decoder" for source in result.sources]
    return int(result.values.values[0][text].argmax()) in case["deciding_tokens"]


def share_found(folder: Path, count: int | None = None) -> dict[str, dict[str, int]]:
    """Return, by task, how many known cases there are, were answered rightly, and had a deciding token first."""
    lm = ecco.from_pretrained(str(folder))
    found: dict[str, dict[str, int]] = {}
    for case in json.loads((folder / "known_answers.json").read_text(encoding="utf-8"))[:count]:
        figures = found.setdefault(case.get("task", folder.name), {"cases": 0, "right": 0, "found": 0})
        run, answer = run_of(lm, case)
        figures["cases"] += 1
        if answer == case["answer"]:
            figures["right"] += 1
            figures["found"] += deciding_first(run, case)
            if lm.task == "seq2seq":
                figures["found_with_pad"] = figures.get("found_with_pad", 0) + deciding_first(run, case, "<pad>")
    return found


def main() -> None:
    """Measure a model folder from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = share_found(arguments.folder, arguments.cases)
    print(found)
    if arguments.cases is None:
        path = arguments.folder / "figures.json"
        write_json(path, {**json.loads(path.read_text(encoding="utf-8")), ANALYSIS: found})


if __name__ == "__main__":
    main()
