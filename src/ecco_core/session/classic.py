"""The calls of the original library, each a line that names today's analysis and arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from ecco_core.data.results import TokenScores
from ecco_core.errors import OptionError, did_you_mean, listed

#: attr_method of the original -> today's analysis.
ATTRIBUTIONS = {"grad_x_input": "input_x_gradient", "saliency": "saliency", "ig": "integrated_gradients"}


class ClassicRun:
    """The original's methods of an output; inherited by Run."""

    analyze: Callable[..., Any]
    resolve_positions: Callable[..., tuple[int, ...]]

    def primary_attributions(
        self, attr_method: str = "grad_x_input", style: str = "minimal", ignore_tokens: Any = (), **options: Any
    ) -> Any:
        """Attributions of all generated tokens, as the original drew them.

        Args:
            attr_method: ``grad_x_input``, ``saliency`` or ``ig``.
            style: accepted for old notebooks; the page shows both views.
            ignore_tokens: positions whose scores are set to zero.

        Raises:
            OptionError: no such method.
        """
        if attr_method not in ATTRIBUTIONS:
            raise OptionError(
                f"No attr_method {attr_method!r}.{did_you_mean(attr_method, ATTRIBUTIONS)} There are: "
                f"{listed(ATTRIBUTIONS)}; run.analyze(name) offers every installed analysis."
            )
        if style not in ("minimal", "detailed"):
            raise OptionError(f"style is 'minimal' or 'detailed', found {style!r}.")
        options = {"score": "prob", "aggregation": "l2"} | options  # scores were probabilities, magnitudes L2 norms
        some = ignore_tokens is not None and np.size(ignore_tokens) > 0
        ignored = self.resolve_positions(ignore_tokens) if some else ()
        result = self.analyze(ATTRIBUTIONS[attr_method], **options)
        return _without_sources(result, ignored) if ignored else result

    def saliency(self, attr_method: str = "grad_x_input", style: str = "minimal", **options: Any) -> Any:
        """Input saliency of all generated tokens; the original's name of `primary_attributions`."""
        return self.primary_attributions(attr_method=attr_method, style=style, **options)


def _without_sources(scores: TokenScores, ignored: tuple[int, ...]) -> TokenScores:
    """The same with the scores of the tokens at some positions set to zero, and a note that says so."""
    values = scores.values.values.copy()
    values[:, [bool(set(source.positions) & set(ignored)) for source in scores.sources]] = 0
    note = f"scores of the tokens at positions {list(ignored)} are set to zero, as asked"
    return attrs.evolve(scores, values=attrs.evolve(scores.values, values=values), notes=(*scores.notes, note))
