"""How often each attribution method ranks a token first that is known to decide; writes docs/known-answers.md.

    python benchmarks/known_answers.py [--only PATTERN ...] [--models NAME ...] [--tables] [--json FILE]

The models are the trained ones of ecco-tiny, the cases those that ship with them, of which the ones count that the
model answers rightly. The methods are what ecco-captum, ecco-lrp and ecco-attention offer at the time. Figures go to a
JSON file, which is not committed, and from there as tables into the page. `--only` measures the methods whose names
match, keeping the other figures of that file, `--models` is to go with it; `--tables` measures nothing. One thread,
about half an hour.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import os
import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from ecco_tiny.sources import resolve

import ecco_core as ecco
from ecco_core.plugin.manager import plugins

ROOT = Path(__file__).parent.parent
PAGE, FIGURES = ROOT / "docs" / "known-answers.md", ROOT / ".scratch" / "known_answers.json"
BEGIN, END = "<!-- written by benchmarks/known_answers.py: begin -->\n", "<!-- end -->"
MODELS = ("prose", "classifier", "masked", "seq2seq")
EXPLAINING = ("ecco-captum", "ecco-lrp", "ecco-attention")
ASKED = ("masked", "seq2seq")  # whose cases are a story and a question, apart
SEEDS = (0, 1, 2)
LAYER = 0  # of layer methods: later blocks have mixed the tokens

# How many cases a method gets; methods that draw and those of layers get some, those that pass hundreds of masks the
# fewest. Those that draw get all seeds, but on prose those that pass masks.
CASES = dict.fromkeys(MODELS, 100)
VARIANT_CASES = dict.fromkeys(MODELS, 60) | {"prose": 30}
SOME_CASES = dict.fromkeys(MODELS, 40) | {"prose": 30}
MASKING_CASES = dict.fromkeys(MODELS, 25) | {"prose": 12}
MASKING = ("feature_permutation", "shapley_value_sampling", "kernel_shap", "lime")

Figures = dict[str, Any]
Options = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A text that its model answers rightly.

    Attributes:
        run: the text, bound to the model. `stack`: the stack that reads it.
        deciding: positions of the tokens that decide. `told`: of the tokens that tell, where others ask; else of all.
    """

    run: ecco.Run
    stack: str
    deciding: frozenset[int]
    told: range

    @property
    def n_tokens(self) -> int:
        """How many tokens are ranked."""
        return len(self.run.transcript.tokens[self.stack])


def shipped(name: str) -> list[dict[str, Any]]:
    """The known answers that ship with a model."""
    file = "copy_prompts.json" if name == "prose" else "known_answers.json"
    cases: list[dict[str, Any]] = json.loads((resolve(name) / file).read_text(encoding="utf-8"))
    return cases


def logits_of(run: ecco.Run) -> torch.Tensor:
    """The logits ``(class,)`` or ``(vocabulary,)`` of what the model answers."""
    if run.lm.task == "sequence_classification":
        return run.logits()
    masks = np.flatnonzero(run.tokens.ids == run.lm.tokenizer.mask_token_id) if run.lm.task == "masked" else [-1]
    return run.logits()[int(masks[0])]


def answer_id(lm: ecco.LanguageModel, case: dict[str, Any]) -> int:
    """The class, or the first token, of a case's answer."""
    if lm.task == "sequence_classification":
        return int(case["label"])
    if lm.task == "masked":
        return int(lm.tokenizer.convert_tokens_to_ids(case["answer"]))
    return int(lm.tokenizer(case["answer"], add_special_tokens=False).input_ids[0])


def known_case(lm: ecco.LanguageModel, case: dict[str, Any]) -> Case | None:
    """A shipped case, or None if the model answers something else."""
    run, answer = lm(case["text"]), answer_id(lm, case)
    if int(logits_of(run).argmax()) != answer:
        return None
    repeated = np.flatnonzero(run.tokens.ids == answer).tolist() if lm.task == "causal" else None
    stack, tokens = next(iter(run.transcript.tokens.items()))
    deciding = frozenset(case["deciding_tokens"] if repeated is None else repeated)
    return Case(run, stack, deciding, _told(lm.task, [text.strip() for text in tokens.texts], case.get("mask_token")))


