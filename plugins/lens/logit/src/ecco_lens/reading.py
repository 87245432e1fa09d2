"""Read the states of a run's layers as the model reads its last ones: final norm, head, scale, cap and bias."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ecco_core import ArchitectureError, Context, OptionError
from ecco_lens.distributions import kl_divergence, logprobs_of, ranks_of, top_tokens

if TYPE_CHECKING:
    import torch

    from ecco_lens.places import Place

AT_ONCE = 2**24  # logits held at once: 64 MB in float32, and rows enough for matrix products at full speed
GUESS = (
    "what a layer before the last would say is a guess: the head was only trained to read the last one "
    "(nostalgebraist 2020; Belrose et al. 2023)"
)


class Lens:
    """Some layers of a run at the states that predict some places, in one forward pass without head.

    Args:
        layers: from 0; the last may be among them or not. `places`: what is predicted.

    Raises:
        ArchitectureError: the model's head is not known. OptionError: an intervention changes the logits themselves.
    """

    def __init__(self, ctx: Context, layers: Sequence[int], places: Sequence[Place]) -> None:
        run, lm = ctx.run, ctx.run.lm
        self._ctx, self._architecture, self._stack = ctx, lm.architecture, run.transcript.stack
        self.layers, self.places = tuple(layers), tuple(places)
        if not self._architecture.head(lm.task):
            raise ArchitectureError(f"The head of {lm.name} is not known for {lm.task}, so no layer can be read by it.")
        changed = next((change for change in run.under if change.site == "logits"), None)
        if changed is not None:
            raise OptionError(
                f"An intervention changes the logits themselves ({changed!r}), which no layer's state shows; predict "
                "reads them, and a lens shows interventions inside of the layers."
            )
        self._last = self._architecture.n_layers(self._stack) - 1
        capture = ctx.capture("resid_post", layers=sorted({*layers, self._last}))  # the last is needed often: one pass
        self._states = [capture.get("resid_post", layer, self._stack) for layer in layers]
        self._rows = [place.row for place in places]
        if set(layers) != {self._last}:
            ctx.note(GUESS)

    def logits(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield, for some places at a time, which these are and the logits ``(layer, place, token)`` there.

        Raises:
            ArchitectureError: a state gives logits that are no numbers.
        """
        import torch

        lm, architecture = self._ctx.run.lm, self._architecture
        step = max(1, AT_ONCE // (len(self.layers) * lm.vocabulary))
        for start in self._ctx.progress(range(0, len(self.places), step)):
            some = slice(start, start + step)
            with torch.no_grad():
                rows, device = self._rows[some], self._states[-1].device
                hidden = torch.stack([state[rows].to(device) for state in self._states])
                normed = architecture.normed(hidden.flatten(0, 1), self._stack)
                logits = architecture.logits_of(normed, lm.task).reshape(*hidden.shape[:2], -1)
                self._require_numbers(logits, some)
            yield some, logits

    def _require_numbers(self, logits: torch.Tensor, some: slice) -> None:
        bad = (~logits.amax(-1).isfinite()).nonzero()  # NaN is greater than any number
        if len(bad):
            layer, place = (int(n) for n in bad[0])
            raise ArchitectureError(
                f"The head makes no numbers (NaN or infinite) of layer {self.layers[layer]} at "
                f"{self.places[some][place].where}: weights are broken, or {logits.dtype} overflows; load the model "
                "with dtype='float32', or leave the layer out."
            )

    def best(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the `k` best tokens of each layer and place, and their probabilities: ``(layer, place, k)`` both.

        Raises:
            ArchitectureError: as `logits`.
        """
        parts = [
            [found.reshape(*logits.shape[:2], k) for found in top_tokens(logits.flatten(0, 1), k)]
            for _, logits in self.logits()
        ]
        ids, logprobs = (np.concatenate(of_all, axis=1) for of_all in zip(*parts))
        return ids, np.exp(logprobs)

    def values(self, ids: np.ndarray, value: str) -> np.ndarray:
        """Return the rank, probability or log-probability ``(layer, place, n)`` of tokens `ids` ``(place, n)``.

        Raises:
            ArchitectureError: as `logits`.
        """
        measure = ranks_of if value == "rank" else logprobs_of
        parts = []
        for some, logits in self.logits():
            wanted = np.tile(ids[some], (len(self.layers), 1))
            parts.append(measure(logits.flatten(0, 1), wanted).reshape(*logits.shape[:2], -1))
        found = self._noted(np.concatenate(parts, axis=1))
        return np.exp(found) if value == "probability" else found

    def divergences(self) -> np.ndarray:
        """Return the divergence ``(layer, place)``, KL(last layer || layer) in nats, of each of the layers.

        Raises:
            ArchitectureError: as `logits`.
        """
        whole = self if self._last in self.layers else Lens(self._ctx, (*self.layers, self._last), self.places)
        own = whole.layers.index(self._last)
        parts = [[kl_divergence(logits[own], of_layer) for of_layer in logits] for _, logits in whole.logits()]
        return self._noted(np.concatenate(parts, axis=1)[: len(self.layers)])

    def _noted(self, found: np.ndarray) -> np.ndarray:
        if not np.isfinite(found).all():
            self._ctx.note(
                "infinite where a logit is minus infinity: the head excludes the token, or float16 overflows"
            )
        return found


def check_top_k(k: int, vocabulary: int, least: int = 1) -> None:
    """Refuse a number of candidates that there are not.

    Raises:
        OptionError: it is less than `least` or more than the vocabulary's entries.
    """
    if not least <= k <= vocabulary:
        raise OptionError(f"top_k is from {least} to the vocabulary's {vocabulary:,} entries, found {k}.")
