"""Architecture: a Structure resolved against a live model, so that a site becomes a module."""

from __future__ import annotations

import attrs
from torch import nn

from ecco_core.errors import ArchitectureError, OptionError, did_you_mean, listed
from ecco_core.models.structure import IMPLIED_SITES, OUTSIDE_BLOCKS, Side, StackStructure, Structure


@attrs.frozen
class Place:
    """What enters or leaves one module of a live model."""

    module: nn.Module
    side: Side


class Architecture:
    """Where the parts of `model` are.

    Args:
        structure: the declared paths. `model`: a transformers model with or without a head.

    Raises:
        ArchitectureError: a declared module is not there; the message has the nearest module names.
    """

    def __init__(self, structure: Structure, model: nn.Module) -> None:
        self.structure = structure
        self._model = model
        base = getattr(model, "base_model", model)
        self._blocks: dict[str, nn.ModuleList] = {}
        for name, stack in structure.stacks.items():
            blocks = self._resolve(base, stack.blocks, f"stacks.{name}.blocks")
            if not isinstance(blocks, nn.ModuleList) or not len(blocks):
                raise ArchitectureError(
                    f"{structure.origin}: stacks.{name}.blocks: {stack.blocks!r} is a {type(blocks).__name__}; "
                    "expected a non-empty ModuleList."
                )
            self._blocks[name] = blocks
            if stack.final_norm:
                self._resolve(base, stack.final_norm, f"stacks.{name}.final_norm")
            for site, place in stack.sites.items():
                self._resolve(blocks[0], place.path, f"stacks.{name}.sites.{site}")

    def _resolve(self, root: nn.Module, path: str, key: str) -> nn.Module:
        try:
            return root.get_submodule(path)
        except AttributeError as error:
            names = [name for name, _ in root.named_modules() if name]
            near = did_you_mean(path, names) or f" There are: {listed(n for n, _ in root.named_children())}."
            raise ArchitectureError(
                f"{self.structure.origin}: {key}: no module {path!r} in {type(root).__name__}.{near}"
            ) from error

    def stack(self, name: str) -> StackStructure:
        """Return the declared layout of a stack.

        Raises:
            OptionError: no such stack.
        """
        if name not in self.structure.stacks:
            raise OptionError(f"No stack {name!r}; this model has {listed(self.structure.stacks)}.")
        return self.structure.stacks[name]

    def n_layers(self, stack: str = "decoder") -> int:
        """Number of blocks of a stack."""
        self.stack(stack)
        return len(self._blocks[stack])

    def sites(self, stack: str = "decoder") -> tuple[str, ...]:
        """Names of all sites that can be read in a stack."""
        return (*IMPLIED_SITES, *self.stack(stack).sites)

    def final_norm(self, stack: str = "decoder") -> nn.Module | None:
        """The norm after the last block, or None."""
        path = self.stack(stack).final_norm
        return self._resolve(getattr(self._model, "base_model", self._model), path, "final_norm") if path else None

    def place(self, site: str, layer: int | None, stack: str = "decoder") -> Place:
        """Return the module and side to read for a site.

        Raises:
            OptionError: no such site, or no such layer.
        """
        declared = self.stack(stack).sites
        if site not in self.sites(stack):
            raise OptionError(
                f"No site {site!r} in the {stack} of this {self.structure.model_types[0]} model."
                f"{did_you_mean(site, self.sites(stack))} It has: {listed(self.sites(stack), 20)}."
            )
        if site in OUTSIDE_BLOCKS:
            return Place(self._outside(site), "output")
        blocks = self._blocks[stack]
        if layer is None or not 0 <= layer < len(blocks):
            raise OptionError(f"No layer {layer}; the {stack} has layers 0 to {len(blocks) - 1}.")
        if site in ("resid_pre", "resid_post"):
            return Place(blocks[layer], "input" if site == "resid_pre" else "output")
        module = self._resolve(blocks[layer], declared[site].path, f"stacks.{stack}.sites.{site}, layer {layer}")
        return Place(module, declared[site].side)

    def _outside(self, site: str) -> nn.Module:
        getter = "get_input_embeddings" if site == "embedding" else "get_output_embeddings"
        module = getattr(self._model, getter)()
        if not isinstance(module, nn.Module):
            raise OptionError(f"{type(self._model).__name__} has no {site}: {getter}() returns nothing.")
        return module
