"""Write the tables of docs/attribution.md anew: every method of ecco-captum on every kind of model (`make docs`)."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import attrs
import numpy as np

import ecco_core as ecco
from ecco_core.options import Option, options_of
from ecco_core.plugin.manager import Offer, plugins
from ecco_core.proving.tiny_models import tiny_model

PAGE = Path(__file__).parent / "attribution.md"
BEGIN, END = "<!-- written by docs/generate_attribution.py: begin {} -->\n", "<!-- end {} -->"
MODELS = {  # column -> model type, task, whose tokenizer the random model has; a name alone is a shipped model
    "gpt2": ("gpt2", "causal", "tiny:prose"),
    "llama": ("llama", "causal", "tiny:prose"),
    "gpt_neox": ("gpt_neox", "causal", "tiny:prose"),
    "opt": ("opt", "causal", "tiny:prose"),
    "bert": ("bert", "masked", "tiny:masked"),
    "roberta": ("roberta", "masked", "tiny:masked"),
    "t5": ("t5", "seq2seq", "tiny:seq2seq"),
    "bart": ("bart", "seq2seq", "tiny:seq2seq"),
    "mamba": ("mamba", "causal", "tiny:prose"),
    "tiny:classifier": ("", "sequence_classification", "tiny:classifier"),
}
_CHANGES = {"roberta": {"max_position_embeddings": 512}}  # its positions begin after the padding token's number
SMALL = {"n_samples": 6, "n_steps": 32}  # what every method is given that takes it and has another default
NEEDED = {"layer": 0, "unit": 11}  # what every method is given that does not run without; a neuron that is active
OF_METHOD = {
    "kernel_shap": {"n_samples": 40},  # more masks than features
    "lime": {"n_samples": 60},
    "neuron_gradient": {"targets": [-2, -1]},  # places of the neuron, in every model
    "neuron_integrated_gradients": {"targets": [-2, -1]},
}
RECTIFIED = ("guided_grad_cam",)  # keeps the positive part only: a target may be left with nothing
EXACTLY, BY_STEPS = 1e-5, 0.05  # of the largest change, in float64


class WrongError(Exception):
    """A method ran and its result is not what was promised."""


@attrs.frozen
class Cell:
    """What a method does on a model.

    Attributes:
        mark: ``works``, ``gated`` (runs under ``allow_degenerate`` only) or ``refused``; `reason` why, if not works.
        adds_up: whether the scores add up to a change of the score: ``exactly``, ``up to n_steps``, ``on average``, or
            empty.
    """

    mark: str
    reason: str = ""
    adds_up: str = ""


def methods() -> dict[str, Offer[Any]]:
    """The analyses that ecco-captum registers, by name."""
    return {o.spec.name: o for o in plugins().offers("ecco_analyses") if o.distribution == "ecco-captum"}


@functools.cache
def run_on(column: str) -> tuple[ecco.Run, dict[str, Any]]:
    """A run of a model in float64, and the options that choose two targets of it."""
    kind, task, source = MODELS[column]
    lm = ecco.from_pretrained(source)
    marks = lm.tokenizer
    if kind:
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        start = {"decoder_start_token_id": marks.pad_token_id, "vocab_size": len(marks)}
        changes = {name: getattr(marks, name) for name in names} | start | _CHANGES.get(column, {})
        lm = ecco.from_pretrained((tiny_model(kind, task, changes), marks))
    lm.model.double()
    if task == "masked":
        return lm(f"The {marks.mask_token} is {marks.mask_token}."), {}
    if task == "sequence_classification":
        return lm("The acting was wonderful."), {"targets": ["negative", "positive"]}
    return lm.generate("The captain is called", output=" Nora."), {"targets": [-2, -1]}


def options_for(name: str, run: ecco.Run) -> dict[str, Any]:
    """What a method is run with: small numbers of everything, and what it cannot do without."""
    known: dict[str, Option] = options_of(methods()[name].load())
    numbers = {option: value for option, value in SMALL.items() if option in known and known[option].default}
    given = numbers | OF_METHOD.get(name, {})
    for option in known.values():
        if option.required and option.name not in given:
            if option.name not in NEEDED:
                raise WrongError(f"{name} needs the option {option.name!r}: write a value for it in NEEDED.")
            given[option.name] = NEEDED[option.name]
    site = known["site"].default if "site" in known else None
    return given | ({} if site in (None, *run.lm.architecture.sites(run.transcript.stack)) else {"site": "resid_post"})


@functools.cache
def cell(name: str, column: str) -> Cell:
    """Run a method on a model and check all that it promises.

    Raises:
        WrongError: it runs, and its result is wrong.
    """
    run, targets = run_on(column)
    options = targets | options_for(name, run)
    try:
        return Cell("works", adds_up=checked(name, run, options))
    except ecco.EccoError as error:
        reason = _reason(error, run)
    if "allow_degenerate" in options_of(methods()[name].load()):
        with contextlib.suppress(ecco.EccoError):
            return Cell("gated", reason, checked(name, run, {**options, "allow_degenerate": True}, degenerate=True))
    return Cell("refused", reason)


def _reason(error: ecco.EccoError, run: ecco.Run) -> str:
    reason = str(error)
    if "\n" in reason or not reason.endswith((".", "?")):
        raise WrongError(f"{reason!r} is not one sentence")
    if re.search("option|takes|No site|No unit|target", reason):
        raise WrongError(f"{reason!r} is about what the method was given here, not about the method")
    return reason.replace(type(run.lm.model).__name__, "model").replace(run.lm.name, "model")


def checked(name: str, run: ecco.Run, options: dict[str, Any], *, degenerate: bool = False) -> str:
    """Analyze twice, the second time with a model in training mode, and check the results; returns `Cell.adds_up`.

    Raises:
        EccoError: the method is refused. WrongError: a result is wrong, or the model is not as it was.
    """
    found = _untouched(name, run, options)
    run.lm.model.train()
    try:
        again = _untouched(name, run, options)
    finally:
        run.lm.model.eval()
    for wrong in _wrong(run, found, again, degenerate):
        raise WrongError(f"{name} on {run.lm.model_type}: {wrong}")
    return _adds_up(name, found)


def _untouched(name: str, run: ecco.Run, options: dict[str, Any]) -> Any:
    """The result of an analysis that leaves the model and torch's random state as they were."""
    import torch

    torch.rand(1)  # another random state in each call: what is random has to start from the method's own seed
    before = _state(run.lm.model)
    try:
        return run.analyze(name, **options)
    except ecco.PluginError as error:
        raise WrongError(str(error)) from error
    finally:
        for (what, value), (_, was) in zip(_state(run.lm.model), before, strict=True):
            if value != was:
                raise WrongError(f"{name} on {run.lm.model_type}: {what} changed")


