"""The same work in Ecco-core, in a plain loop, in Inseq and in Ecco 0.1.2, each in an environment of its own.

All explain the same forced text with the same weights, token by token, by the gradient or drop of each token's
probability, float32. They take turns, so that other load on the machine meets all of them. On one thread the
processor's time counts, which other programs disturb least; on more, the time by the clock. Memory is the most that is
resident during the work, above what was before it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "benchmarks.md"
PICTURE = HERE.parent.parent / "docs" / "pictures" / "attribution-growth.png"
BEGIN, END = "<!-- written by benchmarks/attribution.py --peers: begin -->\n", "<!-- end -->"

#: What is installed for each, one step after the other; torch's version is one that the index has for processors only.
ENVIRONMENTS = {
    "inseq": ("torch==2.13.0 inseq==0.7.1 transformers==5.23.0 captum==0.9.0",),
    # scikit-learn and PyYAML are newer than Ecco asks for: those versions cannot be built any more
    "ecco": (
        "torch==2.13.0 transformers==4.36.2 tokenizers==0.15.2 numpy==1.26.4 captum==0.9.0 matplotlib==3.8.4 "
        "seaborn==0.13.2 scikit-learn pyyaml ipython",
        "--no-deps ecco==0.1.2",
    ),
}
NAMES = {
    "ours": "Ecco-core",
    "bf16": "Ecco-core, bf16",
    "naive": "naive loop",
    "inseq": "Inseq 0.7.1",
    "ecco": "Ecco 0.1.2",
}
TEXT = (
    "The keeper of the lighthouse wrote down the wind, the height of the tide and the name of each ship that passed. "
    "One evening a boat came in without a light. He took the lamp from its hook, went down the steps and called "
    "across the water, but nobody answered. In the morning the boat was gone, and the page of that day was empty. "
)
PROMPT = 30
BUDGET_S = 900  # a row is not measured again when this much is spent on it
CURVE_S = 90  # nor is a point of a curve that is expected to take longer


@attrs.frozen
class Same:
    """Which of a library's arrays is compared with ours, and the options under which ours is the same."""

    array: str
    options: Mapping[str, Any] = {}


@attrs.frozen
class Row:
    """One kind of work, with the libraries that do it and what their numbers are compared by (None: not the same).

    What is short is done once for its memory, and then for ten seconds and at least once for the mean of its time
    (`again`), by all libraries.
    """

    title: str
    work: str
    targets: int
    others: Mapping[str, Same | None]
    options: Mapping[str, Any] = {}
    limit: bool = False
    prompt: int = PROMPT
    again: bool = True


STEPS = {"n_steps": 50}
ROWS = (
    Row(
        "input × gradient, 50 targets", "input_x_gradient", 50,
        {"naive": Same("sum"), "inseq": Same("sum"), "ecco": Same("normalised", {"aggregation": "l2"})}, limit=True,
    ),
    Row(
        "saliency, 50 targets", "saliency", 50,
        {"naive": Same("l2"), "inseq": Same("l2"), "ecco": Same("normalised")}, limit=True,
    ),
    Row(
        "integrated gradients, 50 steps, 20 targets", "integrated_gradients", 20,
        {"naive": Same("sum"), "inseq": Same("sum"),
         "ecco": Same("normalised", {"baseline": "zero", "aggregation": "l2"})}, STEPS, limit=True, again=False,
    ),
    Row("occlusion, 20 targets", "occlusion", 20, {"inseq": Same("magnitude")}, again=False),
    Row("DeepLift, 20 targets", "deep_lift", 20, {"inseq": None}),
)  # fmt: skip
LONG = (
    Row("input × gradient, 200 targets, prompt of 1,000", "input_x_gradient", 200, {}, prompt=1000, again=False),
    Row("integrated gradients, 3 steps, 200 targets, prompt of 1,000", "integrated_gradients", 200, {},
        {"n_steps": 3}, prompt=1000, again=False),
)  # fmt: skip
#: Curve -> its axis, what it is about, the libraries, and per point what the text and the options are.
CURVES: dict[str, dict[str, Any]] = {
    "targets": {
        "axis": "targets", "title": "input × gradient, 30-token prompt", "work": "input_x_gradient",
        "libraries": ("ours", "naive", "inseq", "ecco"),
        "points": {n: (PROMPT, n, {}) for n in (1, 5, 20, 50, 100, 200)},
    },
    "length": {
        "axis": "prompt, tokens", "title": "input × gradient, 10 targets", "work": "input_x_gradient",
        "libraries": ("ours", "naive", "inseq", "ecco"),
        "points": {n: (n, 10, {}) for n in (50, 100, 250, 500, 1000)},
    },
    "steps": {
        "axis": "steps", "title": "integrated gradients, 5 targets", "work": "integrated_gradients",
        "libraries": ("ours", "naive", "inseq"),
        "points": {n: (PROMPT, 5, {"n_steps": n}) for n in (10, 25, 50, 100, 200)},
    },
}  # fmt: skip


