"""Find the Structure for a model type: user folder first, then plugins, then the files that ship with core."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import attrs

from ecco_core.errors import ArchitectureError, RegistryError, did_you_mean, listed
from ecco_core.plugin.manager import plugins
from ecco_core.registry.structure import Structure
from ecco_core.registry.yaml_source import read_yaml

VARIABLE = "ECCO_MODEL_REGISTRY"


@attrs.frozen
class Entry:
    """A structure and where it came from: ``user``, the name of a plugin, or ``ecco-core``."""

    structure: Structure
    source: str


def packaged_folder() -> Path:
    """Return the folder of the YAML files that ship with core: in the wheel, or in the checkout."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "_model_registry"
    return shipped if shipped.is_dir() else package.parent.parent / "model_registry"


def files() -> Iterator[tuple[str, Path]]:
    """Source and path of every model file, in order of precedence.

    Raises:
        RegistryError: ``ECCO_MODEL_REGISTRY`` names no folder.
    """
    user = os.environ.get(VARIABLE, "")
    if user:
        if not Path(user).is_dir():
            raise RegistryError(f"{VARIABLE} names {user!r}, which is no folder.")
        yield from (("user", path) for path in yaml_files(Path(user)))
    for offer in plugins().offers("ecco_model_configs"):
        path = offer.spec
        yield from ((offer.distribution, p) for p in yaml_files(path))
    yield from (("ecco-core", path) for path in yaml_files(packaged_folder()))


def yaml_files(path: Path) -> list[Path]:
    """Return the YAML files of a folder, sorted; a path that is no folder is itself the file."""
    return sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml")) if path.is_dir() else [path]


def entries(mentioning: str = "") -> Iterator[Entry]:
    """Every model file, read, in order of precedence.

    Args:
        mentioning: leave out those of others than the user in which this text does not stand.

    Raises:
        RegistryError: one of the user's or our own is malformed; a plugin's is left out with a warning.
    """
    for source, path in files():
        try:
            if source == "user" or _mentions(path, mentioning):
                yield Entry(_read(path, *_version(path)), source)
        except RegistryError as error:
            if source in ("user", "ecco-core"):
                raise
            warnings.warn(f"A model file of {source} is left out: {error}", stacklevel=2)


@functools.lru_cache(maxsize=1024)
def _read(path: Path, *version: int) -> Structure:
    """The structure in a file, read again when the file changes."""
    return read_yaml(path)


def _version(path: Path) -> tuple[int, ...]:
    try:
        return path.stat().st_mtime_ns, path.stat().st_size
    except OSError:
        return ()


def _mentions(path: Path, text: str) -> bool:
    try:
        return not path.is_file() or text.encode() in path.read_bytes()
    except OSError:
        return True  # reading it tells what is wrong


def find(model_type: str) -> Entry | None:
    """Return the first entry that covers `model_type`, or None."""
    return next((entry for entry in entries(model_type) if model_type in entry.structure.model_types), None)


def require(model_type: str) -> Entry:
    """Return the first entry that covers `model_type`.

    Raises:
        ArchitectureError: none does.
    """
    entry = find(model_type)
    if entry is None:
        known = sorted({t for e in entries() for t in e.structure.model_types})
        raise ArchitectureError(
            f"No model file covers the architecture {model_type!r}.{did_you_mean(model_type, known)} Known: "
            f"{listed(known, 30)}. Write one as docs/models.md shows, in a folder named by {VARIABLE}."
        )
    return entry
