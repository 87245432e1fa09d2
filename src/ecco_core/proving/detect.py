"""Detect: propose the Structure of a model that no file covers from one traced forward pass, and prove it.

Parts are found by the numbers that pass through them; names only order what the numbers leave open.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import nn

from ecco_core.errors import ArchitectureError, one_line
from ecco_core.models.architecture import Architecture
from ecco_core.models.feed import Feed
from ecco_core.models.hooks import evaluating
from ecco_core.proving.block_steps import HALF, Block, rows, same, sites_of
from ecco_core.proving.tracing import Call, traced
from ecco_core.proving.verify import Verification, verify
from ecco_core.registry.structure import (
    ADDED_SITES,
    ATTENTION_SITES,
    DECLARED_SITES,
    HEAD_TASKS,
    INSIDE_ATTENTION,
    Logits,
    ModulePath,
    Site,
    StackStructure,
    Structure,
    Value,
    base_of,
)

_SCALES = re.compile(r"scal|multipl|alpha|factor|temper|cap")
_WIDTHS = ("d_model", "hidden_size", "n_embd", "dim")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers")
_ORDER = ("attn_out", "z", "mixer_out", "cross_attn_out", "cross_z", "resid_mid", "mlp_post", "mlp_out", "router")
EXACT = 1e-4  # relative, of logits
MOST_MODULES = 4  # in a row, from the last block to the final norm's end or from there to the logits


@attrs.frozen
class Detection:
    """A proposed structure, what could not be proven about it, and the proof.

    Attributes:
        notes: one sentence per site that is not there or was dropped, with the reason.
    """

    structure: Structure
    notes: tuple[str, ...]
    verification: Verification


@attrs.frozen(eq=False)
class _Chain:
    """Blocks in a row: the path of their list, the calls by layer, and how many layers share a block."""

    name: str
    calls: Sequence[Call]
    shared: int

    @property
    def size(self) -> int:
        return sum(p.numel() for module in {c.module for c in self.calls} for p in module.parameters())


class _Detector:
    """Everything that is known about one model."""

    def __init__(self, model: Any, task: str | None) -> None:
        self.model, self.config = model, model.config
        self.modules: dict[str, nn.Module] = dict(model.named_modules())
        self.base = next((name for name, module in self.modules.items() if module is base_of(model)), "")
        self.feed = _feed(model, ("encoder", "decoder") if self.config.is_encoder_decoder else ("decoder",))
        try:
            self.trace = traced(model, self.feed)
        except Exception as error:
            raise self.refused(f"it does not run on token ids alone ({one_line(error, 200)})") from error
        self.chains = self._by_stack()
        self.logits = getattr(self.trace.output, "logits", None)
        self.task = task or self._task()

    def refused(self, why: str) -> ArchitectureError:
        """The error of a layout that cannot be proven."""
        return ArchitectureError(
            f"The layout of this {self.config.model_type} model cannot be proven: {why}. Write a model file as "
            "docs/models.md shows."
        )

    def from_base(self, name: str) -> str:
        """The path of a module from the base model."""
        return name.removeprefix(f"{self.base}." if self.base else "")

    # blocks

    def _by_stack(self) -> dict[str, _Chain]:
        """Stack -> its blocks: of several lists of blocks, the one with most parameters."""
        found = [
            chain for name, m in self.modules.items() if isinstance(m, nn.ModuleList) for chain in self._chain(name, m)
        ]
        outer = [c for c in found if not any(re.match(rf"{re.escape(o.name)}\.\d", c.name) for o in found)]
        stacks = {}
        for stack, ids in self.feed.ids.items():
            of_stack = [c for c in outer if len(rows(c.calls[0].left)) == ids.numel()]  # type: ignore[arg-type]
            if not of_stack:
                raise self.refused("there is no ModuleList whose members hand one stream of tokens on to each other")
            stacks[stack] = max(of_stack, key=lambda c: c.size)
        if list(stacks) == ["decoder"] and not self._causal(stacks["decoder"]):
            stacks = {"encoder": stacks["decoder"]}
            self.feed = Feed({"encoder": self.feed.ids["decoder"]}, {"encoder": self.feed.lengths["decoder"]})
        return stacks

    def _chain(self, name: str, module: nn.ModuleList) -> Iterator[_Chain]:
        members = {f"{name}.{i}": i for i in range(len(module))}
        calls = sorted((c for c in self.trace.calls if c.name in members), key=lambda c: c.began)
        shared = len(calls) // max(len(members), 1)
        in_order = [members[c.name] for c in calls] == [layer // max(shared, 1) for layer in range(len(calls))]
        one_stream = all(rows(c.left) is not None and rows(c.entered) is not None for c in calls) and all(
            same(one.left, other.entered) for one, other in itertools.pairwise(calls)
        )
        if shared and in_order and one_stream and calls[0].left.shape == calls[0].entered.shape:  # type: ignore[union-attr]
            yield _Chain(name, calls, shared)

    def _causal(self, chain: _Chain) -> bool:
        """Whether earlier tokens stay the same when the last one changes."""
        ids = self.feed.ids["decoder"].clone()
        ids[:, -1] = (ids[:, -1] + 1) % _vocabulary(self.model)
        other = rows(traced(self.model, Feed({"decoder": ids}, self.feed.lengths)).of(chain.calls[-1].name)[-1].left)
        first = rows(chain.calls[-1].left)
        return first is not None and other is not None and same(first[:-1], other[:-1], 1e-3)

    # what is around the blocks

    def _task(self) -> str:
        logits, last = rows(self.logits), list(self.chains)[-1]
        if logits is None or logits.shape[1] < _vocabulary(self.model) or len(logits) != self.feed.ids[last].numel():
            return "backbone"
        if len(self.chains) > 1:
            return "seq2seq"
        return "causal" if last == "decoder" or re.search("Causal|LMHead", type(self.model).__name__) else "masked"

    def body(self, stack: str) -> Call:
        """The outermost module around a stack's blocks that returns their stream."""
        parts = self.chains[stack].name.split(".")
        others = [chain.name for name, chain in self.chains.items() if name != stack]
        for depth in range(len(parts)):
            name = ".".join(parts[:depth])
            around_others = any(not name or other.startswith(f"{name}.") for other in others)
            call = next(iter(self.trace.of(name)[-1:]), None)
            if call is None or around_others or (not name and self.logits is not None):
                continue
            left = rows(call.left)
            if left is not None and len(left) == self.feed.ids[stack].numel():
                return call
        return self.chains[stack].calls[-1]

    def routes(self, start: torch.Tensor | None, after: int) -> Iterator[tuple[list[str], torch.Tensor | None]]:
        """Modules in a row outside of the blocks, by what they pass on to each other; shortest rows first."""
        blocks = [chain.name for chain in self.chains.values()]
        outside = [
            call
            for call in sorted(self.trace.calls, key=lambda c: c.name.count("."))
            if call.began > after
            and not any(b.startswith(f"{call.name}.") or call.name.startswith(f"{b}.") for b in blocks)
        ]
        ends: list[tuple[list[str], torch.Tensor | None]] = [([], start)]
        for _ in range(MOST_MODULES + 1):
            yield from ends
            ends = [
                ([*names, call.name], call.left)
                for names, tensor in ends
                for call in outside
                if _handed(tensor, call) and not same(call.left, tensor)
            ]

    def final_norm(self, stack: str) -> tuple[ModulePath, ...]:
        """The modules between the last block and the head."""
        last, body = self.chains[stack].calls[-1], self.body(stack)
        for names, tensor in self.routes(last.left, last.ended):
            if same(tensor, body.left):
                return tuple(ModulePath(self.from_base(name)) for name in names)
        raise self.refused(f"no modules in a row lead from the last block of the {stack} to what {body.name!r} returns")

    def head(self) -> tuple[tuple[ModulePath, ...], Logits]:
        """The modules from the last hidden state to the logits, and what happens to these."""
        stack = list(self.chains)[-1]
        body = self.body(stack)
        for names, tensor in self.routes(body.left, self.chains[stack].calls[-1].ended):
            declared = self._logits(tensor) if names else None
            if declared:
                return tuple(map(ModulePath, names)), declared
        for call in self.trace.calls:  # a head whose input is scaled
            if call.projects and call.began > body.began and _ratio(call.entered, body.left):
                with evaluating(self.model), torch.no_grad():
                    declared = self._logits(call.module(body.left))
                if declared:
                    return (ModulePath(call.name),), declared
        raise self.refused(f"no modules in a row lead from what {body.name!r} returns to the logits")

    def _logits(self, left: torch.Tensor | None) -> Logits | None:
        """What turns a head's output into the logits: bias, scale, cap."""
        made, logits = rows(left), rows(self.logits)
        if made is None or logits is None or made.shape != logits.shape:
            return None
        tensors = itertools.chain(self.model.named_buffers(), self.model.named_parameters())
        biases = [(name, t) for name, t in tensors if t.numel() == logits.shape[1] and t.is_floating_point()]
        caps = [k for k, v in vars(self.config).items() if "cap" in k and isinstance(v, (int, float)) and v > 0]
        fits = []
        for cap in (None, *caps):
            bound = getattr(self.config, cap) if cap else None
            before = bound * torch.atanh(logits / bound) if bound else logits
            for name, bias in (("", 0.0), *biases):
                added = bias.detach().double().flatten().cpu() if isinstance(bias, torch.Tensor) else bias
                fits.append((*_fit(before, made + added), name, cap))
        most = HALF.get(next(self.model.parameters()).dtype, EXACT)
        near = next((fit for fit in fits if fit[1] <= EXACT), min(fits, key=lambda fit: fit[1]))
        ratio, error, name, cap = near
        if error > most:
            return None
        scale = None if abs(ratio - 1) < most else explained(ratio, self.config, "logit")
        return Logits(bias=name, scale=scale, cap=Value(key=cap) if cap else None)

    def embedding(self, stack: str) -> str:
        """The path of a stack's embedding, from the base model; empty if the model itself names it."""
        ids = self.feed.ids[stack]
        takers = [
            call for call in self.trace.calls
            if call.entered is not None and call.entered.numel() == ids.numel()
            and not call.entered.is_floating_point() and bool((call.entered.flatten() == ids.flatten()).all())
            and rows(call.left) is not None
        ]  # fmt: skip
        if len(self.chains) == 1 and any(call.module is self.model.get_input_embeddings() for call in takers):
            return ""
        takers = [call for call in takers if not any(True for _ in call.module.children())]
        if not takers:
            raise self.refused(f"no embedding was found that takes the token ids of the {stack}")
        return self.from_base(takers[0].name)

    # stacks

    def stack(self, name: str) -> StackStructure:
        """The layout of one stack."""
        chain = self.chains[name]
        blocks = [Block(self.trace, call) for call in chain.calls]
        layers = [sites_of(block, lambda number: explained(number, self.config, "resid")) for block in blocks]
        _one_mixer([sites for sites, _ in layers])
        fused = [block.fused() for block in blocks]
        paths = {cross: self._attention(blocks, cross) for cross in (False, True)}
        return StackStructure(
            blocks=self.from_base(chain.name),
            layers=self._layers_key(chain),
            embedding=self.embedding(name),
            final_norm=self.final_norm(name),
            attention=paths[False],
            cross_attention=paths[True],
            norms=layers[0][1],  # of all layers: the proof tells
            experts=_most(
                [next(iter(f), None) if s.get("router") else None for f, (s, _) in zip(fused, layers, strict=True)]
            ),
            sites=merged([sites for sites, _ in layers]),
        )

    def _attention(self, blocks: Sequence[Block], cross: bool) -> ModulePath | None:
        return _most([next((b.path(a.name) for a in b.attended if a.cross == cross), None) for b in blocks])

    def _layers_key(self, chain: _Chain) -> str:
        if chain.shared == 1:
            return ""
        key = next((k for k in _LAYERS if getattr(self.config, k, None) == len(chain.calls)), None)
        if key is None:
            raise self.refused(
                f"its blocks {chain.name!r} are passed {chain.shared} times, which no key of its config tells"
            )
        return key

    def structure(self) -> Structure:
        """The whole layout."""
        head, logits = self.head() if self.task in HEAD_TASKS else ((), Logits())
        return Structure(
            model_types=(self.config.model_type,),
            stacks={name: self.stack(name) for name in self.chains},
            heads={self.task: head} if head else {},
            logits=logits,
            origin="detected",
        )


