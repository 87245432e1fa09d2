"""The Python documentation as text: which files are trained on and which are held out."""

import hashlib
import re
import subprocess
from pathlib import Path

PACKAGE = "python3.11-doc"
MARKER = "/_sources/"
HELD_OUT_ONE_IN = 20


def documentation_files() -> dict[str, Path]:
    """Return every reStructuredText source of the Debian package, by its name inside the documentation."""
    listing = subprocess.run(["dpkg", "-L", PACKAGE], check=True, capture_output=True, text=True).stdout
    paths = [Path(line) for line in listing.splitlines() if line.endswith("rst.txt")]
    return {str(path).split(MARKER)[1]: path for path in sorted(paths)}


def is_held_out(name: str) -> bool:
    """Tell whether a file is kept from training: one in twenty, by the SHA-256 of its name."""
    digest = hashlib.sha256(name.encode("utf-8")).digest()
    return int.from_bytes(digest[:4], "big") % HELD_OUT_ONE_IN == 0


def read_text(path: Path) -> str:
    """Return a file's text with trailing blanks dropped and runs of blank lines cut to two."""
    text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
    text = re.sub(r"[ \t]+\n", "\n", text)
    return re.sub(r"\n{4,}", "\n\n\n", text).strip() + "\n"


def read_corpus() -> tuple[dict[str, str], dict[str, str]]:
    """Return the training texts and the held-out texts, each by file name."""
    training: dict[str, str] = {}
    held_out: dict[str, str] = {}
    for name, path in documentation_files().items():
        (held_out if is_held_out(name) else training)[name] = read_text(path)
    return training, held_out
