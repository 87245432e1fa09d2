"""EccoError and its kinds: one sentence that says what was found, what is expected and how to fix it."""

from __future__ import annotations

import contextlib
import difflib
import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

Part = TypeVar("Part")
Done = TypeVar("Done")


class EccoError(Exception):
    """Something the user can mend; ``str(error)`` is one clear message without a traceback."""


class ModelNotFoundError(EccoError):
    """No model of that name is at hand."""


class ArchitectureError(EccoError):
    """A network does not have the structure that was declared, or none is declared for it."""


class RegistryError(ArchitectureError):
    """A model YAML file is malformed; the message starts with ``file:line:column``."""


class AnalysisNotFoundError(EccoError):
    """No installed plugin offers an analysis of that name."""


class OptionError(EccoError):
    """An option is unknown, missing, or has a value that it does not take."""


class TargetError(OptionError):
    """A target does not exist in the run, or its token not in the vocabulary."""


class PromptError(EccoError):
    """A text cannot be given to the model as it is."""


class PluginError(EccoError):
    """A plugin failed; ``__cause__`` holds its exception."""


class PluginWarning(UserWarning):
    """A plugin changed what is not its own, which was put back."""


class RenderError(EccoError):
    """A result cannot be shown in the medium that was asked for."""


class StorageError(EccoError):
    """A file cannot be written, or is not a result of ours."""


class MissingDependencyError(EccoError):
    """An optional library is not installed; the message has the ``pip install`` that brings it."""


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest of `known`, or an empty string."""
    near = difflib.get_close_matches(found, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def listed(names: Iterable[str], limit: int = 12) -> str:
    """Return `names` as ``a, b, c`` in their order, cut after `limit`."""
    names = list(names)
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "") if names else "none"


def one_line(error: BaseException, limit: int = 400) -> str:
    """Return an exception as one line, ``ValueError: what it says``, even if it cannot describe itself."""
    try:
        return " ".join(f"{type(error).__name__}: {error}".strip(": ").split())[:limit]
    except Exception:
        return type(error).__name__


@contextlib.contextmanager
def saying(what: str, kind: type[EccoError] = PluginError) -> Iterator[None]:
    """Raise what goes wrong in the block as ``kind("what: TypeError: …")``, but errors of ours as they are."""
    try:
        yield
    except EccoError:
        raise
    except Exception as error:
        raise kind(f"{what}: {one_line(error)}") from error


def halves(part: Any) -> list[Any]:
    """Return the two halves of a sequence or tensor; of one of one, none."""
    return [part[: len(part) // 2], part[len(part) // 2 :]] if len(part) > 1 else []


def halving(
    work: Callable[[Part], Done], parts: Iterable[Part], halve: Callable[[Part], Sequence[Part]] = halves
) -> Iterator[Done]:
    """Yield what `work` makes of each part, in order; where memory is not enough for one, of its halves instead.

    Args:
        halve: the halves of a part; none of what cannot be halved, whose error is raised then.
    """
    for whole in parts:
        waiting = [whole]
        while waiting:
            part = waiting.pop()
            try:
                done = work(part)
            except (RuntimeError, MemoryError) as error:
                smaller = halve(part) if out_of_memory(error) else []
                if not smaller:
                    raise
                waiting += reversed(smaller)
            else:
                yield done


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, as Python, CUDA or torch's allocator on the CPU say it."""
    told = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in told or "can't allocate memory" in told


def optional_library(name: str, why: str) -> Any:
    """Import `name`, or say what it is for and how to install it.

    Raises:
        MissingDependencyError: the library is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(f"{why} needs {name}: pip install {name}") from error
