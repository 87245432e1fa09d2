"""Capture: what was read off a model in one forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from ecco_core.data.tokens import Tokens
from ecco_core.errors import OptionError, listed

if TYPE_CHECKING:
    import numpy as np
    import torch

Key = tuple[str, str, int | None]


@attrs.frozen(eq=False, repr=False)
class Capture:
    """Tensors by (stack, site, layer), each ``(token, unit)``, in the dtype they were read in.

    Attributes:
        tensors: (stack, site, layer) -> tensor; the layer of a site outside the blocks is None.
        tokens: stack -> the tokens along the first axis.
        stack: the stack that is meant where none is named.
    """

    tensors: Mapping[Key, torch.Tensor]
    tokens: Mapping[str, Tokens]
    stack: str = "decoder"

    def get(self, site: str, layer: int | None = None, stack: str | None = None) -> torch.Tensor:
        """Return what was captured at one place, ``(token, unit)``.

        Raises:
            OptionError: that place was not captured.
        """
        key = (stack or self.stack, site, layer)
        if key not in self.tensors:
            places = [f"{s} {n}" + ("" if k is None else f" {k}") for s, n, k in self.tensors]
            raise OptionError(f"{site} of layer {layer} was not captured; there are {listed(places)}.")
        return self.tensors[key]

    def layers(self, site: str, stack: str | None = None) -> tuple[int, ...]:
        """Layers at which `site` was captured, ascending."""
        wanted = stack or self.stack
        return tuple(sorted(k for s, n, k in self.tensors if s == wanted and n == site and k is not None))

    def stacked(self, site: str, stack: str | None = None) -> torch.Tensor:
        """Return all captured layers of `site` as one tensor ``(layer, token, unit)``, a copy."""
        import torch

        return torch.stack([self.get(site, layer, stack) for layer in self.layers(site, stack)])

    def numpy(self, site: str, layer: int | None = None, stack: str | None = None) -> np.ndarray:
        """Return a copy of one place as a numpy array ``(token, unit)``; bfloat16 becomes float32."""
        tensor = self.get(site, layer, stack).detach().cpu()
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy().copy()

    def __repr__(self) -> str:
        sites = sorted({n for _, n, _ in self.tensors})
        return f"Capture({', '.join(sites)}; {len(self.tensors)} tensors)"
