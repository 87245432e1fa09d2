"""The promises of a model file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from ecco_core.errors import ArchitectureError, EccoError, RegistryError, listed
from ecco_core.registry.lookup import yaml_files
from ecco_core.registry.structure import HEAD_TASKS
from ecco_core.registry.yaml_source import read_yaml
from ecco_core.testing.contract import Contract, broken


class ModelConfigContract(Contract):
    """What those rely on who open a model of an architecture that a file describes.

    Attributes:
        path: a YAML file, or a folder of them; or `distribution`: all files that it brings.
    """

    hook = "ecco_model_configs"
    path: ClassVar[str | Path] = ""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One id for each file and, where one is proven, each model type in it."""
        if "plugin" in metafunc.fixturenames and self.path:
            metafunc.parametrize("plugin", ["ecco-core"])
        elif "plugin" in metafunc.fixturenames:
            super().pytest_generate_tests(metafunc)
        if "file" in metafunc.fixturenames:
            files = self.files()
            metafunc.parametrize("file", files, ids=[file.name for file in files])
        if "model_type" in metafunc.fixturenames:
            pairs = [(file, model_type) for file in self.files() for model_type in _types(file)]
            metafunc.parametrize(("described", "model_type"), pairs, ids=[model_type for _, model_type in pairs])

    @classmethod
    def files(cls) -> list[Path]:
        """The files to check."""
        paths = [Path(cls.path)] if cls.path else [Path(offer.spec) for offer in cls.offers()]
        return [file for path in paths for file in yaml_files(path)]

    def test_loads(self, file: Path) -> None:
        """The file is read: keys that are known, each once, with values of their type."""
        try:
            structure = read_yaml(file)
        except RegistryError as error:
            broken(file.name, str(error).rstrip("."), "docs/models.md has every key.")
        if not structure.model_types:
            broken(file.name, "it covers no model type", "Name config.model_type under model_types.")

    def test_proven(self, described: Path, model_type: str) -> None:
        """Each type that it covers is proven by numeric identities on small random models, for each of its tasks."""
        from ecco_core.models.architecture import Architecture
        from ecco_core.proving.tiny_models import tasks_of, tiny_model
        from ecco_core.proving.verify import verify

        structure = read_yaml(described)
        try:
            tasks = [t for t in tasks_of(model_type) if t in structure.heads or t not in HEAD_TASKS]
            for task in tasks:
                model = tiny_model(model_type, task, structure.tiny.get(model_type, {}))
                failed = verify(model, Architecture(structure, model), task).failed
                told = [f"{check.site} of layer {check.layer}: {check.identity}: {check.detail}" for check in failed]
                if told:
                    broken(f"{described.name}, {model_type}, {task}", listed(told, 2), "Name the right module.")
        except (ArchitectureError, EccoError) as error:
            broken(f"{described.name}, {model_type}", str(error).rstrip("."), "Name modules that the model has.")
        if not tasks:
            broken(f"{described.name}, {model_type}", "transformers has no model of this type", "Check its name.")


def _types(file: Path) -> Iterator[str]:
    try:
        yield from read_yaml(file).model_types
    except RegistryError:  # test_loads says so
        return
