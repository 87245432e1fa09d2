"""The promises of a model source."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest

from ecco_core.errors import EccoError, ModelNotFoundError, one_line
from ecco_core.plugin.manager import Offer
from ecco_core.plugin.specs import ModelSource
from ecco_core.testing.contract import TargetContract, broken

#: Endings of files that run code when they are loaded.
_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".msgpack", ".py")


class ModelSourceContract(TargetContract):
    """What those rely on who open a model by ``source:name``.

    Attributes:
        name: the source to check; or `distribution`: all of its sources.
    """

    hook = "ecco_model_sources"

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One id for each source and, where one is opened, each of its models."""
        if "model" not in metafunc.fixturenames:
            super().pytest_generate_tests(metafunc)
            return
        pairs = [(offer, model) for offer in self.offers() for model in offer.spec.models]
        ids = [f"{offer.spec.name}:{model}" for offer, model in pairs]
        metafunc.parametrize(("offer", "model"), pairs, ids=ids)

    def test_names_models(self, offer: Offer[ModelSource]) -> None:
        """It says which models it has."""
        if not offer.spec.models:
            broken(offer.spec.name, "it names no models", "List them: ModelSource(models=[...]).")

    def test_folder_is_safe(self, offer: Offer[ModelSource], model: str) -> None:
        """Each name gives a folder with a config, and no file that runs code when it is loaded."""
        try:
            folder = Path(self.target(offer)(model))
        except Exception as error:
            broken(offer.spec.name, f"{model!r} raises {one_line(error)}", "Return a folder for each of models.")
        if not (folder / "config.json").is_file():
            broken(offer.spec.name, f"{model!r}: no config.json in {folder}", "Save model and tokenizer there.")
        if found := sorted(path.name for path in folder.rglob("*") if path.suffix in _PICKLED):
            broken(offer.spec.name, f"{model!r} has {found[0]}, which can run code", "Save weights as .safetensors.")

    def test_opens_without_a_network(
        self, offer: Offer[ModelSource], model: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """``ecco.from_pretrained("source:name")`` opens each of its models, offline, with finite numbers."""
        import ecco_core as ecco

        def refused(*_: Any) -> NoReturn:
            raise OSError("the network is off")

        monkeypatch.setattr(socket.socket, "connect", refused)
        name = f"{offer.spec.name}:{model}"
        try:
            if not (Path(self.target(offer)(model)) / "config.json").is_file():
                pytest.skip("there is no model; test_folder_is_safe says so")
            lm = ecco.from_pretrained(name)
            capture = lm(lm.tokenizer.decode([5, 6])).capture("embedding")
        except EccoError as error:
            broken(name, f"it does not open: {error}", "Put all files of the model into the folder.")
        if not all(bool(tensor.isfinite().all()) for tensor in capture.tensors.values()):
            broken(name, "its embeddings are not finite", "Save the weights again.")

    def test_unknown_names_are_answered(self, offer: Offer[ModelSource]) -> None:
        """A name that it does not have raises ModelNotFoundError that offers the nearest."""
        wrong = f"{offer.spec.models[0]}x" if offer.spec.models else "x"
        try:
            self.target(offer)(wrong)
        except ModelNotFoundError as error:
            if offer.spec.models and not re.search(rf"\b{re.escape(offer.spec.models[0])}\b", str(error)):
                broken(offer.spec.name, f"{wrong!r} is answered by {str(error)!r}", "Name the nearest of models.")
        except Exception as error:
            broken(offer.spec.name, f"{wrong!r} raises {one_line(error)}", "Raise ecco_core.ModelNotFoundError.")
        else:
            broken(offer.spec.name, f"{wrong!r} is found, but is none of its models", "Raise ModelNotFoundError.")
