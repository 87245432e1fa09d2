"""Generated texts that repeat names, words and lists, so that the model learns to copy from its context.

`training_texts` is the endless stream mixed into the training data.  `held_out_prompts` gives texts cut
right before a repetition.  Every template keeps about a sixth of the fillers that it may copy for the
held-out prompts, so no (template, answer) pair of a prompt is ever repeated in training.
"""

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from fillers import KINDS
from templates import BINDINGS, DISTRACTORS, LISTINGS, UNSEEN_BINDINGS, UNSEEN_LISTINGS, Binding, Listing

RESERVED_ONE_IN = 6
TRAINING_SEED = 20_000
HELD_OUT_SEED = 90_001
UNSEEN_SEED = 90_002


@dataclass(frozen=True)
class CopyText:
    """A generated text and its copies: where each repeated value starts (with its space), and the value."""

    text: str
    copies: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class CopyPrompt:
    """A text that stops right before `answer` (leading space included), which occurs in it already."""

    text: str
    answer: str
    template: str


class Writer:
    """Collects the pieces of one text and remembers where copied values begin."""

    def __init__(self) -> None:
        self.text = ""
        self.copies: list[tuple[int, str]] = []

    def sentence(self, sentence: str) -> None:
        """Add a sentence to the paragraph, or begin a new one after a block; mend "a" before a vowel."""
        sentence = re.sub(r"\b([Aa]) (?=[aeiou][a-z])", r"\1n ", sentence)
        if sentence.startswith("\n") or not self.text:
            self.text = self.text.rstrip("\n")
            sentence = sentence if self.text else sentence.lstrip("\n")
        elif self.text.endswith("\n"):
            self.text = self.text.rstrip("\n") + "\n\n"
        else:
            self.text += " "
        self.text += sentence

    def copy(self, value: str) -> None:
        """Add a repeated value; the copy starts at the space before it, if there is one."""
        spaced = self.text.endswith(" ") and not self.text.endswith("  ")
        start = len(self.text) - spaced
        self.text += value
        self.copies.append((start, self.text[start:]))

    def finish(self) -> CopyText:
        """Return what was written."""
        return CopyText(self.text, tuple(self.copies))


def is_reserved(template: str, value: str) -> bool:
    """Tell whether a template keeps a filler for held-out prompts, by the SHA-256 of both."""
    digest = hashlib.sha256(f"{template}\0{value}".encode()).digest()
    return digest[0] % RESERVED_ONE_IN == 0


def _pools() -> dict[tuple[str, bool], tuple[str, ...]]:
    """Return the fillers that each template may copy: in training (False), in held-out prompts (True)."""
    pools = {}
    for template in (*BINDINGS, *LISTINGS):
        fillers = KINDS[template.value if isinstance(template, Binding) else template.kind]
        for held_out in (False, True):
            pools[template.name, held_out] = tuple(
                filler for filler in fillers if is_reserved(template.name, filler) == held_out
            )
    for template in (*UNSEEN_BINDINGS, *UNSEEN_LISTINGS):
        kind = template.value if isinstance(template, Binding) else template.kind
        pools[template.name, True] = KINDS[kind]
    return pools


POOLS = _pools()


def distract(rng: random.Random, writer: Writer, avoid: tuple[str, ...], most: int) -> None:
    """Add up to `most` sentences that have nothing to do with the copied values."""
    for _ in range(rng.randint(0, most)):
        sentence = rng.choice(DISTRACTORS)
        for kind, fillers in KINDS.items():
            while "{" + kind + "}" in sentence:
                filler = rng.choice(fillers)
                if filler not in avoid:
                    sentence = sentence.replace("{" + kind + "}", filler, 1)
        writer.sentence(sentence)


def recall(writer: Writer, pattern: str, key: str, value: str) -> None:
    """Add a sentence that repeats `value`, and marks the repetition."""
    before, after = pattern.split("{value}")
    writer.sentence(before.format(key=key))
    writer.copy(value)
    writer.text += after.format(key=key)


def write_binding(rng: random.Random, template: Binding, held_out: bool) -> CopyText:
    """Return a text that tells one to four facts and then recalls some of them."""
    pool = POOLS[template.name, held_out]
    count = min(rng.choice((1, 1, 2, 2, 3, 3, 4)), len(pool))
    values = rng.sample(pool, count)
    keys = rng.sample([filler for filler in KINDS[template.key] if filler not in values], count)
    writer = Writer()
    avoid = (*values, *keys)
    distract(rng, writer, avoid, 2)
    for key, value in zip(keys, values, strict=True):
        writer.sentence(rng.choice(template.tells).format(key=key, value=value))
        distract(rng, writer, avoid, 2)
    if rng.random() < 0.2:
        writer.text = writer.text.rstrip("\n") + "\n\n"
    facts = rng.sample(list(zip(keys, values, strict=True)), rng.randint(1, count))
    for key, value in facts:
        distract(rng, writer, avoid, 2)
        recall(writer, rng.choice(template.recalls), key, value)
    if not held_out and rng.random() < 0.5:
        recall(writer, rng.choice(template.recalls), *rng.choice(facts))
    return writer.finish()


LAYOUTS = {
    "comma": ("", " ", ", ", "."),
    "and": ("", " ", " and ", "."),
    "plain": ("", " ", " ", "."),
    "arrows": ("", " from ", " to ", "."),
    "bullets": ("\n\n* ", "", "\n* ", "\n"),
    "brackets": (' ["', "", '", "', '"]\n'),
    "arguments": ("(", "", ", ", ")\n"),
}


