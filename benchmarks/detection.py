"""Detection with no model file at hand, on small random models of transformers' architectures.

python benchmarks/detection.py [--only TYPE …] [--markdown docs/detection.md]

The families of our own registry are detected as if their files were not there, and compared with them: the same tensor
at each site. Then come all other architectures of transformers' mappings of causal, masked and seq2seq models.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import attrs
import torch
import transformers

from ecco_core.errors import ArchitectureError
from ecco_core.models.architecture import Architecture
from ecco_core.models.feed import Feed
from ecco_core.models.reading import read
from ecco_core.proving.detect import Detection, detect
from ecco_core.proving.tiny_models import tasks_of, tiny_model
from ecco_core.registry import lookup

#: What the tiny builder's usual sizes break: convolutions with an even kernel change the number of tokens.
OVERRIDES = {"convbert": {"conv_kernel_size": 9}, "nystromformer": {"conv_kernel_size": 5}}
CORE = (
    "attn_out",
    "mixer_out",
    "cross_attn_out",
    "resid_mid",
    "mlp_post",
    "mlp_out",
    "router",
    "z",
    "cross_z",
    "pattern",
)


@attrs.frozen(kw_only=True)
class Outcome:
    """What became of one architecture: its detection, or the reason why there is none."""

    model_type: str
    task: str
    seconds: float
    detection: Detection | None = None
    built: bool = True
    why: str = ""
    differs: tuple[str, ...] = ()


def tried(model_type: str, task: str) -> Outcome:
    """Detect one architecture, and print what came of it."""
    outcome = _tried(model_type, task)
    print(line(outcome), flush=True)
    return outcome


def _tried(model_type: str, task: str) -> Outcome:
    start = time.perf_counter()
    try:
        model = tiny_model(model_type, task, OVERRIDES.get(model_type))
    except Exception as error:
        return Outcome(model_type=model_type, task=task, seconds=0.0, built=False, why=short(error))
    try:
        found = detect(model, task)
    except ArchitectureError as error:
        return Outcome(model_type=model_type, task=task, seconds=time.perf_counter() - start, why=short(error))
    taken = time.perf_counter() - start
    entry = lookup.find(model_type)
    differs = different(model, found, Architecture(entry.structure, model)) if entry else ()
    return Outcome(model_type=model_type, task=task, seconds=taken, detection=found, differs=differs)


def line(o: Outcome) -> str:
    """One line for the terminal."""
    notes = "; ".join(o.differs) + " " + " ".join(o.detection.notes) if o.detection else o.why
    state = ("proven" if whole(o) else "IN PART") if o.detection else "NOT PROVEN" if o.built else "not built"
    return f"{o.model_type:<24} {o.task:<8} {state:<11} {o.seconds:5.1f} s  {sites(o) if o.detection else ''}  {notes}"


def short(error: Exception) -> str:
    """The reason alone."""
    text = " ".join(str(error).split())
    text = text.partition("cannot be proven: ")[2] or text.partition("cannot be built: ")[2] or text
    return text.removesuffix(" Write a model file as docs/models.md shows.")[:240]


def different(model: Any, found: Detection, declared: Architecture) -> tuple[str, ...]:
    """Sites that are not the same tensors as the registry's file says."""
    detected, differs = Architecture(found.structure, model), []
    feed = Feed.of({stack: torch.arange(5, 12) + len(stack) for stack in declared.stacks})
    for stack in declared.stacks:
        if stack not in detected.stacks:
            differs.append(f"{stack}: not found")
            continue
        for site in dict.fromkeys((*declared.sites(stack), *detected.sites(stack))):
            layers = [a.layers_with(site, stack) if site in a.sites(stack) else () for a in (declared, detected)]
            keys = [(stack, site, n if site not in ("embedding", "logits") else None) for n in layers[0]]
            if layers[0] != layers[1]:
                differs.append(
                    f"{stack}: {site} {'not found' if len(layers[1]) < len(layers[0]) else 'more than the file has'}"
                )
            elif site != "logits" or stack == declared.stacks[-1]:
                one, other = (read(model, a, feed, keys)[0] for a in (declared, detected))
                differs += (
                    [f"{stack}: {site} differs"]
                    if any(not torch.allclose(one[k], other[k], atol=1e-5) for k in one)
                    else []
                )
    return tuple(differs)