def peers(parser: argparse.ArgumentParser, who: str) -> None:
    """Declare the options of whether and where peers are installed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = os.environ.get("ECCO_PEERS") or cache / "ecco-core" / "peers"
    parser.add_argument("--peers", action="store_true", help=f"compare with {who}")
    parser.add_argument("--folder", type=Path, default=Path(folder), help="of the peers' environments; kept")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    peers(parser, "Inseq, Ecco 0.1.2 and a plain loop")
    parser.add_argument("--threads", type=int, help="by default two on a quiet machine, else one")
    parser.add_argument(
        "--only", nargs="*", help="works to compare, such as occlusion, or none; the other rows stay as they were"
    )
    parser.add_argument("--long", action="store_true", help="also a prompt of 1,000 tokens with 200 targets")
    parser.add_argument("--growth", action="store_true", help="also times against targets, length and steps, a plot")


def main(options: argparse.Namespace) -> None:
    """Measure, print the table, and write it as JSON and into the docs."""
    folder = options.folder.expanduser().absolute()
    pythons = {"ours": sys.executable, "naive": sys.executable}
    pythons |= {name: environment(folder / name, steps) for name, steps in ENVIRONMENTS.items()}
    model = folder / "model"
    if not (model / "tokenizer.json").exists():
        subprocess.run([pythons["ecco"], HERE / "make_model.py", model], check=True)
    threads = options.threads or (min(2, os.cpu_count() or 1) if quiet() else 1)
    bench = Bench(pythons, model, folder, threads)
    rows = [row for row in ROWS if options.only is None or row.work in options.only]
    found = [bench.row(row, options.repeats) for row in rows]
    if options.long:
        found += [bench.row(row, 1) for row in LONG if options.only is None or row.work in options.only]
    figures: dict[str, Any] = {"threads": threads, "versions": bench.versions(), "rows": found}
    if options.growth:
        figures["growth"] = {name: bench.curve(curve) for name, curve in CURVES.items()}
    to = options.json or folder / "figures.json"
    if options.only is not None and to.exists():
        figures = joined(json.loads(to.read_text(encoding="utf-8")), figures)
    table = shown(figures)
    print(table)
    to.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if options.growth:
        subprocess.run([pythons["ecco"], HERE / "plot.py", to, PICTURE], check=True)
    if {row.title for row in ROWS} <= {row["title"] for row in figures["rows"]}:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}{table}{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def joined(earlier: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What was measured now, and of earlier figures the rows and curves that were not, if all else is the same."""
    if any(earlier[key] != now[key] for key in ("threads", "versions")):
        return now
    anew = {row["title"]: row for row in now["rows"]}
    rows = [anew.pop(row["title"], row) for row in earlier["rows"]]
    return {**earlier, **now, "rows": [*rows, *anew.values()]}


