"""Draw every kind of result from the shipped tiny models: ``python gallery.py FOLDER``; to be looked at."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ecco_core as ecco

TEXT = "The captain of the ship is called Nora. She has a small dog. One evening the captain"
STORY = TEXT + " asked Felix about the map. The cook is called Felix. He has a big cat. Everyone thanked the captain."


def figures() -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Name, result and options of each figure."""
    lm = ecco.from_pretrained("tiny:prose")
    run, read = lm.generate(TEXT, max_new_tokens=10), lm(STORY)
    scores, attention = run.analyze("integrated_gradients"), run.analyze("attention")
    words = ["word start" if starts else "inside" for starts in read.tokens.starts_word]
    last = len(run.tokens) - 1
    yield "scores_matrix", scores, {}
    yield "scores_bars", scores, {"target": last}
    yield "scores_text", scores, {"view": "text", "target": last}
    yield "scores_unsigned", run.analyze("saliency"), {}
    yield "lens", run.analyze("logit_lens"), {}
    yield "rankings", run.analyze("rankings"), {}
    yield "watched", run.analyze("rankings_watch", watch=[" Nora", " captain", " the"], position=8), {}
    yield "predictions", run.analyze("candidates", position=9), {}
    yield "next", run.analyze("predict"), {}
    yield "heads", attention, {}
    yield "heads_of_a_layer", attention, {"layer": 3}
    yield "head", attention, {"layer": 3, "head": 1}
    yield "head_lines", attention, {"layer": 3, "head": 1, "view": "lines"}
    yield "components", run.analyze("nmf", n_components=4), {}
    yield "components_signed", run.analyze("pca", n_components=3), {}
    yield "neurons", run.analyze("neuron_activations"), {}
    yield "grid_null", ecco.analyze("procrustes", run), {}
    yield "grid", run.analyze("head_scores"), {}
    yield "curves", read.analyze("probe", labels=words), {}
    yield "points", run.analyze("umap"), {}
    yield "table", run.analyze("top_neurons"), {}
    yield "fitted", read.analyze("fit_probe", labels=words, layers=[1]), {}
    review = ecco.from_pretrained("tiny:classifier")("The film was a delight, but the ending was dull.")
    yield "class", review.analyze("integrated_gradients"), {}
    masked = ecco.from_pretrained("tiny:masked")("The captain is called [MASK]. She has a [MASK].")
    yield "masked", masked.analyze("integrated_gradients"), {}
    answer = ecco.from_pretrained("tiny:seq2seq").generate("a b c d", max_new_tokens=8)
    yield "two_stacks", answer.analyze("integrated_gradients"), {}
    yield "two_stacks_text", answer.analyze("integrated_gradients"), {"view": "text", "target": 1}


def main(folder: Path) -> None:
    """Save each figure for a column and for a page."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, result, options in figures():
        for width in ("column", "page"):
            print(result.save(folder / f"{name}_{width}.png", width=width, dpi=130, **options).name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