def show_list(writer: Writer, layout: str, items: list[str], copied: bool) -> None:
    """Add a list in its layout; on the second showing every item is a copy."""
    add = writer.copy if copied else lambda value: setattr(writer, "text", writer.text + value)
    if layout == "numbered":
        writer.text += "\n"
        for number, item in enumerate(items, start=1):
            writer.text += f"\n{number}. "
            add(item)
        writer.text += "\n"
        return
    opening, first, between, closing = LAYOUTS[layout]
    if writer.text.endswith("\n"):
        opening = opening.lstrip(" ")
    writer.text += opening + first
    for index, item in enumerate(items):
        writer.text += between if index else ""
        add(item)
    writer.text += closing


def write_listing(rng: random.Random, template: Listing, held_out: bool) -> CopyText:
    """Return a text that shows a list of two to nine items twice, with other sentences between."""
    pool = POOLS[template.name, held_out]
    longest = min(14 if template.layout == "plain" else 7, len(pool))
    items = rng.sample(pool, rng.randint(min(3, longest), longest))
    writer = Writer()
    prose = template.layout in ("comma", "and", "plain", "arrows")
    distract(rng, writer, tuple(items), 2)
    separate(writer, prose)
    heading, repeat = rng.choice(list(zip(template.headings, template.repeats, strict=True)))
    writer.sentence(heading)
    show_list(writer, template.layout, items, copied=False)
    separate(writer, prose)
    distract(rng, writer, tuple(items), 3)
    separate(writer, prose)
    writer.sentence(repeat)
    show_list(writer, template.layout, items, copied=True)
    return writer.finish()


def separate(writer: Writer, prose: bool) -> None:
    """Start a new paragraph unless the list is part of a sentence."""
    if writer.text and not prose:
        writer.text = writer.text.rstrip("\n") + "\n\n"


def write_gift(rng: random.Random, held_out: bool) -> CopyText:
    """Return a text in which people give things to people, and the three parts are asked for."""
    count = rng.choice((1, 2, 2, 3))
    names = rng.sample(POOLS["gift-name", held_out], 2 * count)
    objects = rng.sample(POOLS["gift-object", held_out], count)
    gifts = list(zip(names[:count], objects, names[count:], strict=True))
    writer = Writer()
    avoid = (*names, *objects)
    distract(rng, writer, avoid, 2)
    for giver, thing, taker in gifts:
        writer.sentence(rng.choice(GIFT_TELLS).format(giver=giver, thing=thing, taker=taker))
        distract(rng, writer, avoid, 2)
    for giver, thing, taker in rng.sample(gifts, rng.randint(1, count)):
        part, pattern = rng.choice(GIFT_RECALLS)
        parts = {"giver": giver, "thing": thing, "taker": taker}
        before, after = pattern.split("{" + part + "!}")
        writer.sentence(before.format(**parts))
        writer.copy(parts[part])
        writer.text += after.format(**parts)
        distract(rng, writer, avoid, 1)
    return writer.finish()


GIFT_TELLS = (
    "{giver} gave the {thing} to {taker}.",
    "{giver} sold a {thing} to {taker}.",
    "The {thing} was sent by {giver} to {taker}.",
)
GIFT_RECALLS = (
    ("taker", "In the end the {thing} of {giver} was kept by {taker!}."),
    ("taker", "It was {giver} who gave the {thing} to {taker!}."),
    ("giver", "{taker} thanked for the {thing} and wrote to {giver!}."),
    ("giver", "The {thing} of {taker} came from {giver!}."),
    ("thing", "{giver} asked {taker} about the {thing!}."),
    ("thing", "{taker} told {giver} how useful it was, the {thing!}."),
)
for _held_out in (False, True):
    POOLS["gift-name", _held_out] = tuple(n for n in KINDS["name"] if is_reserved("gift", n) == _held_out)
    POOLS["gift-object", _held_out] = tuple(n for n in KINDS["object"] if is_reserved("gift", n) == _held_out)

TEMPLATES: tuple[Binding | Listing | str, ...] = (*BINDINGS, *LISTINGS, "gift")
UNSEEN: tuple[Binding | Listing | str, ...] = (*UNSEEN_BINDINGS, *UNSEEN_LISTINGS)


def write(rng: random.Random, template: Binding | Listing | str, held_out: bool) -> CopyText:
    """Return one text of a template."""
    if isinstance(template, Binding):
        return write_binding(rng, template, held_out)
    if isinstance(template, Listing):
        return write_listing(rng, template, held_out)
    return write_gift(rng, held_out)


def training_texts(seed: int = TRAINING_SEED) -> Iterator[CopyText]:
    """Yield training texts without end; none copies a filler that its template keeps for the prompts."""
    rng = random.Random(seed)
    while True:
        yield write(rng, rng.choice(TEMPLATES), held_out=False)


def held_out_prompts(n: int = 200, seed: int = HELD_OUT_SEED, unseen_templates: bool = False) -> list[CopyPrompt]:
    """Return `n` prompts that stop right before a repetition never seen in training.

    With `unseen_templates` the wording is new as well, not only the pair of template and answer.
    """
    rng = random.Random(seed + unseen_templates)
    templates = UNSEEN if unseen_templates else TEMPLATES
    prompts = []
    for index in range(n):
        template = templates[index % len(templates)]
        written = write(rng, template, held_out=True)
        start, answer = rng.choice(written.copies)
        name = template if isinstance(template, str) else template.name
        prompts.append(CopyPrompt(written.text[:start], answer, name))
    return prompts