def _feed(model: Any, stacks: Sequence[str]) -> Feed:
    """Ids for a trace, of another number in each stack."""
    size, device = _vocabulary(model), model.get_input_embeddings().weight.device
    rows_of = {"encoder": torch.arange(11, 23), "decoder": torch.arange(23, 32 if len(stacks) > 1 else 35)}
    return Feed.of({stack: (rows_of[stack] % size).to(device) for stack in stacks})


def _vocabulary(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])


def _handed(tensor: torch.Tensor | None, call: Call) -> bool:
    """Whether a tensor, in the precision of what enters a call, is what enters it: heads may be less precise."""
    entered = call.entered
    cast = tensor is not None and entered is not None and entered.is_floating_point()
    return same(entered, tensor.to(entered.dtype) if cast else tensor)  # type: ignore[union-attr]


def _ratio(one: torch.Tensor | None, other: torch.Tensor | None) -> float | None:
    """The positive number by which the other has to be multiplied to be the one, None if there is none."""
    a, b = rows(one), rows(other)
    if a is None or b is None or a.shape != b.shape:
        return None
    ratio, error = _fit(a, b)
    return ratio if error <= EXACT else None


def _fit(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float]:
    """The number by which `b` is nearest to `a`, and how far it is then; infinite if there is no positive one."""
    ratio = float((a * b).sum() / b.norm() ** 2)
    error = float((a - ratio * b).norm() / a.norm())
    return ratio, error if ratio > 0 and error >= 0 else math.inf