def _told(task: str, texts: list[str], mask: int | None) -> range:
    """Positions of a story: after `seq2seq`'s question, before `masked`'s sentence with the mask; else of all."""
    if task == "seq2seq":
        return range(texts.index("context") + 2, len(texts))
    return range(len(texts) if mask is None else max(p for p in range(mask) if texts[p] == ".") + 1)


def known_cases(lm: ecco.LanguageModel, cases: Sequence[dict[str, Any]]) -> list[Case]:
    """The cases that the model answers rightly, in an order that is shuffled once and for all."""
    order = np.random.default_rng(0).permutation(len(cases))
    return [found for n in order if (found := known_case(lm, cases[n])) is not None]


def follows(lm: ecco.LanguageModel, cases: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """Exchange what decides for what decides another case: how often the other's answer is given, and of how many.

    The other case is the next of the same kind (of `prose`, template) with another answer and as many deciding words.
    """
    right = tried = 0
    for n, case in enumerate(cases):
        others = (o for o in (*cases[n + 1 :], *cases[:n]) if _exchangeable(case, o))
        other = next(others, None)
        if other is None or known_case(lm, case) is None:
            continue
        tried += 1
        right += int(logits_of(lm(_exchanged(case, other))).argmax()) == answer_id(lm, other)
    return right, tried


def _exchangeable(case: dict[str, Any], other: dict[str, Any]) -> bool:
    kind = "template" if "template" in case else "kind"
    alike = case[kind] == other[kind] and len(_spans(case)) == len(_spans(other))
    return alike and case["answer"] != other["answer"] and not ("label" not in case and other["answer"] in case["text"])


def _spans(case: dict[str, Any]) -> list[list[int]]:
    """Where the deciding words stand, in characters; of `prose`, nowhere in particular."""
    spans: list[list[int]] = case.get("deciding_spans", [])
    return spans


def _exchanged(case: dict[str, Any], other: dict[str, Any]) -> str:
    text: str = case["text"]
    if "template" in case:
        return re.sub(rf"\b{re.escape(case['answer'].strip())}\b", other["answer"].strip(), text)
    for (start, stop), (first, last) in reversed(list(zip(_spans(case), _spans(other)))):
        text = text[:start] + other["text"][first:last] + text[stop:]
    return text


def best_rank(scores: np.ndarray, deciding: Iterable[int], rng: np.random.Generator) -> int:
    """The rank from 1 of the best-placed deciding token, the highest score first; ties are broken at random."""
    order = np.lexsort((rng.random(len(scores)), -scores))
    return 1 + int(np.flatnonzero(np.isin(order, list(deciding)))[0])


def text_scores(case: Case, result: Any) -> np.ndarray:
    """A result's scores of the tokens that are ranked."""
    own = [source.stack == case.stack for source in result.sources]
    scores: np.ndarray = result.values.values[0][own]
    if len(scores) != case.n_tokens:
        raise ValueError(f"{len(scores)} scores for {case.n_tokens} tokens")
    return scores


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `n` cases (JASA 1927)."""
    z = 1.96
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def both_ranks(case: Case, scores: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """The rank of the best deciding token among all, and among those of the story."""
    told = [p - case.told.start for p in case.deciding]
    return best_rank(scores, case.deciding, rng), best_rank(scores[case.told], told, rng)


def summary(both: list[list[tuple[int, int]]], seconds: Sequence[float] = ()) -> Figures:
    """Figures of ranks ``[seed][case]``, among all and of the story; intervals are of cases, seeds being averaged."""
    ranks, of_story = ([[pair[n] for pair in of_seed] for of_seed in both] for n in (0, 1))
    shares = [statistics.fmean(rank == 1 for rank in of_seed) for of_seed in ranks]
    first, n = statistics.fmean(shares), len(ranks[0])
    story = statistics.fmean(rank == 1 for of_seed in of_story for rank in of_seed)
    return {
        "cases": n,
        "first": first,
        "interval": wilson(first, n),
        "story": {"first": story, "interval": wilson(story, n)},
        "by_seed": shares,
        "hits": [rank == 1 for rank in ranks[0]],
        "reciprocal": statistics.fmean(1 / rank for of_seed in ranks for rank in of_seed),
        "ms": statistics.median(seconds) * 1e3 if seconds else None,
    }


def references(cases: Sequence[Case]) -> dict[str, Figures]:
    """What rankings get that know nothing of the model."""
    rankings: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
        "random ranking": lambda n, rng: rng.random(n),
        "first token": lambda n, _: -np.arange(n),
        "last token": lambda n, _: np.arange(n),
    }
    found = {}
    for name, ranking in rankings.items():
        rngs = [np.random.default_rng(seed) for seed in SEEDS]
        found[name] = summary([[both_ranks(c, ranking(c.n_tokens, r), r) for c in cases] for r in rngs])
    return found


def measured(cases: Sequence[Case], method: str, options: Options, seeds: Sequence[int]) -> Figures:
    """Ranks of one method with some options over cases and seeds; or why it refuses them.

    An option's value is used as it is, or called with the run if it can be.
    """
    ranks: list[list[tuple[int, int]]] = []
    seconds = []
    for seed in seeds:
        ranks.append([])
        for n, case in enumerate(cases):
            given = {name: value(case.run) if callable(value) else value for name, value in options.items()}
            start = time.process_time()
            try:
                result = case.run.analyze(method, seed=seed, **given)
            except ecco.OptionError as error:
                return {"refused": str(error)}
            seconds.append(time.process_time() - start)
            if case.stack not in {source.stack for source in result.sources}:
                return {"refused": f"It scores no tokens of the {case.stack}, which reads the text."}
            ranks[-1].append(both_ranks(case, text_scores(case, result), np.random.default_rng(n)))
    return summary(ranks, seconds)


def draws(case: Case, method: str, options: Options) -> bool:
    """Whether a method's scores depend on the seed."""
    try:
        one, other = (case.run.analyze(method, seed=seed, **options).values.values for seed in SEEDS[:2])
    except ecco.OptionError:
        return False
    return not np.array_equal(one, other)


def second(run: ecco.Run) -> int:
    """What the model would have answered otherwise."""
    return int(logits_of(run).topk(2).indices[1])


def methods() -> dict[str, Options]:
    """What ecco-captum, ecco-lrp and ecco-attention offer that explains an answer, with the options that it gets.

    Methods for a neuron are left out: a neuron has no known answer. Those for a layer get the first.
    """
    offers = [o for o in plugins().offers("ecco_analyses") if o.distribution in EXPLAINING]
    specs = [o.spec for o in offers if o.spec.produces == "TokenScores" and "targets" in o.spec.takes]
    modules = {spec.name: spec.target.split(":")[0].rpartition(".")[2] for spec in specs}
    return {
        name: {"layer": LAYER} if module == "layers" else {} for name, module in modules.items() if module != "neurons"
    }


def variants() -> list[tuple[str, Options]]:
    """What a user would choose between."""
    gradient: tuple[tuple[str, Options], ...] = tuple(
        (method, options)
        for method in ("integrated_gradients", "deep_lift", "input_x_gradient")
        for options in (
            {"baseline": "mean"},
            {"baseline": "zero"},
            {"score": "logit"},
            {"contrast": second},
            {"aggregation": "l2"},
        )
        if method != "input_x_gradient" or "baseline" not in options
    )
    return [
        *gradient,
        ("saliency", {"score": "logit"}),
        ("saliency", {"aggregation": "sum"}),
        ("gradient_shap", {"baseline": "auto"}),
        ("gradient_shap", {"aggregation": "l2"}),
        ("feature_ablation", {"baseline": "mean"}),
        ("feature_ablation", {"baseline": "zero"}),
        ("feature_ablation", {"score": "logit"}),
        ("feature_ablation", {"contrast": second}),
        ("occlusion", {"window": 3}),
        ("lrp", {"rule": "cp"}),
        ("lrp", {"contrast": second}),
    ]


def described(options: Options) -> str:
    """Options as a reader would write them."""
    return ", ".join(f"{k}={'second answer' if callable(v) else v}" for k, v in options.items())


def label(method: str, options: Options) -> str:
    """A method and its options as a row of a table."""
    return ", ".join([f"`{method}`", *([described(options)] if options else [])])


def measure(name: str, only: Sequence[str], figures: Figures, path: Path) -> None:
    """Add the figures of one model's matching methods, and of what is theirs to be compared with; keep each at once."""
    lm, known = ecco.from_pretrained(f"tiny:{name}"), shipped(name)
    cases = known_cases(lm, known)
    followed, tried = follows(lm, known)
    figures["models"][name] = {
        "shipped": len(known),
        "right": len(cases),
        "tokens": statistics.median(case.n_tokens for case in cases),
        "chance": statistics.fmean(len(case.deciding) / case.n_tokens for case in cases),
        "story_chance": statistics.fmean(len(case.deciding) / len(case.told) for case in cases),
        "followed": followed,
        "exchanged": tried,
    }
    figures["references"][name] = references(cases)
    wanted = [(*each, "methods") for each in methods().items()] + [(*each, "variants") for each in variants()]
    for method, options, kind in wanted:
        if any(fnmatch.fnmatch(method, pattern) for pattern in only):
            drawn = kind == "methods" and draws(cases[0], method, options)
            numbers = MASKING_CASES if method in MASKING else SOME_CASES if drawn or options else CASES
            if kind == "variants":
                numbers = VARIANT_CASES
            seeds = SEEDS if drawn and not (name == "prose" and method in MASKING) else SEEDS[:1]
            found = measured(cases[: numbers[name]], method, options, seeds) | {"draws": drawn}
            figures[kind].setdefault(label(method, options), {})[name] = found
            path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
            say(name, label(method, options), found)


def say(name: str, what: str, found: Figures) -> None:
    """One line of progress."""
    told = found.get("refused") or f"{found['first']:6.1%} of {found['cases']}, {found['ms']:.0f} ms"
    print(f"{name:<11} {what:<45} {told[:90]}", flush=True)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows))


