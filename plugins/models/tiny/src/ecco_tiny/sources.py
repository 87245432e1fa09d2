"""Where the shipped model folders are."""

import difflib
from pathlib import Path

from ecco_core import ModelNotFoundError

MODELS = Path(__file__).parent / "models"


def available() -> tuple[str, ...]:
    """Return the names of the shipped models, sorted."""
    return tuple(sorted(folder.parent.name for folder in MODELS.glob("*/config.json")))


def resolve(name: str) -> Path:
    """Return the folder of a shipped model, or raises ModelNotFoundError naming the ones there are."""
    names = available()
    if name in names:
        return MODELS / name
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean 'tiny:{near[0]}'?" if near else ""
    there = ", ".join(f"tiny:{known}" for known in names) or "none"
    raise ModelNotFoundError(f"ecco-tiny has no model {name!r}.{hint} Available: {there}.")
