"""The Python of the README and of other pages, run as it stands, block after block."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def blocks_of(page):
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


BLOCKS = blocks_of(ROOT / "README.md")


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What the blocks print."""
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


PAGES = [f"docs/{name}.md" for name in ("believe", "hosts", "attribution")]
PLUGINS = ("attribution/attention", "attribution/captum", "attribution/lrp", "factorization/neurons", "lens/logit")
PAGES += [f"plugins/{name}/README.md" for name in PLUGINS]


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(page, tmp_path):
    names: dict[str, object] = {}
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(io.StringIO()):
        for block in blocks_of(ROOT / page):
            exec(compile(block, page, "exec"), names)
    assert names