def percent(found: Figures) -> str:
    """A share with its interval."""
    if "first" not in found:
        return "refused" if "refused" in found else ""
    low, high = found["interval"]
    return f"{found['first'] * 100:.0f} ({abs(low) * 100:.0f} – {high * 100:.0f})"  # of 0, the lower end is ±1e-17


def ordered(rows: dict[str, dict[str, Figures]]) -> list[str]:
    """Methods that work: those that work for most models first, then by the mean of their shares."""

    def key(method: str) -> tuple[int, float]:
        shares = [found["first"] for found in rows[method].values() if "first" in found]
        return -len(shares), -statistics.fmean(shares)

    return sorted((m for m in rows if any("first" in found for found in rows[m].values())), key=key)


def tables(figures: Figures) -> str:
    """All of the generated part of the page."""
    models = figures["models"]
    rows, others = (
        {label: {m: found.get(m, {}) for m in MODELS} for label, found in figures[kind].items()}
        for kind in ("methods", "variants")
    )
    columns = [f"`tiny:{name}`" for name in MODELS]
    works = ordered(rows)

    def line(label: str, cell: Callable[[str], str]) -> list[str]:
        return [label, *map(cell, MODELS)]

    def cells(method: str, key: str, form: str) -> list[str]:
        return line(method, lambda m: format(rows[method][m][key], form) if "first" in rows[method][m] else "")

    def counts(method: str) -> str:
        numbers = [str(rows[method][m]["cases"]) for m in MODELS if "cases" in rows[method][m]]
        return numbers[0] if len(set(numbers)) == 1 else ", ".join(numbers)

    known = [
        line("cases answered rightly", lambda m: f"{models[m]['right']} of {models[m]['shipped']}"),
        line("tokens ranked, median", lambda m: f"{models[m]['tokens']:.0f}"),
        line(
            "the answer follows when what decides is exchanged",
            lambda m: f"{models[m]['followed']} of {models[m]['exchanged']}",
        ),
    ]
    first = [[*line(method, lambda m, r=rows[method]: percent(r[m])), counts(method)] for method in works]
    chance = line("**random ranking, closed form**", lambda m: f"**{models[m]['chance'] * 100:.1f}**")
    compared = [[*chance, ""]] + [
        [*line(f"{name}", lambda m, name=name: percent(figures["references"][m][name])), "all"]
        for name in figures["references"][MODELS[0]]
    ]
    reciprocal = [cells(method, "reciprocal", ".2f") for method in works] + [
        line(name, lambda m, name=name: f"{figures['references'][m][name]['reciprocal']:.2f}")
        for name in figures["references"][MODELS[0]]
    ]
    drawn = [
        line(method, lambda m, r=rows[method]: spread(r[m]))
        for method in works
        if any(rows[method][m].get("draws") for m in MODELS)
    ]
    both = rows | others
    story = [
        [name, *(percent(both[name][m].get("story", {})) for m in ASKED)]
        for name in (*works, *others)
        if any("story" in both[name][m] for m in ASKED)
    ]
    story_chance = ["**random ranking, closed form**", *(f"**{models[m]['story_chance'] * 100:.1f}**" for m in ASKED)]
    varied: list[list[str]] = []
    for name, found in others.items():
        method = name.split(",")[0]
        if not any(row[0].startswith(method) for row in varied):
            varied.append(line(f"{method}, defaults", lambda m, d=rows[method], r=found: percent(on_same(d[m], r[m]))))
        varied.append(line(name, lambda m, r=found: percent(r[m])))
    return "\n\n".join(
        [
            f"Measured {figures['date']}, torch {figures['torch']}, one thread.",
            "### The cases\n\n" + table(["", *columns], known),
            "### A deciding token first: % of cases (95 % interval)\n\n"
            + table(["method", *columns, "cases"], [*first, *compared]),
            "Refused:\n\n" + "\n".join(refusals(rows)),
            "### First among the tokens of the story, leaving out those that ask: % of cases (95 % interval)\n\n"
            + table(["method, option", *(f"`tiny:{name}`" for name in ASKED)], [*story, story_chance]),
            "### Mean reciprocal rank of the best deciding token\n\n" + table(["method", *columns], reciprocal),
            "### Methods that draw: % by seed, lowest – highest\n\n" + table(["method", *columns], drawn),
            "### Other options: % of cases (95 % interval)\n\n" + table(["method, option", *columns], varied),
            "### Processor time of one target, ms, median\n\n"
            + table(["method", *columns], [cells(method, "ms", ".0f") for method in works]),
        ]
    )


