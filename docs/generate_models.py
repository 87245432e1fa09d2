"""Write the table of docs/models.md anew: every type of the registry, proven on small random models (`make docs`)."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

from ecco_core.proving.verify import Verification, covered_tasks, verify_type
from ecco_core.registry import lookup
from ecco_core.registry.structure import HEAD_TASKS, STACKS

PAGE = Path(__file__).parent / "models.md"
BEGIN, END = "<!-- written by docs/generate_models.py: begin -->\n", "<!-- end -->"
MARKS = {"failed": "✗", "not proven": "?", "proven": "✓", "not there": ""}  # the worst first
COLUMNS = {
    "embedding": ("embedding",),
    "resid_pre, resid_post": ("resid_pre", "resid_post"),
    "resid_mid": ("resid_mid",),
    "attn_out": ("attn_out",),
    "mixer_out": ("mixer_out",),
    "mlp_out": ("mlp_out",),
    "mlp_post": ("mlp_post",),
    "router": ("router",),
    "q, k": ("q", "k"),
    "v": ("v",),
    "pattern": ("pattern",),
    "z": ("z",),
    "cross_q, cross_k": ("cross_q", "cross_k"),
    "cross_attn_out, cross_z, cross_v, cross_pattern": ("cross_attn_out", "cross_z", "cross_v", "cross_pattern"),
    "logits": ("logits",),
}


def table() -> str:
    """The table and the reasons, as Markdown."""
    types = sorted({model_type for entry in lookup.entries() for model_type in entry.structure.model_types})
    rows, reasons = [], dict[str, list[str]]()
    for model_type in types:
        found = [verify_type(model_type, task) for task in covered_tasks(model_type)]
        rows += _rows(model_type, found)
        for reason in dict.fromkeys(_reasons(found)):
            reasons.setdefault(reason, []).append(model_type)
    head = ["architecture", "tasks", "stack", *COLUMNS]
    lines = [head, ["---"] * len(head), *rows]
    told = [f"- {reason}: {', '.join(of)}." for reason, of in reasons.items()]
    return "\n".join(
        ["| " + " | ".join(line) + " |" for line in lines]
        + ["", "Not proven, and why (`zeros`: it can be read, not changed):", "", *told]
    )


def _rows(model_type: str, found: list[Verification]) -> Iterator[list[str]]:
    """One row for each stack; a site has the worst of its marks over the tasks that have a vocabulary head."""
    heads = [v for v in found if v.task in HEAD_TASKS] or found
    stacks = [stack for stack in STACKS if any(stack == check.stack for v in heads for check in v.checks)]
    for stack in stacks:
        of_tasks = [v.sites(stack) for v in heads if any(check.stack == stack for check in v.checks)]
        marks = []
        for column, sites in COLUMNS.items():
            statuses = {of_task[site] for of_task in of_tasks for site in sites}
            there = column != "logits" or stack == stacks[-1]
            marks.append(next(mark for status, mark in MARKS.items() if status in statuses) if there else "")
        tasks = ", ".join(v.task.replace("_classification", " classes") for v in found)
        yield [f"`{model_type}`", tasks if stack == stacks[0] else "", stack, *marks]


def _reasons(found: list[Verification]) -> Iterator[str]:
    for verification in found:
        for check in verification.checks:
            if check.status == "not proven" and verification.task in HEAD_TASKS:
                detail = re.sub(r"'[^']*\.\d+\.([^']*)'", r"'\1'", check.detail)
                site = {"q": "q, k", "k": "q, k"}.get(check.site, check.site)
                yield f"`{site}`, {check.identity}: {detail}"


def page(text: str) -> str:
    """The page with the table written anew."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}{table()}\n{END}{rest.split(END, 1)[1]}"


if __name__ == "__main__":
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    PAGE.write_text(new, encoding="utf-8")
    sys.stdout.write("docs/models.md is up to date.\n" if new == old else "docs/models.md is written.\n")
