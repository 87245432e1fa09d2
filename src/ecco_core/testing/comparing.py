"""Results, models and random states as values that can be compared."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np

from ecco_core.data.labelled import LabelledArray
from ecco_core.data.results import Provenance, Result

#: Kind -> field -> the names of its axes; None where the analysis names the axis.
DIMS: Mapping[str, Mapping[str, tuple[str | None, ...]]] = {
    "TokenScores": {"values": ("target", "source"), "completeness": ("target",), "change": ("target",)},
    "TokenGrid": {"values": (None, None)},
    "Predictions": {"values": (None, "rank")},
    "Patterns": {"values": ("layer", "head", "query", "key")},
    "Components": {"values": ("component", "token"), "loadings": ("component", "unit")},
    "Grid": {"values": (None, None)},
    "Curves": {"values": (None, None)},
    "Points": {"values": ("point", None)},
}
#: Fields that have the axes of `values`.
ALONGSIDE = ("texts", "ids", "low", "high", "null")


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every number, text, flag and array of a result with its place; all but where the result comes from."""
    if isinstance(value, Provenance):
        return
    if attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            yield from leaves(getattr(value, field.name), f"{path}.{field.name}".lstrip("."))
    elif isinstance(value, Mapping):
        yield f"{path} (keys)", len(value)
        for key, one in value.items():
            yield from leaves(one, f"{path}[{key!r}]")
    elif isinstance(value, (tuple, list)):
        yield f"{path} (length)", len(value)
        for place, one in enumerate(value):
            yield from leaves(one, f"{path}[{place}]")
    else:
        yield path, value


def difference(one: Result, other: Result, tolerance: float = 0.0) -> str:
    """Return where two results differ and by how much, or an empty string.

    Args:
        tolerance: of numbers, relative to the largest in the same array, or to the number; with one, the title and
            the notes, which may tell numbers, are not compared.
    """
    if type(one) is not type(other):
        return f"{type(one).__name__} and {type(other).__name__}"
    for (path, a), (there, b) in zip(leaves(one), leaves(other)):
        if tolerance and path.startswith(("title", "notes")):
            continue
        if path != there or not _same(a, b, tolerance):
            return f"{path}: {_short(a)} and {_short(b)}"
    return ""


def _same(a: Any, b: Any, tolerance: float) -> bool:
    if not isinstance(a, (np.ndarray, float, np.floating)):
        return bool(a == b) and type(a) is type(b)
    if np.shape(a) != np.shape(b) or np.asarray(a).dtype.kind != np.asarray(b).dtype.kind:
        return False
    if np.asarray(a).dtype.kind != "f":
        return bool(np.array_equal(a, b))
    finite = np.asarray(a)[np.isfinite(a)]
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    return bool(np.allclose(a, b, rtol=0, atol=tolerance * max(largest, 1e-6), equal_nan=True))


def _short(value: Any) -> str:
    return " ".join(np.array2string(value, threshold=6, precision=6).split())[:80] if isinstance(
        value, np.ndarray
    ) else repr(value)[:80]  # fmt: skip


def not_finite(result: Result) -> str:
    """Return the place of the first number that is infinite or no number, or an empty string."""
    for path, value in leaves(result):
        number = isinstance(value, (float, np.floating)) or (isinstance(value, np.ndarray) and value.dtype.kind == "f")
        if number and not np.isfinite(value).all():
            return path
    return ""


def misnamed(result: Result, n_layers: int) -> Iterator[str]:
    """Yield what is wrong with the axes of a result and the labels along them."""
    fields: Mapping[str, tuple[str | None, ...]] = next((DIMS[kind] for kind in result.kinds() if kind in DIMS), {})
    arrays = result.arrays()
    for name, dims in fields.items():
        array = arrays.get(name)
        if array is not None and (
            len(array.dims) != len(dims) or any(wanted not in (None, dim) for wanted, dim in zip(dims, array.dims))
        ):
            yield f"{name} has the dims {array.dims}, a {result.kinds()[0]} has {tuple(dim or '…' for dim in dims)}"
    for name in ALONGSIDE:
        if name in arrays and "values" in arrays and arrays[name].dims != arrays["values"].dims:
            yield f"{name} has the dims {arrays[name].dims}, values have {arrays['values'].dims}"
        elif name in arrays and "values" in arrays and arrays[name].shape != arrays["values"].shape:
            yield f"{name} has the shape {arrays[name].shape}, values have {arrays['values'].shape}"
    for name, array in arrays.items():
        yield from _mislabelled(name, array, n_layers)


def _mislabelled(name: str, array: LabelledArray, n_layers: int) -> Iterator[str]:
    for dim, labels in array.coords.items():
        if len(set(labels)) < len(labels):
            yield f"two places along {dim!r} of {name} have one label, {labels[:4]}…"
        if dim == "layer" and any(
            isinstance(layer, (int, np.integer)) and not 0 <= layer < n_layers for layer in labels
        ):
            yield f"layers of {name} are labelled {labels}, the model has 0 to {n_layers - 1}"


def state_of_model(model: Any) -> dict[str, Any]:
    """What an analysis leaves as it is: weights, buffers, modes, hooks and gradients of a model, by name."""
    found: dict[str, Any] = {}
    for kind, tensors in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
        for name, tensor in tensors:
            flags = (tensor.requires_grad, tensor.grad is None)
            found[f"{kind} {name}"] = (tensor.detach().cpu().double().numpy().tobytes(), flags)
    for name, module in model.named_modules():
        hooks = [value for key, value in vars(module).items() if key.endswith("_hooks") and value]
        found[f"mode of {name or 'the model'}"] = module.training
        found[f"hooks on {name or 'the model'}"] = sum(map(len, hooks))
        found[f"forward of {name or 'the model'}"] = vars(module).get("forward")
    found["the config"] = repr(model.config)
    found["the way of attention"] = getattr(model.config, "_attn_implementation", None)
    found["the settings of generating"] = repr(getattr(model, "generation_config", None))
    return found


def state_of_process() -> dict[str, Any]:
    """The switches that all code of a process shares."""
    import torch

    return {
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "numpy's error handling": tuple(np.geterr().items()),
    }


def state_of_generators() -> dict[str, Any]:
    """The random generators that all code of a process shares."""
    import torch

    return {
        "torch's": torch.random.get_rng_state().numpy().tobytes(),
        "numpy's": repr(np.random.get_state()),
        "Python's": random.getstate(),
    }


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the names of what was there before and is not the same."""
    return [name for name, value in before.items() if after.get(name) != value]


def reseeded(seed: int) -> None:
    """Start the random generators that all code of a process shares from a seed."""
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
