"""Show an answer while it is generated: text as it comes in a terminal, one growing display in a notebook."""

from __future__ import annotations

import time
from typing import Any

from ecco_core import rendering
from ecco_core.data.shown import visible
from ecco_core.errors import OptionError
from ecco_core.options import convert


class Streamer:
    """What ``generate`` hands token ids to: those that it starts from, then those that it adds. Close it in the end."""

    def __init__(self, lm: Any, prompts: list[list[int]], options: dict[str, Any], stream: bool) -> None:
        self._ids, self._said, self._due, self._place = list[int](), "", 0.0, ""
        self._run_of: Any = lambda ids: lm._run(prompts[0], ids[len(prompts[0]) if lm.task == "causal" else 0 :])
        if convert(stream, bool, "stream"):
            if len(prompts) > 1 or options.get("num_beams") not in (None, 1) or "streamer" in options:
                raise OptionError("stream=True shows one answer as it comes: give one prompt, no beams, no streamer.")
            options["streamer"] = self

    def put(self, tokens: Any) -> None:
        """Show the run so far, if it ends in a whole character; this takes a tenth of the time, at most."""
        self._ids += tokens.flatten().tolist()
        if (start := time.monotonic()) >= self._due:
            if not (run := self._run_of(self._ids)).text.endswith("\ufffd"):
                self._show(run)
            self._due = start + max(0.1 * rendering.in_notebook(), 10 * (time.monotonic() - start))

    def end(self) -> None:
        """Nothing: an error or an interrupt ends it, too."""

    def close(self) -> None:
        """Show all that came."""
        if self._ids:
            self._show(self._run_of(self._ids), "\n")

    def _show(self, run: Any, end: str = "") -> None:
        if rendering.in_notebook():
            from IPython.display import display

            shown, self._place = self._place, self._place or str(time.time_ns())
            display(run, display_id=self._place, update=bool(shown))
        elif (known := run.output_text.startswith(self._said)) or end:  # stray bytes may change what came before them
            new = run.output_text.removeprefix(self._said) if known else f"\n{run.output_text}"
            print("\n".join(map(visible, new.split("\n"))), end=end, flush=True)
            self._said = run.output_text
