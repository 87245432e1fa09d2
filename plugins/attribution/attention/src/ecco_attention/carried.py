"""What attention carries in a live layer: its output projection, and what comes before and after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ecco_core import ArchitectureError

if TYPE_CHECKING:
    import numpy as np

    from ecco_core import Run

_EXACT = {"float64": 1e-8, "float32": 1e-3}  # relative error within which two are the same; 0.05 in half precision


def projection(run: Run, site: str, layer: int, stack: str) -> tuple[Any, Any]:
    """Return the matrix ``(head × unit, output unit)`` and the bias, None without, of what the heads' outputs enter.

    Raises:
        ArchitectureError: it is another module.
    """
    from torch import nn

    module: Any = run.lm.architecture.place(site, layer, stack).module
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.Linear) and weight is not None and weight.is_floating_point():
        return weight.T, module.bias
    if type(module).__name__ == "Conv1D" and weight is not None:
        return weight, module.bias
    raise ArchitectureError(
        f"The output projection of layer {layer} is a {type(module).__name__}, whose matrix cannot be read; load the "
        "model without quantization or adapters."
    )


def require_made_of(run: Run, layer: int, pattern: np.ndarray, v: Any, z: Any) -> None:
    """Check that weights times values are what enters the output projection.

    Raises:
        ArchitectureError: something else comes in between.
    """
    import numpy as np

    values = double(v).repeat(len(pattern) // v.shape[1], axis=1)
    mixed = np.einsum("hqk,khd->qhd", pattern.astype(np.float64), values).reshape(len(pattern[0]), -1)
    entered = double(z)
    if mixed.shape != entered.shape or _differs(mixed, entered, z):
        raise ArchitectureError(
            f"In layer {layer} of this {run.lm.model_type} model, weights times values are not what enters the output "
            "projection (a gate or a norm comes in between), so their norms would mean nothing."
        )


def follows(z: Any, matrix: Any, bias: Any, added: Any) -> bool:
    """Whether what a layer adds to the stream is not what leaves the output projection: a norm or a factor follows."""
    left = double(z) @ double(matrix)
    return _differs(left if bias is None else left + double(bias), double(added), z)


def _differs(a: np.ndarray, b: np.ndarray, computed: Any) -> bool:
    import numpy as np

    limit = _EXACT.get(str(computed.dtype).removeprefix("torch."), 0.05)
    return bool(np.linalg.norm(a - b) > limit * np.linalg.norm(b))


def double(tensor: Any) -> np.ndarray:
    """A tensor as a float64 array."""
    found: np.ndarray = tensor.detach().cpu().double().numpy()
    return found
