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
from ecco_core.registry.structure import ModulePath, Site, Value

FAMILIES = [
    ("llama", "causal"), ("bert", "masked"), ("gpt2", "causal"), ("t5", "seq2seq"), ("bart", "seq2seq"),
    ("mixtral", "causal"), ("falcon", "causal"), ("opt", "causal"), ("phi", "causal"), ("mamba", "causal"),
    ("gptj", "causal"), ("gpt_neo", "causal"), ("bloom", "causal"), ("mpt", "causal"), ("mpnet", "masked"),
    ("deberta-v2", "masked"), ("rwkv", "causal"), ("gemma2", "causal"), ("granite", "causal"), ("qwen2_moe", "causal"),
]  # fmt: skip
PER_FAMILY = 10  # mutations of each file in the short test


@pytest.fixture(autouse=True)
def one_thread():
    """Small models on several threads are slow on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def mutations(right):
    """What is changed, and the structure with one path, side or scale replaced by every other that there is."""
    structure = right.structure
    named = [name for name, _ in right.model.named_modules() if name]
    base = [name for name, _ in right._base.named_modules() if name]
    lists = [name for name, module in right._base.named_modules() if isinstance(module, nn.ModuleList)]
    for stack in right.stacks:
        declared = structure.stacks[stack]
        blocks = [module for layer in range(right.n_layers(stack)) for module in right._block(stack, layer).named_modules()]
        inside = sorted({name for name, _ in blocks if name})

        def changed(stack=stack, declared=declared, **changes):
            return attrs.evolve(structure, stacks={**structure.stacks, stack: attrs.evolve(declared, **changes)})

        for site, places in declared.sites.items():
            others = [Site(name, side, places[0].scale, places[0].optional) for name in inside for side in ("input", "output")]
            for place in (*others, *(attrs.evolve(p, scale=Value(number=2.0)) for p in places)):
                if place not in places:
                    yield (stack, site, str(place)), changed(sites={**declared.sites, site: (place,)})
        for key in ("attention", "cross_attention", "experts"):
            path = getattr(declared, key)
            for name in inside if path else ():
                if name != path.path:
                    yield (stack, key, name), changed(**{key: ModulePath(name, path.optional)})
        for site, norm in declared.norms.items():
            for name in (n for n in inside if n != norm):
                yield (stack, f"norm of {site}", name), changed(norms={**declared.norms, site: name})
        for name in base:
            yield (stack, "final_norm", name), changed(final_norm=(ModulePath(name),))
            yield (stack, "embedding", name), changed(embedding=name)
        yield (stack, "final_norm", ""), changed(final_norm=())
        for name in (n for n in lists if n != declared.blocks):
            yield (stack, "blocks", name), changed(blocks=name)
    for task, paths in structure.heads.items():
        if right.head(task):
            for n in range(len(paths)):
                for name in (*named, ""):
                    other = (*paths[:n], *([ModulePath(name)] if name else []), *paths[n + 1 :])
                    yield ("", f"head {task}", f"{n} {name}"), attrs.evolve(structure, heads={**structure.heads, task: other})
    for key, value in attrs.asdict(structure.logits, recurse=False).items():
        if value:
            gone = attrs.evolve(structure.logits, **{key: "" if key == "bias" else None})
            yield ("", f"logits {key}", ""), attrs.evolve(structure, logits=gone)


def reading(architecture, task, what):
    """What is read where a mutation changed something."""
    stack, key, _ = what
    model = architecture.model
    feed = Feed.of({s: torch.arange(11, 20 if s == "decoder" else 23) for s in architecture.stacks})
    if key in ("attention", "cross_attention", "experts") or key.startswith(("norm of", "logits")):
        return None
    if key == "final_norm":
        hidden = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
        for module in architecture.final_norm(stack):
            hidden = module(hidden)
        return [hidden]
    if key.startswith("head"):
        return None if key != f"head {task}" else [
            architecture.logits_of(torch.randn(4, 32, generator=torch.Generator().manual_seed(0)), task)]
    if key == "blocks":
        return [[module for module in architecture._blocks[stack]]]
    layers = [None] if key == "embedding" else architecture.layers_with(key, stack)
    keys = [(stack, key, layer) for layer in layers]
    return list(read(model, architecture, feed, keys)[0].values())


def the_same(one, other):
    if one is None or other is None or len(one) != len(other):
        return False
    return all(
        a is b or (isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and a.shape == b.shape and torch.allclose(a, b, atol=1e-5))
        for a, b in zip(one, other, strict=True)
    )


def survivors(model_type, task, most=None):
    """The number of mutations that change what is read, and those of them that verify does not catch."""
    model = tiny_model(model_type, task)
    right = Architecture(lookup.require(model_type).structure, model)
    right.structure = attrs.evolve(right.structure, variants=())
    every = list(mutations(right))
    random.Random(0).shuffle(every)
    true, tried, alive = {}, 0, []
    for what, structure in every:
        if what[1].startswith("head") and what[1] != f"head {task}":
            continue
        if tried == most:
            break
        with torch.no_grad():
            try:
                wrong = Architecture(structure, model)
                stated = true.setdefault(what[:2], None) or reading(right, task, what)
                true[what[:2]] = stated
                try:
                    if the_same(reading(wrong, task, what), stated):
                        continue
                except Exception:
                    pass
                tried += 1
                failed = verify(model, wrong, task).failed
            except ecco.EccoError:
                tried += 1
                continue
        if not failed:
            alive.append(what)
    return tried, alive
