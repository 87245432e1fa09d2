"""LabelledArray: a numpy array whose axes have names and whose places have labels."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from ecco_core.data.fields import as_labels, as_tuple
from ecco_core.errors import OptionError, listed, optional_library


def _read_only(values: Any) -> np.ndarray:
    array = np.array(values)  # a copy: what the giver does to his later does not matter
    if array.dtype.kind == "U":  # fixed-width strings lose trailing NULs
        array = array.astype(object)
    array.flags.writeable = False
    return array


@attrs.frozen(eq=False, repr=False)
class LabelledArray:
    """Values with named dimensions and, for some of them, one label per place.

    Attributes:
        values: array of any dtype; numbers, or ``object`` holding strings. Read-only.
        dims: one name per axis, in order.
        coords: dimension name -> labels along it; a dimension without labels counts from 0.
    """

    values: np.ndarray = attrs.field(converter=_read_only)
    dims: tuple[str, ...] = attrs.field(converter=as_tuple)
    coords: Mapping[str, tuple[Any, ...]] = attrs.field(factory=dict, converter=as_labels)

    def __attrs_post_init__(self) -> None:
        if len(self.dims) != self.values.ndim:
            raise ValueError(f"{self.values.ndim} axes need as many dims, found {self.dims}")
        if len(set(self.dims)) != len(self.dims):
            raise ValueError(f"dims must differ from each other, found {self.dims}")
        for name, labels in self.coords.items():
            if name not in self.dims:
                raise ValueError(f"coords name the dimension {name!r}, dims are {self.dims}")
            if len(labels) != self.size(name):
                raise ValueError(f"{name!r} has {self.size(name)} places and {len(labels)} labels")

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(self.values.shape)

    def size(self, dim: str) -> int:
        """Length of the axis called `dim`."""
        return int(self.values.shape[self.dims.index(dim)])

    def labels(self, dim: str) -> tuple[Any, ...]:
        """Labels along `dim`: its coordinates, or 0, 1, 2 …"""
        return self.coords.get(dim) or tuple(range(self.size(dim)))

    def sel(self, **labels: Any) -> LabelledArray:
        """Select by label: a single label drops the axis, a sequence of labels keeps it.

        Raises:
            OptionError: no such dimension, or no such label along it.
        """
        places: dict[str, Any] = {}
        for dim, wanted in labels.items():
            self._check_dim(dim)
            known = self.labels(dim)
            several = isinstance(wanted, (list, tuple, range)) and wanted not in known
            for label in wanted if several else [wanted]:
                if label not in known:
                    raise OptionError(f"no {dim} {label!r} here; there are {listed([str(k) for k in known])}.")
            places[dim] = [known.index(label) for label in wanted] if several else known.index(wanted)
        return self.isel(**places)

    def _check_dim(self, dim: str) -> None:
        if dim not in self.dims:
            raise OptionError(f"no dimension {dim!r} here; there are {listed(self.dims)}.")

    def isel(self, **places: int | Sequence[int]) -> LabelledArray:
        """Select by place: an integer drops the axis, a sequence keeps it.

        Raises:
            OptionError: no such dimension, or a place outside of it.
        """
        result = self
        for dim, index in places.items():
            result._check_dim(dim)
            axis, size = result.dims.index(dim), result.size(dim)
            if outside := [i for i in np.ravel(index) if not -size <= i < size]:
                raise OptionError(f"{dim} {outside[0]} is outside of the {size} there are.")
            coords = {name: labels for name, labels in result.coords.items() if name != dim}
            dims = [name for name in result.dims if name != dim or not isinstance(index, int)]
            if not isinstance(index, int):
                coords[dim] = tuple(result.labels(dim)[i] for i in index)
            result = LabelledArray(result.values.take(index, axis=axis), dims, coords)
        return result

    def to_dataframe(self) -> Any:
        """Long-form pandas DataFrame: a column per dimension, and ``value``."""
        pandas = optional_library("pandas", "a DataFrame")
        places = itertools.product(*map(self.labels, self.dims))
        rows = [(*place, value) for place, value in zip(places, self.values.ravel().tolist())]
        return pandas.DataFrame(rows, columns=[*self.dims, "value"])

    def to_xarray(self) -> Any:
        """The same as an ``xarray.DataArray``."""
        xarray = optional_library("xarray", "an xarray object")
        return xarray.DataArray(self.values, dims=self.dims, coords={k: list(v) for k, v in self.coords.items()})

    def __repr__(self) -> str:
        axes = ", ".join(f"{dim}: {size}" for dim, size in zip(self.dims, self.shape))
        return f"LabelledArray({axes}; {self.values.dtype})"
