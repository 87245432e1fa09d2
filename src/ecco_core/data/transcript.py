"""Transcript: what was said, by stack of the model; everything else is replayed from it."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from ecco_core.data.tokens import Tokens


@attrs.frozen(eq=False, repr=False)
class Transcript:
    """The tokens of one run, prompt and output, without model or tokenizer.

    Attributes:
        tokens: stack name (``"decoder"``, ``"encoder"``) -> its whole token sequence.
        n_input_tokens: how many tokens of the stack that is explained were given, not generated.
        stack: the stack whose positions count: positions are from 0 over ``tokens[stack]``.
        task: what the model was opened for, such as ``"causal"``.
        model: name of the model it was made with.
        interventions: what the model was changed by while generating; a replay has to apply them.
    """

    tokens: Mapping[str, Tokens]
    n_input_tokens: int
    stack: str = "decoder"
    task: str = "causal"
    model: str = ""
    interventions: tuple[str, ...] = ()

    @property
    def explained(self) -> Tokens:
        """The tokens whose positions count."""
        return self.tokens[self.stack]

    def __len__(self) -> int:
        return len(self.explained)
