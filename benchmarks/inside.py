"""What looks inside of a model, against scikit-learn, Ecco 0.1.2 and the least that has to be computed.

    python benchmarks/inside.py [--peers] [--only NAME ...] [--json FILE]

One thread, processor time, medians of rounds in turns. With ``--peers`` Ecco 0.1.2 is installed into an environment of
its own (`peers/compare.py`) for its similarity measures. The table is written into docs/benchmarks.md if all was
measured.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attribution import language_model
from peers import compare

BEGIN, END = "<!-- written by benchmarks/inside.py: begin -->\n", "<!-- inside: end -->"
UNITS, TOKENS = 768, 10_000
ROUNDS = 3


def in_turns(works: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, float]:
    """Name -> median processor seconds, after a round that warms up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for n in range(rounds + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            times[name] += [time.process_time() - start] if n else []
    return {name: statistics.median(found) for name, found in times.items()}


def row(work: str, other: str, seconds: Mapping[str, float], said: str = "") -> dict[str, Any]:
    """One line of the table: `seconds` of ``ours`` and of ``other``."""
    return {"work": work, "ours": seconds["ours"], "name": other, "other": seconds["other"], "said": said}


def arrays(rng: np.random.Generator, tokens: int = TOKENS, units: int = UNITS, n: int = 2) -> list[np.ndarray]:
    """Noisy views of one signal of 64 dimensions, ``(token, unit)`` each."""
    signal = rng.standard_normal((tokens, 64), dtype=np.float32)
    mixed = (signal @ rng.standard_normal((64, units), dtype=np.float32) for _ in range(n))
    return [part + 2 * rng.standard_normal((tokens, units), dtype=np.float32) for part in mixed]


def similarity(peer: str) -> list[dict[str, Any]]:
    """CCA, SVCCA, PWCCA and CKA of 768 units at 10,000 tokens, each in a process of its own."""
    x, y = arrays(np.random.default_rng(0))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "arrays.npz"
        np.savez(file, x=x, y=y)
        script = Path(compare.HERE) / "run_similarity.py"
        for name, python in (("ours", sys.executable), ("ecco", peer)):
            said = subprocess.run([python, script, name, file, str(ROUNDS)], check=True, capture_output=True, text=True)
            found[name] = json.loads(said.stdout.splitlines()[-1])
    return [
        row(
            f"{name}, {UNITS} × {TOKENS:,}",
            "Ecco 0.1.2",
            {"ours": statistics.median(ours["seconds"]), "other": statistics.median(found["ecco"][name]["seconds"])},
            f"{ours['value']:.4f}; theirs {found['ecco'][name]['value']:.4f}",
        )
        for name, ours in found["ours"].items()
    ]


def grid() -> list[dict[str, Any]]:
    """A grid of 12 × 12 layers by CKA, against a call for each pair."""
    from ecco_similarity import cka, grid

    layers = arrays(np.random.default_rng(1), tokens=2_000, n=12)
    pairs: Callable[[], Any] = lambda: [[cka(x, y) for y in layers] for x in layers]  # noqa: E731
    seconds = in_turns({"ours": lambda: grid("cka", layers), "other": pairs}, 1)
    missed = np.abs(np.asarray(grid("cka", layers)) - np.asarray(pairs())).max()
    return [row("12 × 12 grid of CKA, 768 × 2,000", "a call for each pair", seconds, f"differ by {missed:.0e}")]


def factors() -> list[dict[str, Any]]:
    """NMF of the neurons of distilgpt2's shape at 200 tokens."""
    from ecco_factorization import nonnegative_factors
    from sklearn.decomposition import NMF

    lm = language_model()
    run = lm((compare.TEXT * 3)[:200])
    x = run.capture("mlp_post").stacked("mlp_post").permute(1, 0, 2).flatten(1).clamp_min(0).numpy()

    def theirs() -> float:
        model = NMF(n_components=10, init="nndsvda", max_iter=500, random_state=0)
        return float(np.linalg.norm(x - model.fit_transform(x) @ model.components_) / np.linalg.norm(x))

    def ours() -> float:
        found = nonnegative_factors(x, 10)
        return float(np.linalg.norm(x - found.activations @ found.loadings) / np.linalg.norm(x))

    seconds = in_turns({"ours": ours, "other": theirs})
    return [row(f"NMF, {x.shape[0]} × {x.shape[1]:,}, k = 10", "scikit-learn", seconds,
                f"error {ours():.5f}; theirs {theirs():.5f}")]  # fmt: skip


def lens() -> list[dict[str, Any]]:
    """The lens of a run of 200 tokens, against one forward and as many products with the head as layers."""
    lm = language_model()
    text = "".join(np.random.default_rng(0).choice(list("abcdefghij klmno"), 200))
    transformer, head = lm.model.transformer, lm.model.lm_head

    @torch.no_grad()
    def least() -> None:
        hidden = transformer(run.ids[None], use_cache=False).last_hidden_state[0]
        for _ in transformer.h:
            head(transformer.ln_f(hidden)).softmax(-1).max(-1)

    run = lm(text)

    def ours() -> None:
        run.release()
        run.analyze("logit_lens")

    return [row("logit lens, 200 tokens, 6 layers", "one forward and 6 products with the head",
                in_turns({"ours": ours, "other": least}))]  # fmt: skip


def most_flow() -> list[dict[str, Any]]:
    """Attention flow to one position of 100 tokens through 12 layers; it has no peer, the aim is 5 seconds."""
    from ecco_attention import flow

    weights = np.tril(np.random.default_rng(0).random((12, 12, 100, 100)) ** 4)
    weights /= weights.sum(-1, keepdims=True)
    seconds = in_turns({"ours": lambda: flow(weights, 99), "other": lambda: None})
    return [row("attention flow to one of 100 tokens, 12 layers", "", seconds | {"other": float("nan")})]


def shown(rows: list[dict[str, Any]]) -> str:
    """The table in Markdown."""
    lines = ["| work | ours, s | other, s | | other / ours | |", "| --- | --- | --- | --- | --- | --- |"]
    for found in rows:
        known = found["other"] == found["other"]
        other, ratio = (f"{found['other']:.3g}", f"**{found['other'] / found['ours']:.2f}×**") if known else ("", "")
        lines.append(
            f"| {found['work']} | {found['ours']:.3g} | {other} | {found['name']} | {ratio} | {found['said']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print the table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    works = {"grid": grid, "factors": factors, "lens": lens, "flow": most_flow}
    parser.add_argument("--only", nargs="+", choices=["similarity", *works], help="the docs are not written")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    compare.peers(parser, "Ecco 0.1.2")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    if options.peers and "similarity" in (options.only or ["similarity"]):
        folder = options.folder.expanduser().absolute()
        rows += similarity(compare.environment(folder / "ecco", compare.ENVIRONMENTS["ecco"]))
    for name, work in works.items():
        rows += work() if name in (options.only or works) else []
    print(shown(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if options.peers and not options.only:
        before, rest = compare.PAGE.read_text(encoding="utf-8").split(BEGIN)
        compare.PAGE.write_text(f"{before}{BEGIN}{shown(rows)}{END}{rest.split(END, 1)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
