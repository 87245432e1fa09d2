"""Labels that any machine has: token classes of Python source, kinds of words; and sentences with such words."""

from __future__ import annotations

import functools
import io
import keyword
import re
import tokenize
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

#: position of a token, its label, the word type that it belongs to
Labelled = tuple[int, str, str]

_CLASSES = {"NAME": "name", "NUMBER": "number", "STRING": "string", "COMMENT": "comment", "OP": "operator"}
_SENTENCES = (
    "The {role} is called {name}.",
    "{name} bought a {object} in the market.",
    "For many years {name} has lived in {place}.",
    "The {object} is hidden in the {room}.",
    "{name} works as a {role}.",
    "The {animal} is named {name}.",
    "{name} only eats {food}.",
    "The colour of the {object} is {colour}.",
    "{name} keeps a {animal} in the garden.",
    "The {role} is going to travel to {place}.",
    "They looked for the {animal} in the {room}.",
    "In {place} they sell {food}.",
)


def python_classes(texts: Sequence[str]) -> list[Labelled]:
    """Return the class of each model token in Python source, as Python's own `tokenize` reads it.

    The classes are ``keyword``, ``name``, ``number``, ``string``, ``comment`` and ``operator``. A token that holds
    characters of two classes, or only white space, has none. Source that breaks off is read as far as it goes.

    Args:
        texts: the tokens' texts; joined they are the source.

    Returns:
        (position, class, the token's text without white space and case) of each token that has a class.
    """
    source = "".join(texts)
    classes = [""] * len(source)
    for start, end, label in _python_units(source):
        classes[start:end] = [label] * (end - start)
    rows = []
    for position, (start, text) in enumerate(zip(_starts(texts), texts)):
        found = {classes[start + i] for i, character in enumerate(text) if not character.isspace()}
        if len(found) == 1 and "" not in found:
            rows.append((position, found.pop(), text.strip().casefold()))
    return rows


def _starts(texts: Sequence[str]) -> list[int]:
    """Where each text starts in all of them joined."""
    return list(accumulate(map(len, texts), initial=0))[:-1]


def _python_units(source: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and class of each of Python's tokens."""
    lines = _starts(list(io.StringIO(source)))
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            name = tokenize.tok_name[token.type]
            label = "string" if name.startswith(("FSTRING", "TSTRING")) else _CLASSES.get(name, "")
            if label:
                (first, column), (last, end) = token.start, token.end
                label = "keyword" if keyword.iskeyword(token.string) else label
                yield lines[first - 1] + column, lines[last - 1] + end, label
    except (tokenize.TokenError, SyntaxError):  # it breaks off: what was read so far counts
        return


@functools.cache
def lexicon() -> dict[str, str]:
    """Return lower-case word -> kind, of the words that the shipped tiny models were trained to copy.

    The kinds are ``animal``, ``colour``, ``food``, ``name``, ``object``, ``place``, ``role`` and ``room``. Words of
    two kinds, such as Florence, are left out.
    """
    kind, pairs = "", []
    for word in Path(__file__).with_name("kinds.txt").read_text(encoding="utf-8").split():
        if word.endswith(":"):
            kind = word[:-1]
        else:
            pairs.append((word.casefold(), kind))
    times = Counter(word for word, _ in pairs)
    return {word: kind for word, kind in pairs if times[word] == 1}


def word_kinds(texts: Sequence[str]) -> list[Labelled]:
    """Return the kind of each word of the `lexicon`, at the last token of the word.

    Args:
        texts: the tokens' texts; joined they are the text.

    Returns:
        (position of the word's last token, kind, the word in lower case).
    """
    starts, rows = _starts(texts), []
    for word in re.finditer(r"\w+", "".join(texts)):
        kind = lexicon().get(word.group().casefold())
        if kind:
            position = bisect_right(starts, word.end() - 1) - 1
            rows.append((position, kind, word.group().casefold()))
    return rows


def sentences(n: int, seed: int = 0) -> list[str]:
    """Return `n` random sentences with words of the `lexicon`, such as "The dog is named Nora."."""
    rng = np.random.default_rng(seed)
    kinds: dict[str, list[str]] = {}
    proper = {"name", "place"}
    for word, kind in lexicon().items():
        kinds.setdefault(kind, []).append(word.capitalize() if kind in proper else word)
    chosen = (_SENTENCES[i] for i in rng.integers(len(_SENTENCES), size=n))
    return [re.sub(r"{(\w+)}", lambda found: str(rng.choice(kinds[found[1]])), text) for text in chosen]