def environment(folder: Path, steps: Sequence[str]) -> str:
    """The Python of a virtual environment with these packages, made if it is not there."""
    python, done = folder / "bin" / "python", folder / "installed.json"
    if not done.exists() or json.loads(done.read_text()) != list(steps):
        print(f"Installing {folder.name} into {folder} ...", file=sys.stderr)
        clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PIP_CONSTRAINT", "VIRTUAL_ENV")}
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        for step in steps:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *step.split()], check=True, env=clean)
        done.write_text(json.dumps(steps))
    return str(python)


def quiet() -> bool:
    """Whether less than a tenth of the processor is used, looked at for three seconds."""
    seen = []
    for wait in (3, 0):
        seen.append([int(n) for n in Path("/proc/stat").read_text().split("\n")[0].split()[1:]])
        time.sleep(wait)
    spent = [b - a for a, b in zip(*seen)]
    return 1 - (spent[3] + spent[4]) / sum(spent) < 0.1


def forced(prompt: int, targets: int) -> dict[str, str]:
    """Prompt and whole text of so many tokens; each character is one."""
    text = TEXT * (1 + (prompt + targets) // len(TEXT))
    return {"prompt": text[:prompt], "text": text[: prompt + targets]}


class Worker:
    """A process of one library that does one kind of work when it is asked."""

    def __init__(self, python: str, script: Path, model: Path, folder: Path, threads: int) -> None:
        log = (folder / f"{script.stem}.log").open("a")  # several may be at work
        settings = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        settings |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
        self.process = subprocess.Popen(
            [python, script, model],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=os.environ | settings, text=True,
        )  # fmt: skip
        self.numbers = folder / f"{script.stem}.npz"
        self.log = folder / f"{script.stem}.log"

    def ask(
        self, work: str, text: Mapping[str, str], options: Mapping[str, Any], again: bool = False
    ) -> dict[str, Any]:
        """Its figures, with ``arrays``; with ``error`` where it failed. `again`: time is the mean of more times."""
        request = {"work": work, **text, "options": dict(options), "numbers": str(self.numbers), "again": again}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it was killed; nothing is answered then
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline() or '{"error": "it ended"}')
        if "error" in answer:
            print(f"{self.log.stem}, {work}: {answer['error']}; see {self.log}", file=sys.stderr)
            return answer
        with np.load(self.numbers) as arrays:
            return answer | {"arrays": dict(arrays)}

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


