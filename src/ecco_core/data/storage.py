"""Save a result to one file and load it where neither its model nor its plugin is installed.

A file is a safetensors file: its arrays as tensors, all else as JSON under the metadata key ``ecco``. In the
JSON, ``{"$array": name}`` stands for a tensor, ``{"$kind": name, "fields": {...}}`` for one of our value classes,
``{"$float": "nan"}`` for a float that JSON has no word for. Nothing in a file is ever executed or imported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

from ecco_core.data.labelled import LabelledArray
from ecco_core.data.results import RESULT_KINDS, Provenance, Result, Source, Target
from ecco_core.data.tokens import Tokens
from ecco_core.errors import StorageError, listed, saying
from ecco_core.files import checked, fits, strict_json, write_whole

FORMAT = 1
LARGEST = 30_000_000  # bytes of labels and texts of one result, as they are written
_PARTS: dict[str, Any] = {cls.__name__: cls for cls in (LabelledArray, Tokens, Provenance, Source, Target)}


def save(result: Result, path: Path) -> Path:
    """Write `result` to `path`, whole or not at all, and return the path.

    Raises:
        StorageError: the place cannot be written, or the result holds something that is not data.
    """
    arrays: dict[str, np.ndarray] = {}
    tree = {"format": FORMAT, "kinds": result.kinds(), "result": _encode(result, arrays)}
    metadata = {"ecco": json.dumps(tree, ensure_ascii=True, allow_nan=False)}
    content = to_bytes(arrays, metadata=metadata)
    _require_small(content[:8], f"Cannot write {str(path)!r}")
    return write_whole(path, content)


def as_data(value: Any) -> Any:
    """Return a result, or a value in one, as JSON says it: fields by name, arrays as lists, NaN and infinity null."""
    if attrs.has(type(value)):
        kinds = {"kinds": value.kinds()} if isinstance(value, Result) else {}
        value = kinds | {a.name: getattr(value, a.name) for a in attrs.fields(type(value))}
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    if isinstance(value, Mapping):
        return {str(key): as_data(one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [as_data(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def load(path: str | Path) -> Result:
    """Read a result back. A kind that only a missing plugin knows comes back as the kind it inherits from.

    Raises:
        StorageError: no such file, or not a result of ours, or damaged.
    """
    if not isinstance(path, (str, Path)):
        raise StorageError(f"ecco.load takes a path, found {type(path).__name__}.")
    with saying(f"{str(path)!r} is not a result saved by Ecco, or it is damaged", StorageError):
        path = Path(path)
        if not path.is_file():
            raise StorageError(f"No file {str(path)!r}; ecco.load reads what result.save('name.ecco') wrote.")
        with path.open("rb") as begun:
            _require_small(begun.read(8), f"{str(path)!r} is not a result saved by Ecco, or it is damaged")
        with safe_open(path, framework="numpy") as file:
            tree = strict_json((file.metadata() or {})["ecco"])
            if tree["format"] != FORMAT:
                found = f"{str(path)!r} is of format {repr(tree['format'])[:40]}"
                raise StorageError(f"{found}, this version reads {FORMAT}: pip install -U ecco-core")
            result = _decode_result(tree, file)
            list(result.blocks())  # what cannot be shown is damaged
            return result


def _require_small(start: bytes, what: str) -> None:  # a safetensors file begins with the size of its header
    if (size := int.from_bytes(start, "little")) > LARGEST:
        raise StorageError(f"{what}: labels and texts of {size:,} bytes, where at most {LARGEST:,} are.")


def _encode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    value = value.item() if isinstance(value, np.generic) else str(value) if isinstance(value, Path) else value
    if value is None or isinstance(value, (str, int)):  # a bool is an int
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, np.ndarray):
        return _encode_array(value, arrays)
    if isinstance(value, Mapping):
        if any(str(k).startswith("$") for k in value):
            raise StorageError(f"A key that starts with '$' cannot be saved, found {listed(map(str, value))}.")
        return {str(k): _encode(v, arrays) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [_encode(v, arrays) for v in value]
    if isinstance(value, (Result, *_PARTS.values())):
        kind: Any = type(value)
        fields = {a.name: _encode(getattr(value, a.name), arrays) for a in attrs.fields(kind)}
        return {"$kind": kind.__name__, "kinds": kind.kinds() if isinstance(value, Result) else [], "fields": fields}
    raise StorageError(f"A result holds arrays and labels only, found a {type(value).__name__}.")


def _encode_array(value: np.ndarray, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if value.dtype.kind in "OU":
        return {"$strings": [str(v) for v in value.reshape(-1)], "shape": list(value.shape)}
    if not _is_real(value):
        raise StorageError(f"Arrays of {value.dtype} cannot be saved; give real numbers, booleans or strings.")
    name = f"a{len(arrays)}"
    arrays[name] = np.ascontiguousarray(value).reshape(value.shape)
    return {"$array": name}


def _is_real(array: np.ndarray) -> bool:
    return array.dtype.kind in "biuf" and array.dtype.itemsize <= 8


def _decode_result(tree: Mapping[str, Any], file: Any) -> Result:
    known = {cls.__name__: cls for cls in _result_classes()}
    cls = next((known[name] for name in tree["kinds"] if name in known), None)
    if cls is None:
        found = repr(tree["kinds"][:1])[:80]
        raise StorageError(f"A result of the unknown kind {found}; the plugin that made it is missing.")
    result: Result = _made(cls, tree["result"]["fields"], file)
    return result


def _made(cls: Any, told: Mapping[str, Any], file: Any) -> Any:
    """An object of ours; fields that are not known here are left out."""
    return checked(cls, {a.name: _decode(told[a.name], file) for a in attrs.fields(cls) if a.name in told})


def _result_classes() -> list[type[Result]]:
    classes: list[type[Result]] = list(RESULT_KINDS)
    for cls in classes:
        classes.extend(c for c in cls.__subclasses__() if c not in classes)
    return classes


def _decode(value: Any, file: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decode(v, file) for v in value)
    if not isinstance(value, dict):
        return value
    if "$array" in value and _is_real(array := file.get_tensor(value["$array"])):
        return array
    if "$strings" in value and fits(tuple(value["$strings"]), tuple[str, ...]):
        strings = np.empty(len(value["$strings"]), dtype=object)
        strings[:] = value["$strings"]
        return strings.reshape(value["shape"])
    if "$float" in value:
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[value["$float"]]
    if "$kind" in value:
        if value["$kind"] in _PARTS:
            return _made(_PARTS[value["$kind"]], value["fields"], file)
        return _decode_result({"kinds": value.get("kinds") or [value["$kind"]], "result": value}, file)
    if any(k.startswith("$") for k in value):
        raise ValueError(f"it has something else than data, {listed(value)}")
    return {k: _decode(v, file) for k, v in value.items()}