def _state(model: Any) -> list[tuple[str, object]]:
    """What an analysis must leave as it was."""
    import torch

    hooks = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    modules, parameters = list(model.modules()), list(model.parameters())
    return [
        ("the mode", [module.training for module in modules]),
        ("hooks", [[list(vars(module)[kind]) for kind in hooks] for module in modules]),
        ("attributes of modules", [sorted(vars(module)) for module in modules]),
        ("gradients", [(p.requires_grad, p.grad is None) for p in parameters]),
        ("parameters", [(p.data_ptr(), p.detach().numpy().tobytes()) for p in parameters]),
        ("the config", model.config.to_dict()),
        ("the attention", model.config._attn_implementation),
        ("torch's random state", torch.random.get_rng_state().tolist()),
    ]


def _wrong(run: ecco.Run, found: Any, again: Any, degenerate: bool) -> Iterator[str]:
    """What is wrong with the results of two equal calls."""
    values, one_way = found.values.values, run.lm.task in ("causal", "seq2seq")
    if values.shape != (2, len(found.sources)):
        yield f"scores have the shape {values.shape}, expected two targets by {len(found.sources)} tokens"
    ends = {stack: len(tokens) for stack, tokens in run.transcript.tokens.items()}
    if one_way:
        ends[run.transcript.stack] = max(map(_end, found.targets))
    if "layer" in options_of(methods()[found.provenance.analysis].load()):  # may be of one stack
        ends = {stack: end for stack, end in ends.items() if stack in {s.stack for s in found.sources}}
    if [(s.stack, s.positions) for s in found.sources] != [(s, (p,)) for s, end in ends.items() for p in range(end)]:
        yield f"its features are {found.sources}, not the tokens that are seen"
    if not np.isfinite(values).all():
        yield "some scores are no numbers"
    for target, row in zip(found.targets, values):
        if one_way:
            seen = np.array([s.stack != target.stack or s.positions[0] < _end(target) for s in found.sources])
            if row[~seen].any():
                yield f"the target at position {target.position} gives scores to what comes after it"
            row = row[seen]
        nothing = found.provenance.analysis in RECTIFIED and values.any() and not row.any()
        if not nothing and not np.ptp(row) > 1e-9 * np.abs(values).max():
            yield f"all scores of the target at position {target.position} are the same"
    if (found.signed and found.aggregation == "l2") or (not found.signed and (values < 0).any()):
        yield "signed says the opposite of its scores"
    if not np.array_equal(values, again.values.values):
        yield "other scores with the same seed"
    if not np.allclose([t.value for t in found.targets], _read(run, found), rtol=1e-6, atol=1e-9):
        yield "the targets' values are not what the model gives"
    if any(note.startswith("DEGENERATE") for note in found.notes) != degenerate:
        yield f"its notes are {found.notes}, which should {'' if degenerate else 'not '}say that it degenerates"
    yield from _incomplete(found)


