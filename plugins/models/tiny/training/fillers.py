"""Words that the copying grammar puts into its templates, by kind, read from `fillers_lists/`.

The kind "word" holds frequent lower-case words of the Python documentation, which stand for passwords,
identifiers and other arbitrary names; the other lists were written for the grammar.
"""

from pathlib import Path

LISTS = Path(__file__).parent / "fillers_lists"
KIND_NAMES = ("name", "place", "object", "role", "animal", "food", "colour", "room", "number", "word")


def read_kind(kind: str) -> tuple[str, ...]:
    """Return the fillers of a kind, in the order of its file."""
    return tuple((LISTS / f"{kind}.txt").read_text(encoding="utf-8").split())


KINDS = {kind: read_kind(kind) for kind in KIND_NAMES}