def on_same(default: Figures, other: Figures) -> Figures:
    """What a method's defaults get on the cases of another row, which are the first ones; with the first seed."""
    if "hits" not in default or "hits" not in other:
        return default
    hits = default["hits"][: other["cases"]]
    share = statistics.fmean(hits)
    return {"first": share, "interval": wilson(share, len(hits))}


def spread(found: Figures) -> str:
    """Shares of the seeds, or that there was one."""
    if "by_seed" not in found:
        return ""
    shares = [share * 100 for share in found["by_seed"]]
    return f"{min(shares):.0f} – {max(shares):.0f}" if len(shares) > 1 else f"{shares[0]:.0f}, one seed"


def refusals(rows: dict[str, dict[str, Figures]]) -> Iterator[str]:
    """One line per method and reason, with the models."""
    for method, of_model in rows.items():
        where = [name for name in MODELS if "refused" in of_model[name]]
        if where:
            reason = of_model[where[0]]["refused"]
            yield f"- {method} ({', '.join(where)}): {reason}"


def page(text: str, figures: Figures) -> str:
    """The page with its tables written anew."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{tables(figures)}\n\n{END}{rest.split(END, 1)[1]}"


def main() -> None:
    """Measure, keep the figures, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="methods to measure, such as 'layer_*'; others keep their figures")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--tables", action="store_true", help="only write the page, from the figures there are")
    parser.add_argument("--json", type=Path, default=FIGURES, help="where the figures are kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures: Figures = {"models": {}, "references": {}, "methods": {}, "variants": {}}
    if options.tables or options.only:
        figures = json.loads(options.json.read_text(encoding="utf-8"))
    if not options.tables:
        figures |= {"date": time.strftime("%Y-%m-%d"), "torch": torch.__version__}
        options.json.parent.mkdir(exist_ok=True)
        for name in options.models:
            measure(name, options.only or ["*"], figures, options.json)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), figures), encoding="utf-8")


if __name__ == "__main__":
    main()
