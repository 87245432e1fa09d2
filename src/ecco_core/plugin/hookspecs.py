"""The hooks of the framework: registration only. Each returns specs; none takes an argument.

A plugin is a distribution with one entry point in the group ``ecco`` that names a module (or object) with some of
these functions, marked with ``@hookimpl``. They are called once, early, so they must be quick and import nothing
heavy.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import pluggy

from ecco_core.plugin.specs import AnalysisSpec, CaptureSpec, CommandSpec, ModelSource, RendererSpec

PROJECT = "ecco"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class EccoSpecs(Protocol):
    """What a plugin may offer."""

    @hookspec
    def ecco_analyses(self) -> Iterable[AnalysisSpec]:
        """Offer analyses, callable as ``run.analyze(name)`` and ``ecco run name``."""

    @hookspec
    def ecco_renderers(self) -> Iterable[RendererSpec]:
        """Offer ways to show kinds of result: a medium, a file suffix."""

    @hookspec
    def ecco_captures(self) -> Iterable[CaptureSpec]:
        """Offer things to capture that are computed from sites, usable wherever a site's name is."""

    @hookspec
    def ecco_model_configs(self) -> Iterable[Path]:
        """Offer model YAML files, or folders of them."""

    @hookspec
    def ecco_model_sources(self) -> Iterable[ModelSource]:
        """Offer models by names of the form ``source:model``."""

    @hookspec
    def ecco_commands(self) -> Iterable[CommandSpec]:
        """Offer commands of the ``ecco`` program."""
