"""Draw the growth curves of a file of figures. python plot.py FIGURES PICTURE"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt, ticker

STYLES = {
    "ours": ("Ecco-core", "#0b6e99", "o"),
    "naive": ("naive loop", "#7a7a7a", "s"),
    "inseq": ("Inseq 0.7.1", "#c4501b", "^"),
    "ecco": ("Ecco 0.1.2", "#7b3fa0", "D"),
}


def main(figures: str, picture: str) -> None:
    """One panel for each curve, both axes logarithmic, on an opaque background that dark pages keep."""
    found = json.loads(Path(figures).read_text(encoding="utf-8"))
    clock = "processor seconds, 1 thread" if found["threads"] == 1 else f"seconds, {found['threads']} threads"
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, panels = plt.subplots(1, len(found["growth"]), figsize=(10.5, 3.4), layout="constrained", facecolor="white")
    for panel, curve in zip(panels, found["growth"].values()):
        for name, line in curve["lines"].items():
            label, colour, marker = STYLES[name]
            dashes = "--" if name == "naive" else "-"  # it runs along with the peers
            panel.plot(*zip(*line), dashes, label=label, color=colour, marker=marker, markersize=4, linewidth=1.6)
        ticks = sorted({x for line in curve["lines"].values() for x, _ in line})
        panel.set(xscale="log", yscale="log", xlabel=curve["axis"], title=curve["title"])
        panel.set_xticks(ticks, [f"{x:,}" for x in ticks])
        panel.minorticks_off()
        panel.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 3)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.grid(color="#dddddd", linewidth=0.6)
    panels[0].set_ylabel(clock)
    panels[0].legend(frameon=False)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
