"""Runs: several runs of one model, read together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ecco_core.data.capture import Capture
from ecco_core.data.results import Result
from ecco_core.options import convert

if TYPE_CHECKING:
    from ecco_core.session.run import Run


class Runs(tuple["Run", ...]):
    """Several runs of one model, in order; a tuple that reads all of its runs in few forwards."""

    __slots__ = ()

    def capture(
        self, *sites: str, layers: int | Sequence[int] | None = None, batch_size: int = 16, **options: Any
    ) -> list[Capture]:
        """Read sites of all runs, runs of like length together in one padded forward; no padding is returned.

        Args:
            sites, layers, options: as of `Run.capture`. `batch_size`: most runs in one forward.
        """
        from ecco_core.session.run import dtype_of, read_together

        batch_size = convert(batch_size, int, "batch_size")
        ordered = sorted(self, key=len)
        for start in range(0, len(ordered), max(1, batch_size)):
            some = ordered[start : start + max(1, batch_size)]
            keys = some[0].keys(sites, layers, options.get("stack"))
            read_together(some, keys, options.get("device"), dtype_of(options.get("dtype")))
        return [run.capture(*sites, layers=layers, **options) for run in self]

    def analyze(self, name: str, **options: Any) -> list[Result]:
        """Run an analysis of single runs on each of them."""
        return [run.analyze(name, **options) for run in self]

    def release(self) -> None:
        """Free everything that was captured."""
        for run in self:
            run.release()

    def __repr__(self) -> str:
        return "\n".join(map(repr, self))
