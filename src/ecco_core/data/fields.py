"""Converters of the value classes' fields: what is handed in becomes immutable and independent of its giver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def as_tuple(values: Iterable[Any]) -> tuple[Any, ...]:
    """Return the values as a tuple; a string, being no sequence of names, is refused."""
    if isinstance(values, (str, bytes)):
        raise TypeError(f"expected a sequence of values, found the string {values!r}")
    return tuple(values)


def as_labels(values: Mapping[str, Iterable[Any]]) -> dict[str, tuple[Any, ...]]:
    """Return a copy of a mapping to sequences, each as a tuple."""
    return {name: tuple(labels) for name, labels in values.items()}


def as_rows(values: Iterable[Iterable[Any]]) -> tuple[tuple[Any, ...], ...]:
    """Return rows of cells as tuples."""
    return tuple(tuple(row) for row in values)


def as_dict(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a mapping."""
    return dict(values)
