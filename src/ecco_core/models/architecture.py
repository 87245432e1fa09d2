"""Architecture: a Structure resolved against a live model, so that a site becomes a module."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import attrs
import torch
from torch import nn

from ecco_core.errors import ArchitectureError, OptionError, did_you_mean, listed
from ecco_core.models.attention import routable
from ecco_core.registry import structure as s

Part = s.Side | Literal["q", "k", "v", "pattern"]


@attrs.frozen
class Place:
    """What enters or leaves one module of a live model, or a part of the attention that it computes.

    Attributes:
        call: which of the calls of the module in one forward of another module is meant; any if None.
        scale: what is read is multiplied by it, what is written divided.
    """

    module: nn.Module
    side: Part
    call: tuple[int, nn.Module] | None = None
    scale: float = 1.0


class Architecture:
    """Where the parts of `model` are.

    Args:
        structure: the declared paths. `model`: a transformers model with or without a head.

    Attributes:
        structure: the same, with the variants that fit this model's config applied.

    Raises:
        ArchitectureError: a declared module is not there; the message has the nearest module names.
    """

    def __init__(self, structure: s.Structure, model: Any) -> None:
        self.structure = structure.for_config(model.config)
        self.model: Any = model
        self._base: nn.Module = s.base_of(model)
        self._blocks: dict[str, nn.ModuleList] = {}
        self._paths: dict[tuple[str, str], dict[int, s.Site]] = {}
        stacks = self.structure.stacks
        there = [name for name, stack in stacks.items() if hasattr(self._base, stack.blocks.split(".")[0])]
        for name in there or stacks:  # a seq2seq model's encoder alone has one of them
            stack = stacks[name]
            self._blocks[name] = self._block_list(name, stack)
            self.final_norm(name)
            self.embedding(name)
            for site, places in stack.sites.items():
                self._paths[name, site] = self._placed(name, site, places)
            for key in ("attention", "cross_attention", "experts"):
                path = getattr(stack, key)
                for layer in range(self.n_layers(name)) if path else ():
                    self._modules(self._block(name, layer), [path], f"stacks.{name}.{key}")

    def _block_list(self, name: str, stack: s.StackStructure) -> nn.ModuleList:
        key = f"stacks.{name}.blocks"
        blocks = self._resolve(self._base, stack.blocks, key)
        if not isinstance(blocks, nn.ModuleList) or not len(blocks):
            found = type(blocks).__name__
            raise self._wrong(key, f"{stack.blocks!r} is a {found}; expected a non-empty ModuleList")
        return blocks

    def _placed(self, stack: str, site: str, places: tuple[s.Site, ...]) -> dict[int, s.Site]:
        """Layer -> the first of the places that its block has."""
        found: dict[int, s.Site] = {}
        for layer in range(self.n_layers(stack)):
            block = self._block(stack, layer)
            there = next((p for p in places if _submodule(block, p.path) is not None), None)
            if there:
                found[layer] = there
            elif not any(place.optional for place in places):
                self._resolve(block, places[0].path, f"stacks.{stack}.sites.{site}")
        return found

    def _resolve(self, root: nn.Module, path: str, key: str) -> nn.Module:
        module = _submodule(root, path)
        if module is None:
            names = [name for name, _ in root.named_modules() if name]
            near = did_you_mean(path, names) or f" There are: {listed(n for n, _ in root.named_children())}."
            raise self._wrong(key, f"no module {path!r} in {type(root).__name__}", near)
        return module

    def _wrong(self, key: str, what: str, near: str = "") -> ArchitectureError:
        return ArchitectureError(f"{self.structure.located(key)}: {what}.{near}")

    def _modules(self, root: nn.Module, paths: Iterable[s.ModulePath], key: str) -> list[nn.Module]:
        """The modules at some paths, without the optional ones that are missing."""
        wanted = (path for path in paths if not path.optional or _submodule(root, path.path) is not None)
        return [self._resolve(root, path.path, key) for path in wanted]

    @property
    def stacks(self) -> tuple[str, ...]:
        """Names of the stacks that the model has."""
        return tuple(self._blocks)

    def stack(self, name: str) -> s.StackStructure:
        """Return the declared layout of a stack.

        Raises:
            OptionError: no such stack.
        """
        if name not in self._blocks:
            raise OptionError(f"No stack {name!r}; this model has {listed(self._blocks)}.")
        return self.structure.stacks[name]

    def n_layers(self, stack: str) -> int:
        """Number of layers of a stack."""
        key = self.stack(stack).layers
        return int(getattr(self.model.config, key)) if key else len(self._blocks[stack])

    def sites(self, stack: str) -> tuple[str, ...]:
        """Names of all sites that can be read in a stack."""
        implied = [site for site in s.IMPLIED_SITES if site != "logits" or self._has_logits(stack)]
        declared = [site for (of, site), by_layer in self._paths.items() if of == stack and by_layer]
        inside = []
        for site in s.INSIDE_ATTENTION:
            modules = (self.attention(layer, stack, site) for layer in range(self.n_layers(stack)))
            if any(module and (site.endswith("pattern") or routable(module)) for module in modules):
                inside.append(site)  # all report their patterns; the rest is read where the attention can be watched
        return (*implied, *declared, *inside)

    def _has_logits(self, stack: str) -> bool:
        """Whether the model has a head, and it is this stack that ends in it."""
        if self.model is self._base and not any(map(self.head, self.structure.heads)):  # T5 is its own base model
            return False
        return len(self._blocks) == 1 or stack == "decoder" or self.model.get_output_embeddings() is None

    def layers_with(self, site: str, stack: str) -> tuple[int, ...]:
        """Layers that have a site, ascending."""
        if (stack, site) in self._paths:
            return tuple(self._paths[stack, site])
        layers = range(self.n_layers(stack))
        return tuple(n for n in layers if site not in s.INSIDE_ATTENTION or self.attention(n, stack, site))

    def final_norm(self, stack: str) -> list[nn.Module]:
        """What comes after the last block and before the head, in order."""
        return self._modules(self._base, self.stack(stack).final_norm, f"stacks.{stack}.final_norm")

    def normed(self, hidden: torch.Tensor, stack: str) -> torch.Tensor:
        """Pass hidden states ``(…, unit)`` of a stack's stream through its final norms."""
        for norm in self.final_norm(stack):
            hidden = norm(hidden)
        return hidden

    def norm_after(self, added: str, layer: int, stack: str) -> nn.Module | None:
        """The norm that follows the sum with what `added` adds, in a post-norm block."""
        path = self.stack(stack).norms.get(added)
        return self._resolve(self._block(stack, layer), path, f"stacks.{stack}.norms.{added}") if path else None

    def attention(self, layer: int, stack: str, site: str = "pattern") -> nn.Module | None:
        """The module that runs the attention function which a site is part of, None where a layer has none."""
        declared = self.stack(stack)
        path = declared.cross_attention if site.startswith("cross_") else declared.attention
        return _submodule(self._block(stack, layer), path.path) if path else None

    def experts(self, layer: int, stack: str) -> nn.Module | None:
        """The module that holds fused expert weights in a layer, None where there is none."""
        path = self.stack(stack).experts
        return _submodule(self._block(stack, layer), path.path) if path else None

    def _block(self, stack: str, layer: int) -> nn.Module:
        return self._blocks[stack][self._shared(stack, layer)[0]]

    def _shared(self, stack: str, layer: int) -> tuple[int, tuple[int, nn.Module] | None]:
        """Index of the block of a layer and, where layers share blocks, which of its calls the layer is."""
        n, blocks = self.n_layers(stack), len(self._blocks[stack])
        if n == blocks:
            return layer, None
        each = n // blocks
        return layer // each, (layer % each, self._base)

    def embedding(self, stack: str) -> Place:
        """What the embedding of a stack's tokens returns."""
        path = self.stack(stack).embedding
        if path:
            return Place(self._resolve(self._base, path, f"stacks.{stack}.embedding"), "output")
        module = self.model.get_input_embeddings()
        if not isinstance(module, nn.Module):
            raise OptionError(f"{type(self.model).__name__} has no embedding: get_input_embeddings() returns nothing.")
        return Place(module, "output")

    def head(self, task: str) -> list[nn.Module]:
        """The modules from the last hidden state to logits for a task, in order; empty if none is declared."""
        paths = self.structure.heads.get(task, ())
        if all(_submodule(self.model, path.path) is None for path in paths):
            return []
        return self._modules(self.model, paths, f"heads.{task}")

    def logits_of(self, hidden: torch.Tensor, task: str) -> torch.Tensor:
        """Turn normed last hidden states ``(…, unit)`` into logits ``(…, vocabulary)`` as the model does."""
        declared, config = self.structure.logits, self.model.config
        for module in self.head(task):
            weight = next(module.parameters(), hidden)  # Mamba's stream is float32 whatever its head is
            hidden = module(hidden.to(weight.dtype))
        if declared.bias:
            hidden = hidden + self._tensor(declared.bias).to(hidden.device)
        scale, cap = (value.of(config) if value else None for value in (declared.scale, declared.cap))
        hidden = hidden if scale is None else hidden * scale
        return hidden if cap is None else cap * torch.tanh(hidden / cap)

    def _tensor(self, path: str) -> torch.Tensor:
        owner, _, name = path.rpartition(".")
        tensor = getattr(self._resolve(self.model, owner, "logits.bias"), name, None)
        if not isinstance(tensor, torch.Tensor):
            raise self._wrong("logits.bias", f"no tensor {path!r} in {type(self.model).__name__}")
        return tensor

    def place(self, site: str, layer: int | None, stack: str) -> Place:
        """Return the module and side to read for a site.

        Raises:
            OptionError: no such site, no such layer, or the layer does not have it.
        """
        if site not in self.sites(stack):
            raise OptionError(self._unknown(site, stack))
        if site == "embedding":
            return self.embedding(stack)
        if site == "logits":
            head = self.model.get_output_embeddings()  # a classifier has none: what leaves the model itself is read
            return Place(head if isinstance(head, nn.Module) else self.model, "output")
        n = self.n_layers(stack)
        if layer is None or not 0 <= layer < n:
            raise OptionError(f"No layer {layer}; the {stack} has layers 0 to {n - 1}.")
        index, call = self._shared(stack, layer)
        if site in ("resid_pre", "resid_post"):
            return Place(self._blocks[stack][index], "input" if site == "resid_pre" else "output", call)
        if layer not in self.layers_with(site, stack):
            why, have = self._fused(site, layer, stack), listed(map(str, self.layers_with(site, stack)), 40)
            raise OptionError(f"Layer {layer} of the {stack} has no {site}{why}; the layers that have it: {have}.")
        if site in s.INSIDE_ATTENTION:
            part: Any = site.removeprefix("cross_")
            return Place(self.attention(layer, stack, site), part, call)  # type: ignore[arg-type]
        found = self._paths[stack, site][layer]
        scale = found.scale.of(self.model.config) if found.scale else None
        module = self._resolve(self._block(stack, layer), found.path, f"stacks.{stack}.sites.{site}")
        return Place(module, found.side, call, 1.0 if scale is None else scale)

    def _unknown(self, site: str, stack: str) -> str:
        sites = self.sites(stack)
        found = f"No site {site!r} in the {stack} of this {self.model.config.model_type} model"
        others = [other for other in self.stacks if other != stack and site in self.sites(other)]
        if others:
            return f"{found}; its {others[0]} has it: name stack={others[0]!r}."
        return f"{found}{self._fused(site, 0, stack)}.{did_you_mean(site, sites)} It has: {listed(sites, 20)}."

    def _fused(self, site: str, layer: int, stack: str) -> str:
        """Why the neurons of a layer of experts cannot be read."""
        if site == "mlp_post" and self.experts(layer, stack) is not None:
            return " (the weights of its experts are fused in one module, inside of which the neurons do not pass)"
        return ""


def _submodule(root: nn.Module, path: str) -> nn.Module | None:
    """Return the module at a path, None if there is none."""
    try:
        return root.get_submodule(path)
    except AttributeError:
        return None
