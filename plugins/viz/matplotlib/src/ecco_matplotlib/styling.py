"""The style of the figures, as a context: what was set before is set again afterwards."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

#: Two threads that enter and leave at will would restore each other's settings: matplotlib's are global.
_ONE_AT_A_TIME = threading.RLock()
SHEET = Path(__file__).with_name("ecco.mplstyle")


@contextlib.contextmanager
def style(families: Sequence[str] = ()) -> Iterator[None]:
    """Matplotlib's settings as the figures here have them, for the time of a block.

    Args:
        families: fonts for what DejaVu Sans, which comes with matplotlib, has no glyphs for.
    """
    import matplotlib
    import matplotlib.style

    with _ONE_AT_A_TIME, matplotlib.style.context(str(SHEET), after_reset=True):
        matplotlib.rcParams["font.family"] = ["DejaVu Sans", *families]
        yield
