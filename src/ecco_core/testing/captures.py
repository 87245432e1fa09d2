"""The promises of a capture."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from ecco_core.errors import EccoError, did_you_mean, listed, one_line
from ecco_core.plugin.manager import Offer
from ecco_core.plugin.specs import CaptureSpec
from ecco_core.testing import comparing, models
from ecco_core.testing.contract import TargetContract, broken


class CaptureContract(TargetContract):
    """What those rely on who name a capture where a site's name is.

    Attributes:
        name: the capture to check; or `distribution`: all of its captures.
        architectures: the small random causal models that it is read from; of those that have the sites it needs.
        texts: a text of several tokens and one of one.
    """

    hook = "ecco_captures"
    architectures: ClassVar[Sequence[str]] = ("gpt2", "llama", "gemma2")
    texts: ClassVar[Sequence[str]] = ("The captain is called Nora.", "T")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One id for each capture and, where it is read, each architecture."""
        super().pytest_generate_tests(metafunc)
        if "architecture" in metafunc.fixturenames:
            metafunc.parametrize("architecture", self.architectures)

    def test_spec_names_sites(self, offer: Offer[CaptureSpec]) -> None:
        """It needs sites that there are, takes one value for each, and has a name that no site has."""
        from ecco_core.proving.proof import SITES

        spec = offer.spec
        if unknown := [need for need in spec.needs if need not in SITES]:
            near = did_you_mean(unknown[0], SITES)
            broken(spec.name, f"it needs {unknown[0]!r}, which is no site", f"Sites: {listed(SITES, 30)}.{near}")
        if spec.name in SITES:
            broken(spec.name, "a site of Ecco has this name", "Take another name.")
        try:
            inspect.signature(self.target(offer)).bind(*spec.needs)
        except TypeError as error:
            broken(spec.name, f"called with {listed(spec.needs)}: {error}", "Take one value for each of needs.")

    def test_shape_by_dims(self, offer: Offer[CaptureSpec], architecture: str) -> None:
        """On every architecture it returns finite numbers with the axes of its spec: a row per token if it says so."""
        for text in self.texts:
            values = self._values(offer, architecture, text)
            returned = self._called(offer, values)
            shape, dims, n = np.shape(returned), offer.spec.dims, len(values[0])
            if len(shape) != len(dims):
                broken(offer.spec.name, f"its dims are {dims}, it returns the shape {shape}", "Let both agree.")
            if "token" in dims and shape[dims.index("token")] != n:
                broken(offer.spec.name, f"{n} tokens become the shape {shape}", "Return one row per token.")
            if not np.isfinite(np.asarray(returned, dtype=float)).all():
                broken(offer.spec.name, f"{text!r} gives numbers that are not finite", "Raise an EccoError instead.")

    def test_values_are_untouched(self, offer: Offer[CaptureSpec]) -> None:
        """The values that it is given are as they were, and two calls return the same."""
        values = self._values(offer, self.architectures[0], self.texts[0])
        before = [value.clone() for value in values]
        comparing.reseeded(0)
        once = np.asarray(self._called(offer, values)).copy()
        if any(not bool((a == b).all()) for a, b in zip(before, values)):
            broken(offer.spec.name, "it changes the values that it is given", "Work on copies.")
        comparing.reseeded(1)
        if not np.array_equal(once, np.asarray(self._called(offer, values))):
            broken(offer.spec.name, "two calls with the same values differ", "Use nothing random.")

    def test_read_by_name(self, offer: Offer[CaptureSpec], architecture: str) -> None:
        """``run.capture`` gives at each layer what the function makes of the sites of that layer."""
        run = self._run(architecture, self.texts[0])
        wanted = np.asarray(self._called(offer, self._values(offer, architecture, self.texts[0])))
        if wanted.ndim != len(offer.spec.dims):
            pytest.skip("its shape is not that of its dims; test_shape_by_dims says so")
        try:
            capture = run.capture(f"{offer.distribution}:{offer.spec.name}", layers=[1])
        except EccoError as error:
            broken(offer.spec.name, str(error).rstrip("."), "Return what a tensor can be made of.")
        (read,) = capture.tensors.values()
        if not np.array_equal(read.detach().numpy(), wanted):
            broken(offer.spec.name, "read by its name it differs from its function", "Keep no state between calls.")

    def _run(self, architecture: str, text: str) -> Any:
        return models.language_model(architecture).generate(text, max_new_tokens=0)

    def _values(self, offer: Offer[CaptureSpec], architecture: str, text: str) -> list[Any]:
        run = self._run(architecture, text)
        try:
            keys = [key for _, places in run.made_of(offer.spec.needs, [1], None).values() for key in places]
            capture = run.capture(*offer.spec.needs, layers=[1])
        except EccoError as error:
            pytest.skip(f"{architecture}: {error}")
        return [capture.tensors[key].clone() for key in keys]

    def _called(self, offer: Offer[CaptureSpec], values: Sequence[Any]) -> Any:
        try:
            return self.target(offer)(*values)
        except Exception as error:
            shapes = listed(str(tuple(value.shape)) for value in values)
            broken(offer.spec.name, f"given {shapes} it raises {one_line(error)}", "Take values (token, unit).")