@attrs.frozen
class Bench:
    """What measures: the Python of each library, the model, a folder for what is passed around, and the threads."""

    pythons: Mapping[str, str]
    model: Path
    folder: Path
    threads: int

    @property
    def clock(self) -> str:
        """The time that counts."""
        return "processor_s" if self.threads == 1 else "wall_s"

    def worker(self, name: str) -> Worker:
        """Start a process of a library."""
        return Worker(self.pythons[name], HERE / f"run_{name}.py", self.model, self.folder, self.threads)

    def versions(self) -> dict[str, str]:
        """Versions of torch and transformers of each."""
        code = "import torch, transformers; print(torch.__version__, transformers.__version__)"
        settings = {**os.environ, "HF_HUB_OFFLINE": "1"}
        return {
            name: subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, env=settings)
            .stdout.split("\n")[0]
            for name, python in self.pythons.items()
        }  # fmt: skip

    def row(self, row: Row, repeats: int) -> dict[str, Any]:
        """Measure a row: all libraries in turns, after each did a little of it."""
        print(f"{row.title} ...", file=sys.stderr)
        text, began = forced(row.prompt, row.targets), time.perf_counter()
        runs: dict[str, list[dict[str, Any]]] = {}
        limits = []
        with contextlib.ExitStack() as stack:
            workers = {name: stack.enter_context(self.worker(name)) for name in ("ours", *row.others)}
            asked: dict[str, tuple[Worker, Mapping[str, Any]]] = {n: (w, row.options) for n, w in workers.items()}
            if row.limit:  # each of the three in a process of its own, so that no work leaves memory to another
                bare = stack.enter_context(self.worker("ours"))
                bare.ask("limit", forced(row.prompt, 2), {})
                asked["bf16"] = stack.enter_context(self.worker("ours")), dict(row.options) | {"precision": "bf16"}
            for name, (worker, options) in list(asked.items()):  # warms up, and leaves out what cannot be done
                if "error" in worker.ask(row.work, forced(row.prompt, 2), options) and name != "ours":
                    del asked[name]
            for n in range(repeats):
                for name, (worker, options) in asked.items():
                    runs.setdefault(name, []).append(worker.ask(row.work, text, options, row.again))
                if row.limit:
                    of_steps = {key: value for key, value in row.options.items() if key == "n_steps"}
                    limits.append(bare.ask("limit", text, of_steps)["said"]["limit"])
                if (time.perf_counter() - began) * (n + 2) / (n + 1) > BUDGET_S:
                    break
            figures = {name: self.figures(of_library) for name, of_library in runs.items()}
            if "error" in figures["ours"]:
                figures, limits = {"ours": figures["ours"]}, []
            else:
                self.compare(row, text, workers, runs, figures)
        return {
            "title": row.title,
            "rounds": len(runs["ours"]),
            "libraries": figures,
            "limit": {
                library: min((limit[library] for limit in limits), key=lambda limit: float(limit["seconds"]))
                for library in (limits[0] if limits else ())
            },
        }

    def figures(self, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Medians of the times, and the most memory: of the first round, and of all later ones."""
        wrong = next((run["error"] for run in runs if "error" in run), None)
        if wrong:
            return {"error": wrong}
        clocks = {clock: statistics.median(run[clock] for run in runs) for clock in ("processor_s", "wall_s")}
        spread = [min(run[self.clock] for run in runs), max(run[self.clock] for run in runs)]
        memory = {
            "first_mb": runs[0]["peak_mb"],
            "later_mb": max(run["peak_mb"] for run in runs[1:] or runs),
            "process_mb": max(run["process_mb"] for run in runs),
        }
        return {**clocks, "counts_s": clocks[self.clock], "range_s": spread, **memory}

    def compare(
        self,
        row: Row,
        text: Mapping[str, str],
        workers: Mapping[str, Worker],
        runs: Mapping[str, list[dict[str, Any]]],
        figures: dict[str, Any],
    ) -> None:
        """Compare the numbers with ours, all of the same tokens, and add what is found to the figures."""
        ours = runs["ours"][0]
        missed = ours["arrays"].get("missed")
        figures["ours"] |= {} if missed is None else {"missed": float(abs(missed).max())}
        for name, same in row.others.items():
            if "arrays" not in runs.get(name, [{}])[0]:
                continue
            assert runs[name][0]["ids"] == ours["ids"], f"{name} explained other tokens"
            if same is not None:
                options = {**row.options, **same.options}
                mine = workers["ours"].ask(row.work, text, options) if same.options else ours
                theirs = runs[name][0]["arrays"][same.array]
                figures[name]["difference"] = difference(mine["arrays"]["values"], theirs, same.array)
        if "bf16" in runs:
            ranks = correlations(ours["arrays"]["values"], runs["bf16"][0]["arrays"]["values"], row.prompt)
            said = runs["bf16"][0]["said"]["notes"]
            figures["bf16"] |= {"rank_correlation": [float(ranks.min()), float(np.median(ranks))], "notes": said}
        if row.work == "deep_lift" and "inseq" in runs:
            with self.worker("naive") as naive:
                plain = naive.ask("gradient_x_difference", text, {})["arrays"]["sum"]
            figures["inseq"]["from_gradient"] = difference(plain, runs["inseq"][0]["arrays"]["sum"], "sum")

    def curve(self, curve: Mapping[str, Any]) -> dict[str, Any]:
        """Measure the points of a curve, those that a library can be expected to do in the time there is."""
        print(f"{curve['title']} against {curve['axis']} ...", file=sys.stderr)
        lines: dict[str, list[tuple[int, float]]] = {}
        for name in curve["libraries"]:
            lines[name] = line = []
            with self.worker(name) as worker:
                for x, (prompt, targets, options) in curve["points"].items():
                    if not line:
                        worker.ask(curve["work"], forced(prompt, 2), options)
                    elif line[-1][1] * x / line[-1][0] > CURVE_S:
                        break
                    found = worker.ask(curve["work"], forced(prompt, targets), options)
                    if "error" in found:
                        break
                    line.append((x, found[self.clock]))
        return {"title": curve["title"], "axis": curve["axis"], "lines": lines}


def difference(ours: np.ndarray, theirs: np.ndarray, array: str) -> float:
    """Largest difference as a share of the largest number."""
    if array == "normalised":
        ours = ours / ours.sum(1, keepdims=True)
    elif array == "magnitude":
        ours = abs(ours)
    return float(abs(ours - theirs).max() / abs(theirs).max())


def correlations(ours: np.ndarray, other: np.ndarray, start: int) -> np.ndarray:
    """Spearman's rank correlation of each target's scores, over the tokens that it sees ``(target,)``."""
    found = []
    for n, rows in enumerate(zip(ours, other), start):
        ranks = [np.argsort(np.argsort(row[:n])) for row in rows]
        found.append(np.corrcoef(*ranks)[0, 1])
    return np.array(found)


def shown(figures: Mapping[str, Any]) -> str:
    """The table as Markdown."""
    threads, wall = figures["threads"], figures["threads"] > 1
    clock = "time by the clock" if wall else "processor time"
    lines = [
        f"{threads} thread{'s' if wall else ''}, {clock}, medians in turns (rounds in brackets); memory above the "
        "process's own before the work, in the first round and in later ones, and the most of the whole process.",
        "",
        "| work | | seconds | / ours | peak memory, MB | / ours | largest difference from ours |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in figures["rows"]:
        ours = row["libraries"]["ours"]
        first = f"{row['title']} ({row['rounds']})"
        for name, found in row["libraries"].items():
            if "error" in found:
                cells = ["fails: " + found["error"].replace("|", "/"), "", "", "", ""]
            else:
                times = found["counts_s"] / ours["counts_s"]
                each = ("first_mb", "later_mb")[: min(row["rounds"], 2)]
                memory = ", ".join(f"{found[one] / max(ours[one], 1):.1f}×" for one in each)
                ratios = ["", ""] if name == "ours" else [f"**{times:.2f}×**", memory]
                peak = f"{', '.join(f'{found[one]:,.0f}' for one in each)} of {found['process_mb']:,.0f}"
                said = remark(found)
                if name == "bf16" and "counts_s" in (inseq := row["libraries"].get("inseq", {})):
                    said += f"; Inseq / this **{inseq['counts_s'] / found['counts_s']:.2f}×**"
                cells = [f"{found['counts_s']:.3g}", ratios[0], peak, ratios[1], said]
            lines.append(f"| {first} | {NAMES[name]} | " + " | ".join(cells) + " |")
            first = ""
        for library, limit in row["limit"].items():
            share = f"ours / limit **{ours['counts_s'] / limit['seconds']:.2f}**"
            said = f"{limit['gflop']:.0f} GFLOP at {limit['gflop_per_s']:.0f} GFLOP/s; {share}"
            ratio = limit["seconds"] / ours["counts_s"]
            lines.append(f"| | limit, {library} | {limit['seconds']:.3g} | {ratio:.2f}× | | | {said} |")
    return "\n".join(lines) + "\n"


def remark(found: Mapping[str, Any]) -> str:
    """What there is to say about a library's numbers."""
    if "rank_correlation" in found:
        lowest, median = found["rank_correlation"]
        return f"rank correlation with float32: lowest {lowest:.4f}, median {median:.4f}"
    if "from_gradient" in found:
        return f"degenerate: gradient × difference to {found['from_gradient']:.0e} of the largest"
    if "missed" in found:
        return f"completeness error {found['missed']:.0e}"
    return f"{found['difference']:.0e}" if "difference" in found else ""