def _one_mixer(layers: Sequence[dict[str, list[Site]]]) -> None:
    """Call what leaves the same module in all layers by one name, where only some of these attend."""
    attending = {place for layer in layers for place in layer.get("attn_out", ())}
    for layer in layers:
        if "attn_out" not in layer and attending & set(layer.get("mixer_out", ())):
            layer["attn_out"] = layer.pop("mixer_out")


def _most(paths: Sequence[str | None]) -> ModulePath | None:
    """The path that most layers have."""
    common = Counter(path for path in paths if path).most_common(1)
    return ModulePath(common[0][0], optional=None in paths) if common else None


def merged(layers: Sequence[Mapping[str, Sequence[Site]]]) -> dict[str, tuple[Site, ...]]:
    """Site -> the fewest places that are it in all layers that have it."""
    found = {}
    for site in _ORDER:
        left = {n: list(layer[site]) for n, layer in enumerate(layers) if layer.get(site)}
        places: list[Site] = []
        lacking = len(left) < len(layers)
        while left:
            counts = Counter(place for options in left.values() for place in options)
            order = [place for options in left.values() for place in options]
            places.append(max(order, key=lambda place: counts[place]))
            left = {n: options for n, options in left.items() if places[-1] not in options}
        if places:
            optional = lacking or len(places) > 1
            found[site] = tuple(attrs.evolve(place, optional=optional) for place in places)
    return found