def survey(only: list[str]) -> tuple[list[Outcome], list[Outcome]]:
    """Our families, and all others."""
    ours = [t for entry in lookup.entries() for t in entry.structure.model_types]
    families = [
        tried(t, task) for t in dict.fromkeys(ours) if not only or t in only
        for task in tasks_of(t) if task in lookup.require(t).structure.heads
    ]  # fmt: skip
    others = []
    for task, name in (("causal", "CAUSAL_LM"), ("masked", "MASKED_LM"), ("seq2seq", "SEQ_TO_SEQ_CAUSAL_LM")):
        mapping = getattr(transformers, f"MODEL_FOR_{name}_MAPPING")
        types = {key for key, config in transformers.CONFIG_MAPPING.items() if config in mapping} - set(ours)
        others += [tried(t, task) for t in sorted(types) if not only or t in only]
    return families, others


def sites(outcome: Outcome) -> str:
    """The sites that are proven, by stack."""
    assert outcome.detection
    verification, told = outcome.detection.verification, []
    stacks = outcome.detection.structure.stacks
    for stack in stacks:
        proven = [s for s, status in verification.sites(stack).items() if status == "proven" and s in CORE]
        told.append((f"{stack}: " if len(stacks) > 1 else "") + (", ".join(proven) or "no part of its blocks"))
    return "; ".join(told)


def whole(outcome: Outcome) -> bool:
    """Whether all that the blocks of all layers add to the stream is proven, so that the stream itself is."""
    assert outcome.detection
    found = outcome.detection
    streams = {found.verification.sites(stack)["resid_post"] for stack in found.structure.stacks}
    return streams == {"proven"} and not any("is no sum of" in note for note in found.notes)


def markdown(families: list[Outcome], others: list[Outcome], seconds: float) -> str:
    """The page."""
    found = [o for o in families if o.detection and whole(o)]
    agree = [o for o in found if not o.differs]
    lines = [
        "# Detection, measured", "",
        "Generated by `python benchmarks/detection.py --markdown docs/detection.md`: small random models in float32,",
        f"transformers {transformers.__version__}, torch {torch.__version__.partition('+')[0]}; {seconds:.0f} s.",
        "What is detected is proven by the identities that prove the registry's files (`ecco models verify`). A row",
        "names what is proven inside of the blocks; `embedding`, `resid_pre` and the head are proven in each row that",
        "is not **nothing**. Where the sum of what blocks add is not known, `resid_post` agrees with the model's own",
        "hidden states, but counts as not proven: these rows are *in part*. Parallel blocks, and those that add one",
        "thing only, have no `resid_mid`; fused experts have no `mlp_post`. A pattern that cannot be compared with",
        "what its attention adds is only a distribution that sees no later tokens: it counts as not proven.", "",
        "Detection was mended while looking at this very table (embeddings with a norm inside, attention that is only",
        "reported, mixers of post-norm blocks, routers inside of modules), so the shares below are no estimate for",
        f"architectures that are not in it. {' and '.join(OVERRIDES)} run with other kernel sizes than the builder's,",
        "which change the number of tokens. Attention is named by being watched or reported: where it is neither",
        "(big_bird, mra, yoso), what it adds is called `mixer_out`.", "",
        "## Families of the registry, detected as if their files were not there", "",
        f"{len(found)} of {len(families)} proven (architecture × head); {len(agree)} of them give the same tensors at",
        "the same sites as the committed file.", "",
        "| architecture | task | proven | against the file |", "| --- | --- | --- | --- |",
    ]  # fmt: skip
    for o in families:
        lines.append(f"| {o.model_type} | {o.task} | {sites(o) if o.detection else '**not proven**: ' + o.why} | "
                     f"{', '.join(o.differs) or 'the same' if o.detection else '-'} |")  # fmt: skip
    for task in ("causal", "masked", "seq2seq"):
        of_task = [o for o in others if o.task == task]
        built, proven = [o for o in of_task if o.built], [o for o in of_task if o.detection]
        lines += [
            "", f"## Other architectures of transformers, {task}", "",
            f"{len(of_task)} types, of which {len(built)} build as small random models:",
            f"{sum(map(whole, proven))} proven,",
            f"{sum(not whole(o) for o in proven)} in part, {len(built) - len(proven)} not.", "",
            "| architecture | proven | what is not, and why |", "| --- | --- | --- |",
        ]  # fmt: skip
        for o in built:
            notes = " ".join(o.detection.notes if o.detection else [o.why]).replace("|", "/")
            part = "*in part:* " if o.detection and not whole(o) else ""
            lines.append(f"| {o.model_type} | {part + sites(o) if o.detection else '**nothing**'} | {notes} |")
        unbuilt = [o for o in of_task if not o.built]
        if unbuilt:
            lines += ["", "Not built at the first try:", ""]
            lines += [f"- {o.model_type}: {o.why[:140]}" for o in unbuilt]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], metavar="TYPE")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    start = time.perf_counter()
    families, others = survey(options.only)
    if options.markdown:
        options.markdown.write_text(markdown(families, others, time.perf_counter() - start), encoding="utf-8")


if __name__ == "__main__":
    main()
