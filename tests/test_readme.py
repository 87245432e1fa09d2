"""The README's Python, run as it stands, block after block."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What the blocks print."""
    import contextlib
    import io

    printed = io.StringIO()
    names: dict[str, object] = {}
    with contextlib.chdir(tmp_path_factory.mktemp("readme")), contextlib.redirect_stdout(printed):
        for block in BLOCKS:
            exec(compile(block, "README.md", "exec"), names)
        assert Path("why.html").is_file()
        assert Path("why.ecco").is_file()
    return printed.getvalue()


def test_every_block_runs_and_says_what_its_comments_promise(said):
    assert len(BLOCKS) >= 5
    promised = [line.split("# … ", 1)[1].strip() for block in BLOCKS for line in block.splitlines() if "# … " in line]
    assert len(promised) == 2
    for line in promised:
        assert line in said
