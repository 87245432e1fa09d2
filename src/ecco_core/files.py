"""Files that are written whole or not at all, and data from a file that is taken for what it should be only."""

from __future__ import annotations

import functools
import json
import os
import stat
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs
import numpy as np

from ecco_core.errors import StorageError, listed

_CELL = str | int | float | None | tuple[Any, ...]
_READ = (str, int, float, bool, NoneType, tuple, dict, np.ndarray)  # what values of a file are; else attrs classes


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file by renaming a finished one into place, so that no half of it is ever seen, and return its path.

    A file that is there keeps its permissions, a new one gets those of the umask. A link is replaced; what it points
    to stays. What is read-only, or no regular file, is left as it is.

    Raises:
        StorageError: it cannot be written there.
    """
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        permissions = _permissions(path)
        try:
            with part.open("xb") as file:
                if permissions and permissions != stat.S_IMODE(part.stat().st_mode):
                    part.chmod(permissions)
                file.write(content)
            part.replace(path)
        except BaseException:
            try:  # noqa: SIM105 - a call of a Python function is where an interrupt may come; one into C is not
                os.unlink(part)  # noqa: PTH108
            except FileNotFoundError:
                pass
            raise
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        reason = f"the folder {str(path.parent)!r} does not exist" if missing else getattr(error, "strerror", error)
        raise StorageError(f"Cannot write {str(path)!r}: {reason}.") from error
    return path


def _permissions(path: Path) -> int:
    """The permissions of the file that is to be replaced; 0 if there is none, or a link.

    Raises:
        StorageError: what is there must stay.
    """
    mode = path.stat().st_mode if path.exists() else 0
    kinds = {"a folder; name a file in it": stat.S_ISDIR(mode), "no regular file": mode and not stat.S_ISREG(mode)}
    if path.is_symlink() and not stat.S_ISDIR(mode):
        return 0
    kinds["read-only"] = mode and not (mode & 0o222 and os.access(path, os.W_OK))
    if what := next((what for what, it_is in kinds.items() if it_is), None):
        raise StorageError(f"Cannot write {str(path)!r}: it is {what}.")
    return stat.S_IMODE(mode)


def strict_json(text: str) -> Any:
    """Return what a JSON text holds.

    Raises:
        ValueError: it is none, a key is there twice, or a number is NaN or infinite.
    """
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(tree := dict(pairs)) < len(pairs):
        raise ValueError(f"a key is there twice among {listed(key for key, _ in pairs)}")
    return tree


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")


def checked(cls: Any, fields: Mapping[str, Any]) -> Any:
    """Return an object of a class, made of its fields.

    Raises:
        ValueError: one of them is not of the type that it is annotated with.
    """
    for name, value in fields.items():
        if not fits(value, _types_of(cls).get(name, Any)):
            raise ValueError(f"{name} of {cls.__name__} is a {type(value).__name__} that does not belong there")
    return cls(**fields)


@functools.cache
def _types_of(cls: Any) -> dict[str, Any]:
    try:
        return get_type_hints(cls)
    except Exception:  # a class of a plugin, with types that are there for type checkers only
        return _types_of(cls.__base__)


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type as annotations tell it; ``tuple[Any, ...]`` holds texts, numbers, None and tuples.

    Types that no value of a file is of, such as a plugin's ``list[int]``, are not looked at.
    """
    of, inner = get_origin(kind) or kind, get_args(kind)
    if of in (Union, UnionType):
        return any(fits(value, one) for one in inner)
    if of is tuple and inner[1:] == (...,):
        return isinstance(value, tuple) and all(fits(one, _CELL if inner[0] is Any else inner[0]) for one in value)
    if of is Mapping and inner:
        return isinstance(value, dict) and all(fits(one, inner[1]) for one in value.values())
    return isinstance(value, (int, float) if of is float else of) if of in _READ or attrs.has(of) else True