def explained(number: float, config: Any, hint: str) -> Value:
    """The config's key, with a power, that is a number - keys with the hint in their name first; else the number."""
    numbers = {
        k: v for k, v in vars(config).items() if isinstance(v, (int, float)) and not isinstance(v, bool) and v > 0
    }
    scales = sorted((k for k in numbers if _SCALES.search(k)), key=lambda k: hint not in k)
    for power, key in itertools.product((1.0, -1.0, -0.5, 0.5), (*scales, *(k for k in _WIDTHS if k in numbers))):
        if abs(numbers[key] ** power / number - 1) < 1e-4:
            return Value(key=key, power=power)
    return Value(number=float(f"{number:.6g}"))


def detect(model: Any, task: str | None = None) -> Detection:
    """Return the structure of a model, found by what passes through its modules, and proven.

    Args:
        task: what the model is for, one of TASKS; told from its output if left out.

    Raises:
        ArchitectureError: the layout cannot be proven.
    """
    detector = _Detector(model, task)
    structure, dropped = detector.structure(), dict[tuple[str, str], str]()
    for _ in range(len(DECLARED_SITES)):
        try:
            verification = verify(model, Architecture(structure, model), detector.task)
        except Exception as error:
            raise detector.refused(f"the proof of what was found ends in '{error}'") from error
        wrong = unproven(verification)
        basic = next((key for key in wrong if key[1] not in (*DECLARED_SITES, *INSIDE_ATTENTION)), None)
        if basic:
            raise detector.refused(f"what fails at {basic[1] or 'hooks'} of its {basic[0]} is this: {wrong[basic]}")
        if not wrong:
            notes = (*_unclear(Architecture(structure, model)), *_notes(verification, dropped))
            return Detection(structure, notes, verification)
        dropped |= wrong
        structure = without(structure, wrong)
    raise detector.refused("leaving out what is not proven leads to no end")


def detected(model: Any, task: str = "") -> Structure:
    """Return the structure of a model that no file covers, found and proven on the model itself.

    Raises:
        ArchitectureError: the layout cannot be proven.
    """
    return detect(model, task or None).structure


def _unclear(architecture: Architecture) -> Iterator[str]:
    """Say which layers' blocks add what no site names, and which scales are those of this model only."""
    for stack in architecture.stacks:
        sites = [site for site in ADDED_SITES if site in architecture.sites(stack)]
        named = {layer for site in sites for layer in architecture.layers_with(site, stack)}
        layers = [layer for layer in range(architecture.n_layers(stack)) if layer not in named]
        scaled = [name for name, places in architecture.stack(stack).sites.items() if any(map(_literal, places))]
        if scaled:
            yield f"{stack}: no key of the config is the scale of {', '.join(scaled)}; it is this model's."
        if layers:
            yield (
                f"{stack}: what the blocks of layers {layers} add to the stream is no sum of outputs of an attention, "
                "a cross attention, a mixer and an MLP."
            )


