"""A model file with its proof: what ``ecco models new`` writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import transformers

from ecco_core import __version__
from ecco_core.data.shown import visible
from ecco_core.errors import ArchitectureError, listed, one_line
from ecco_core.models.architecture import Architecture
from ecco_core.proving.detect import Detection, detect, to_yaml
from ecco_core.proving.tiny_models import tasks_of, tiny_model
from ecco_core.proving.verify import Verification, verify
from ecco_core.registry.structure import HEAD_TASKS, Structure


@attrs.frozen(kw_only=True)
class ModelFile:
    """A model file and where it was found.

    Attributes:
        found_in: the model that was looked at. `tasks`: those that it is proven for. `heads`: those with a head.
        text: the file. `notes`: one sentence each on what is not proven or not there.
    """

    model_type: str
    found_in: str
    tasks: tuple[str, ...]
    heads: tuple[str, ...]
    text: str
    notes: tuple[str, ...]


def model_file(model: Any, task: str | None, name: str) -> ModelFile:
    """Return the file of a model, proven on it and on small random models of its type for every task.

    Args:
        name: what the user called it.

    Raises:
        ArchitectureError: the layout cannot be proven, or is not that of other models of this type.
    """
    model_type = model.config.model_type
    if model_type not in transformers.CONFIG_MAPPING:
        raise ArchitectureError(
            f"transformers has no architecture {model_type!r}, so no small random model can prove a file again: "
            "write one as docs/models.md shows, and prove it with `ecco models verify FOLDER`."
        )
    found = detect(model, task)
    structure, more = _with_other_heads(found)
    proofs = [found.verification, *_proven_again(structure, model_type, name)]
    path = Path(name)
    where = path.resolve().name if path.is_dir() else name if name != model_type else f"a small random {name} model"
    notes = (*found.notes, *more)
    head = [*_told(f"{visible(where)} ({found.verification.task})", proofs)]
    head += ["Not proven, or not there:", *(f"    {note}" for note in notes)] if notes else []
    tasks = tuple(proof.task for proof in proofs[1:])
    text, heads = to_yaml(structure, head), tuple(structure.heads)
    return ModelFile(model_type=model_type, found_in=visible(where), tasks=tasks, heads=heads, text=text, notes=notes)


def _with_other_heads(found: Detection) -> tuple[Structure, list[str]]:
    """The structure with the heads of other tasks that share its layout, and why others are left out."""
    structure, left_out = found.structure, []
    model_type, heads = found.verification.model_type, dict(structure.heads)
    others = ("causal", "seq2seq") if len(structure.stacks) > 1 else ("causal", "masked")
    for task in (task for task in others if task in tasks_of(model_type) and task not in heads):
        try:
            other = detect(tiny_model(model_type, task), task).structure
        except ArchitectureError as error:
            left_out.append(f"the head for {task}: {error}")
            continue
        if (other.stacks, other.logits) == (structure.stacks, structure.logits):
            heads |= other.heads
        else:
            left_out.append(f"the head for {task}: {model_type} models for it are laid out differently.")
    return attrs.evolve(structure, heads=heads), left_out


def _proven_again(structure: Structure, model_type: str, name: str) -> Iterator[Verification]:
    """The proofs that the test of the file makes.

    Raises:
        ArchitectureError: one fails.
    """
    for task in tasks_of(model_type):
        if task in structure.heads or task not in HEAD_TASKS:
            try:
                model = tiny_model(model_type, task)
                proof = verify(model, Architecture(structure, model), task)
                wrong = [f"{check.site}: {check.detail}" for check in proof.failed]
            except Exception as error:  # whatever a model raises
                wrong = [str(error) if isinstance(error, ArchitectureError) else one_line(error)]
            if wrong:
                raise ArchitectureError(
                    f"What was found in {name!r} is not proven again on a small random {model_type} model for {task}: "
                    f"{listed(wrong, 2).rstrip('.')}. Nothing is written; `ecco models detect {name}` prints what was "
                    "found, and docs/models.md says what else a file may say (tiny, variants)."
                )
            yield proof


def _told(where: str, proofs: Sequence[Verification]) -> Iterator[str]:
    """What was proven on what, and how exactly."""
    versions = f"ecco-core {__version__}, transformers {transformers.__version__}"
    yield f"Found by `ecco models new` ({versions}) in"
    yield f"{where}, and proven there and on small random models:"
    yield f"{', '.join(proof.task for proof in proofs[1:])}."
    yield "Largest relative error of each site, by the identities that say what it means:"
    errors: dict[tuple[str, str], float] = {}
    identities: dict[tuple[str, str], dict[str, None]] = {}
    for check in (check for proof in proofs for check in proof.checks):
        if check.status == "proven" and check.residual is not None:
            key = check.stack, check.site
            errors[key] = max(errors.get(key, 0.0), check.residual)
            identities.setdefault(key, {})[check.identity] = None
    for (stack, site), error in errors.items():
        yield f"    {stack} {site:<14} {error:.1e}  {', '.join(identities[stack, site])}"