def _end(target: ecco.Target) -> int:
    """The first position that what explains a target of a causal model cannot see."""
    return target.position + (target.kind == "neuron")  # a token is what the one before it predicts


def _read(run: ecco.Run, found: Any) -> list[float]:
    """The targets' scores from the model's own logits, or the activations of a neuron."""
    neuron = re.fullmatch(r"unit (\d+) of (\w+) in layer (\d+)", found.targets[0].score)
    if neuron:
        unit, site, layer = int(neuron[1]), neuron[2], int(neuron[3])
        return [float(run.capture(site, layers=layer).get(site, layer)[t.position, unit]) for t in found.targets]
    logits = run.logits().log_softmax(-1)
    if run.lm.task == "sequence_classification":
        return [float(logits[t.token_id]) for t in found.targets]
    before = run.lm.task in ("causal", "seq2seq")
    return [float(logits[t.position - before, t.token_id]) for t in found.targets]


def _incomplete(found: Any) -> Iterator[str]:
    """What is wrong with a result's completeness error."""
    if found.completeness is None:
        return
    missed, change = found.completeness.values, found.change.values
    scale = np.abs(change).max()
    if found.aggregation in ("", "sum") and not np.allclose(
        change - found.values.values.sum(1), missed, rtol=0, atol=1e-9 * scale
    ):
        yield "its completeness error is not what the scores miss of the change"
    held = {"exactly": EXACTLY, "up to n_steps": BY_STEPS}.get(_adds_up(found.provenance.analysis, found), np.inf)
    if not np.abs(missed).max() < held * scale:
        yield f"its scores miss {np.abs(missed).max() / scale:.2g} of the change"


def _adds_up(name: str, found: Any) -> str:
    if found.completeness is None:
        return ""
    if name == "gradient_shap":
        return "on average"
    return "up to n_steps" if "n_steps" in options_of(methods()[name].load()) else "exactly"


def method_table() -> str:
    """What each method is, as Markdown."""
    rows = [["method", "also", "what", "adds up to the change", "paper"]]
    for name, offer in methods().items():
        also = ", ".join(f"`{alias}`" for alias in offer.spec.aliases)
        adds_up = next(filter(None, (cell(name, column).adds_up for column in MODELS)), "")
        rows.append([f"`{name}`", also, offer.spec.summary, adds_up, offer.spec.reference])
    return _markdown(rows)


def model_table() -> str:
    """What each method does on each model, as Markdown, with the reasons under it."""
    rows, reasons = [["method", *MODELS]], list[str]()
    for name in methods():
        row = [f"`{name}`"]
        for column in MODELS:
            found = cell(name, column)
            if found.reason and found.reason not in reasons:
                reasons.append(found.reason)
            row.append(f"{found.mark} ({reasons.index(found.reason) + 1})" if found.reason else found.mark)
        rows.append(row)
    told = [f"{n}. {reason}" for n, reason in enumerate(reasons, 1)]
    return "\n".join([_markdown(rows), "", *told])


def _markdown(rows: list[list[str]]) -> str:
    head, *rest = [[text.replace("|", "\\|") for text in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rest])


def marks(text: str) -> dict[tuple[str, str], str]:
    """What the page says: method and model -> ``works``, ``gated`` or ``refused``."""
    table = text.split(BEGIN.format("models"))[1].split(END.format("models"))[0]
    (_, *columns), _, *rows = (
        [part.strip(" `") for part in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"
    )
    return {(row[0], column): re.sub(r" \(\d+\)$", "", mark) for row in rows for column, mark in zip(columns, row[1:])}


def page(text: str) -> str:
    """The page with its tables written anew."""
    for what, table in (("methods", method_table), ("models", model_table)):
        before, rest = text.split(BEGIN.format(what))
        after = rest.split(END.format(what), 1)[1]
        text = f"{before}{BEGIN.format(what)}{table()}\n{END.format(what)}{after}"
    return text


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    PAGE.write_text(new, encoding="utf-8")
    sys.stdout.write("docs/attribution.md is up to date.\n" if new == old else "docs/attribution.md is written.\n")