def _literal(place: Site) -> bool:
    return place.scale is not None and not place.scale.key


def unproven(verification: Verification) -> dict[tuple[str, str], str]:
    """(stack, site) -> what fails there, or that nothing says what it means; none if all that is declared is proven.

    Where a pattern times the values is not what was taken for the heads' output, it is this that is wrong.
    """
    wrong: dict[tuple[str, str], str] = {}
    mixing: dict[tuple[str, str], str] = {}
    for check in verification.checks:
        status = verification.sites(check.stack).get(check.site, "not there")
        declared = check.site in DECLARED_SITES or (check.site == "logits" and verification.task in HEAD_TASKS)
        if check.status == "failed" and check.identity == "mixing":
            mixing[check.stack, "cross_z" if check.site.startswith("cross_") else "z"] = check.detail
        elif check.status == "failed" or (declared and check.status == status == "not proven"):
            wrong.setdefault((check.stack, check.site), check.detail)
    attentions = {stack for stack, site in wrong if site in INSIDE_ATTENTION}  # without which nothing is mixed
    wrong |= {key: why for key, why in mixing.items() if key[0] not in attentions}
    makers = {"mlp_out": "mlp_post", "attn_out": "z", "cross_attn_out": "cross_z"}
    return {(stack, makers[site]): why for (stack, site), why in wrong.items() if site in makers} | wrong


def without(structure: Structure, wrong: Iterable[tuple[str, str]]) -> Structure:
    """The structure without sites, each a stack and a name; without an attention if a part of it is meant."""
    stacks = dict(structure.stacks)
    for name, site in wrong:
        changes: dict[str, Any] = {}
        for field in ("sites", "norms"):
            changes[field] = {key: value for key, value in getattr(stacks[name], field).items() if key != site}
        if site in INSIDE_ATTENTION:
            changes["cross_attention" if site.startswith("cross_") else "attention"] = None
        stacks[name] = attrs.evolve(stacks[name], **changes)
    return attrs.evolve(structure, stacks=stacks)


def _notes(verification: Verification, dropped: Mapping[tuple[str, str], str]) -> Iterator[str]:
    """Why sites are missing, or not proven: left out after a proof that failed, or never found."""
    told: dict[tuple[str, str], list[str]] = {}
    inside: dict[str, str] = {}
    for (stack, site), why in dropped.items():
        reason = inside.setdefault(stack, why) if site in ATTENTION_SITES else why
        told.setdefault((stack, f"left out; what fails: {reason.rstrip('.')}"), []).append(site)
    for check in verification.checks:
        known = (check.stack, check.site) in dropped or check.site in ("", "embedding", "logits", "resid_pre")
        if not known and check.status == verification.sites(check.stack)[check.site] != "proven":
            why = check.detail.replace("its file names none", "no module was found for it")
            if not why.startswith("it has no"):
                told.setdefault((check.stack, f"{check.status}: {why}"), []).append(check.site)
    for (stack, why), sites in told.items():
        names = list(dict.fromkeys(sites))
        yield f"{stack}: {', '.join(names)} {'is' if len(names) == 1 else 'are'} {why}."


def to_yaml(structure: Structure, notes: Sequence[str] = ()) -> str:
    """Return the text of a model file that declares a detected structure, the notes as comments at its head."""
    lines = [
        *(f"# {note}" for note in notes),
        "schema: 1",
        f"model_types: [{', '.join(structure.model_types)}]",
        "stacks:",
    ]
    for name, stack in structure.stacks.items():
        lines.append(f"  {name}:")
        for key in ("blocks", "layers", "embedding", "final_norm", "attention", "cross_attention", "norms", "experts"):
            value = getattr(stack, key)
            lines += [f"    {key}: {_written(value)}"] if value else []
        lines += ["    sites:"] if stack.sites else []
        lines += [f"      {site}: {_written(places)}" for site, places in stack.sites.items()]
    if structure.heads:
        lines.append(f"heads: {_written(structure.heads)}")
    logits = {key: value for key, value in attrs.asdict(structure.logits, recurse=False).items() if value}
    lines += [f"logits: {_written(logits)}"] if logits else []
    return "\n".join(lines) + "\n"


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_written(part)}" for key, part in value.items()) + "}"
    if isinstance(value, tuple):
        return _written(value[0]) if len(value) == 1 else "[" + ", ".join(map(_written, value)) + "]"
    return f'"{value}"' if isinstance(value, Site) else str(value)
