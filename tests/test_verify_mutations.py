"""A file with one wrong path, side, scale or head does not pass `verify`: whatever else stands there is caught."""

from __future__ import annotations

import random

import attrs
import pytest
import torch
from torch import nn

import ecco_core as ecco
from ecco_core.models.architecture import Architecture
from ecco_core.models.feed import Feed
from ecco_core.models.reading import read
from ecco_core.proving.tiny_models import tiny_model
from ecco_core.proving.verify import verify
from ecco_core.registry import lookup
from ecco_core.registry.structure import ModulePath, Value

FAMILIES = [
    ("llama", "causal"), ("bert", "masked"), ("gpt2", "causal"), ("t5", "seq2seq"), ("bart", "seq2seq"),
    ("mixtral", "causal"), ("falcon", "causal"), ("opt", "causal"), ("phi", "causal"), ("mamba", "causal"),
    ("gptj", "causal"), ("gpt_neo", "causal"), ("bloom", "causal"), ("mpt", "causal"), ("mpnet", "masked"),
    ("deberta-v2", "masked"), ("rwkv", "causal"), ("gemma2", "causal"), ("granite", "causal"), ("qwen2_moe", "causal"),
]  # fmt: skip
MOST = 6  # mutations of each file in the short test


def opened(model_type, task):
    """The true architecture, without variants: what is changed here they would change back."""
    right = Architecture(lookup.require(model_type).structure, tiny_model(model_type, task))
    right.structure = attrs.evolve(right.structure, variants=())
    return right


def mutations(right, task):
    """(stack, key, what stands there now), and the structure: each path, side and scale replaced by all others."""
    structure = right.structure
    for stack in right.stacks:
        declared = structure.stacks[stack]
        for key, what, changes in of_stack(right, stack):
            changed = attrs.evolve(declared, **changes)
            yield (stack, key, what), attrs.evolve(structure, stacks={**structure.stacks, stack: changed})
    paths = structure.heads.get(task, ()) if right.head(task) else ()
    for n, path in enumerate(paths):
        others = [name for name, _ in right.model.named_modules() if name not in ("", path.path)]
        for name in (*others, *[""] * (len(paths) > 1)):
            head = (*paths[:n], *([ModulePath(name)] if name else []), *paths[n + 1 :])
            yield ("", "head", f"{n} {name}"), attrs.evolve(structure, heads={**structure.heads, task: head})
    for key, value in attrs.asdict(structure.logits, recurse=False).items():
        if value:
            gone = attrs.evolve(structure.logits, **{key: "" if key == "bias" else None})
            yield ("", f"logits {key}", ""), attrs.evolve(structure, logits=gone)


def of_stack(right, stack):
    """What is changed in one stack: the key, its value in words, the changes."""
    declared, base = right.structure.stacks[stack], dict(right._base.named_modules())
    blocks = (right._block(stack, layer) for layer in range(right.n_layers(stack)))
    inside = sorted({name for block in blocks for name, _ in block.named_modules() if name})
    for site, places in declared.sites.items():
        sides = ((name, side) for name in inside for side in ("input", "output"))
        others = [attrs.evolve(places[0], path=name, side=side) for name, side in sides]
        scaled = [attrs.evolve(place, scale=Value(number=2.0)) for place in places]
        for place in (p for p in (*others, *scaled) if p not in places):
            yield site, str(place), {"sites": {**declared.sites, site: (place,)}}
    for key in ("attention", "cross_attention", "experts"):
        path = getattr(declared, key)
        for name in (n for n in inside if path and n != path.path):
            yield key, name, {key: ModulePath(name, path.optional)}
    for site, norm in declared.norms.items():
        for name in (n for n in inside if n != norm):
            yield f"norm of {site}", name, {"norms": {**declared.norms, site: name}}
    yield "final_norm", "", {"final_norm": ()}
    for name in filter(None, base):
        yield "final_norm", name, {"final_norm": (ModulePath(name),)}
        yield "embedding", name, {"embedding": name}
        if isinstance(base[name], nn.ModuleList) and name != declared.blocks:
            yield "blocks", name, {"blocks": name}


def reading(architecture, task, stack, key):
    """The tensors that a key of the file says how to read; None where the module itself matters."""
    hidden = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    if key == "final_norm":
        for module in architecture.final_norm(stack):
            hidden = module(hidden)
        return [hidden]
    if key == "head":
        return [architecture.logits_of(hidden, task)]
    if not stack or (key != "embedding" and key not in architecture.stack(stack).sites):
        return None
    layers = [None] if key == "embedding" else architecture.layers_with(key, stack)
    feed = Feed.of({s: torch.arange(11, 20 if s == "decoder" else 23) for s in architecture.stacks})
    return list(read(architecture.model, architecture, feed, [(stack, key, n) for n in layers])[0].values())


def changes_what_is_read(wrong, right, task, stack, key):
    """Whether a mutation makes a difference: much of what enters a module also leaves another."""
    expected = reading(right, task, stack, key)
    if expected is None:
        return True
    try:
        found = reading(wrong, task, stack, key)
        same = [a.shape == b.shape and torch.allclose(a, b, atol=1e-5) for a, b in zip(found, expected, strict=True)]
    except Exception:
        return True
    return not all(same)


@torch.no_grad()
def survivors(model_type, task, most=None):
    """How many mutations change what is read, and those of them that are not caught."""
    right = opened(model_type, task)
    every, tried, alive = list(mutations(right, task)), 0, []
    random.Random(0).shuffle(every)
    for (stack, key, what), structure in every:
        if tried == most:
            break
        try:
            wrong = Architecture(structure, right.model)
        except ecco.ArchitectureError:
            tried += 1
            continue
        if changes_what_is_read(wrong, right, task, stack, key):
            tried += 1
            if not verify(right.model, wrong, task).failed:
                alive.append((stack, key, what))
    return tried, alive


@pytest.mark.parametrize(("model_type", "task"), FAMILIES)
def test_some_wrong_lines_of_each_file_are_caught(model_type, task):
    tried, alive = survivors(model_type, task, MOST)
    assert (tried, alive) == (MOST, [])


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "task"), FAMILIES)
def test_all_wrong_lines_of_a_file_are_caught(model_type, task):
    tried, alive = survivors(model_type, task)
    assert tried > 70  # docs/models.md tells how many there are in all
    assert not alive
