"""Generated reviews of films, restaurants and products, with the words that decide their sentiment.

The texts come from `review_lists/`.  In templates and phrases `[words]` decide.  About a sixth of the pairs of
a template and a sentiment word, and a few whole templates, are kept out of training: `review(rng, "train")`
never shows them, "held_out" decides by a kept pair, "unseen" by a kept template.
"""

import hashlib
import random
import re
from dataclasses import dataclass
from pathlib import Path

LISTS = Path(__file__).parent / "review_lists"
DOMAINS = ("film", "food", "product")
LABELS = ("negative", "positive")
PAIRS_KEPT_ONE_IN = 6
TEMPLATES_KEPT_ONE_IN = 14
MARKS = {"[": "deciding", "<": "opposing", "«": "cues"}
CLOSING = "]>»"
FORMS = {"loved": ("verb", 0), "love": ("verb", 1), "moved": ("affect", 0), "move": ("affect", 1),
         "shone": ("act", 0), "shine": ("act", 1), "feel": ("feeling", 0), "advd": ("adverb", 0),
         "noun": ("noun", 0), "abs": ("abstract", 0), "best": ("best", 0), "better": ("better", 0)}  # fmt: skip
WHOLE_KINDS = (("plain", 34), ("negated", 22), ("contrast", 26), ("wished", 4), ("phrase", 14))
CLAUSE_KINDS = (("plain", 60), ("negated", 20), ("phrase", 20))


@dataclass(frozen=True)
class Review:
    """A review, its label (1 is positive) and the character spans of words that decide, oppose or connect."""

    text: str
    label: int
    kind: str
    deciding: tuple[tuple[int, int], ...]
    opposing: tuple[tuple[int, int], ...]
    cues: tuple[tuple[int, int], ...]


def read_sections(name: str) -> dict[str, list[str]]:
    """Return the sections of a list file: lines for phrases and templates, else single words."""
    sections: dict[str, list[str]] = {}
    for line in (LISTS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            section = line[2:]
            sections[section] = []
            by_line = name == "templates" or section.split()[0] in ("phrase", "filler")
        elif by_line:
            sections[section].append(line)
        else:
            sections[section] += [word.replace("_", " ") for word in line.split()]
    return {section: list(dict.fromkeys(entries)) for section, entries in sections.items()}


SENSES = tuple(read_sections(label) for label in LABELS)
NEUTRAL = read_sections("neutral")
TEMPLATES = read_sections("templates")


def sense_words() -> list[str]:
    """Return every word of sentiment."""
    return [
        form
        for sense in SENSES
        for section, entries in sense.items()
        if not section.startswith("phrase")
        for entry in entries
        for form in entry.split("/")
    ]


def kept(key: str, one_in: int) -> bool:
    """Tell whether a key belongs to the share that is kept out of training."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % one_in == 0


def is_unseen(template: str) -> bool:
    """Tell whether a template never occurs in training."""
    return kept(template, TEMPLATES_KEPT_ONE_IN)


def plural(word: str) -> str:
    """Return the regular plural of a noun."""
    if re.search("[^aeou]y$", word):
        return word[:-1] + "ies"
    return word if word.endswith("series") else word + ("es" if re.search("(s|ch|sh)$", word) else "s")


class Writer:
    """Writes one review of a domain: expands templates and picks words that its mode allows."""

    def __init__(self, rng: random.Random, mode: str) -> None:
        self.rng = rng
        self.mode = mode
        self.domain = rng.choice(DOMAINS)

    def kind(self, kinds: tuple[tuple[str, int], ...]) -> str:
        """Return a kind of clause by weight; held-out reviews are not decided by a phrase of the list alone."""
        names, weights = zip(*kinds, strict=True)
        while (kind := self.rng.choices(names, weights)[0]) == "phrase" and self.mode != "train":
            pass
        return kind

    def template(self, kind: str, unseen: bool) -> str:
        """Return a template of a kind that is, or is not, one of those kept out of training."""
        while is_unseen(template := self.rng.choice(TEMPLATES[kind])) != unseen:
            pass
        return template

    def sense_words(self, slot: str, sense: int) -> tuple[list[str], int]:
        """Return the words that fill a slot with a sense, and which of their forms."""
        lists = SENSES[sense]
        if slot == "adj_p":
            return lists["adjective person"], 0
        if slot == "adj":
            return lists["adjective" if self.rng.random() < 0.7 else f"adjective {self.domain}"], 0
        section, form = FORMS[slot]
        return lists[section], form

    def sense_word(self, slot: str, sense: int, template: str, decides: bool) -> str:
        """Return a marked word; the pair with its template is kept or not, as the mode wants it."""
        want = {"train": False, "held_out": decides, "unseen": None}[self.mode]
        for _ in range(200):
            words, form = self.sense_words(slot, sense)
            word = self.rng.choice(words)
            if want is None or kept(f"{template}|{word}", PAIRS_KEPT_ONE_IN) == want:
                break
        marked = f"[{word.split('/')[form] if '/' in word else word}]"
        if slot.startswith("adj") and self.rng.random() < 0.3:
            return f"{self.rng.choice(NEUTRAL['intensifier'])} {marked}"
        return marked

    def neutral_word(self, slot: str) -> str:
        """Return a word without sentiment."""
        if slot in ("w", "ws"):
            word = self.rng.choice(NEUTRAL[f"whole {self.domain}"])
            return plural(word) if slot == "ws" else word
        section = {"a": "aspect", "as": "plural", "p": "person"}.get(slot)
        return self.rng.choice(NEUTRAL[f"{section} {self.domain}" if section else slot])

    def fill(self, template: str, sense: int, decides: bool = True) -> str:
        """Return a template with its slots filled: `-` turns the sense around, `o_` fills in what opposes."""

        def value(match: re.Match[str]) -> str:
            slot = match[1]
            if slot in ("c", "o"):
                clause = self.clause(sense if slot == "c" else 1 - sense, decides and slot == "c")
                return clause if slot == "c" else opposed(clause)
            if slot.startswith("o_"):
                return opposed(self.sense_word(slot[2:], 1 - sense, template, False))
            turned = slot.startswith("-")
            slot = slot.removeprefix("-")
            if slot in FORMS or slot.startswith("adj"):
                return self.sense_word(slot, 1 - sense if turned else sense, template, decides)
            return self.neutral_word(slot)

        template = template.replace(" (,)", self.rng.choice([" ,", ""]))
        return re.sub(r"\{([^}]+)\}", value, template)

    def clause(self, sense: int, decides: bool = True) -> str:
        """Return a clause of a sense without contrast."""
        kind = self.kind(CLAUSE_KINDS)
        if kind == "phrase":
            return self.phrase(sense)
        return self.fill(self.template(kind, unseen=False), 1 - sense if kind == "negated" else sense, decides)

    def phrase(self, sense: int) -> str:
        """Return a phrase of the lists."""
        section = "phrase" if self.rng.random() < 0.75 else f"phrase {self.domain}"
        return self.rng.choice(SENSES[sense][section])

    def whole(self, sense: int) -> tuple[str, str]:
        """Return a deciding sentence and its kind."""
        kind = self.kind(WHOLE_KINDS)
        if kind == "wished" and sense == 1:
            kind = "plain"
        if kind == "phrase":
            return self.phrase(sense), kind
        template = self.template(kind, self.mode == "unseen")
        if kind == "contrast":
            template = re.sub(r"[a-z][a-z ]*[a-z]|[a-z]", lambda m: f"«{m[0]}»", hide(template)).translate(SHOW)
        sentence = self.fill(template, 1 - sense if kind in ("negated", "wished") else sense)
        if self.rng.random() < 0.1:
            sentence = f"{self.rng.choice(NEUTRAL['hedge'])} , {sentence}"
        return sentence, kind

    def filler(self) -> str:
        """Return a sentence without sentiment."""
        return self.fill(self.rng.choice(NEUTRAL["filler"]), 0)


SHOW = str.maketrans({chr(0xE000 + ord(char)): char for char in "abcdefghijklmnopqrstuvwxyz_"})


def hide(template: str) -> str:
    """Return a template with the letters of slots and marked words moved aside."""
    return re.sub(r"\{[^}]*\}|\[[^]]*\]", lambda m: re.sub("[a-z_]", lambda c: chr(0xE000 + ord(c[0])), m[0]), template)


def opposed(clause: str) -> str:
    """Return a clause whose deciding words are marked as opposing."""
    return clause.translate(str.maketrans("[]", "<>"))


def tidy(sentence: str, rng: random.Random) -> str:
    """Return a sentence with its article mended, a capital and a full stop, or rarely something else."""
    sentence = re.sub(r"\b([Aa]»?) (?=[\[<«]?(?!uni|use|one)[aeiou])", r"\1n ", sentence).replace("»n ", "n» ")
    sentence = re.sub(r"^\W*\w|[.:] \W*\w", lambda m: m[0].upper(), re.sub(r" ([,.:])", r"\1", sentence))
    return sentence + rng.choices([".", "!", "...", ""], [80, 14, 3, 3])[0]


def strip_marks(marked: str) -> tuple[str, dict[str, tuple[tuple[int, int], ...]]]:
    """Return a text without marks, and the spans that each kind of mark held."""
    spans: dict[str, list[tuple[int, int]]] = {name: [] for name in MARKS.values()}
    text, begun = "", []
    for char in marked:
        if char in MARKS:
            begun.append((MARKS[char], len(text)))
        elif char in CLOSING:
            name, start = begun.pop()
            spans[name].append((start, len(text)))
        else:
            text += char
    return text, {name: tuple(found) for name, found in spans.items()}


def review(rng: random.Random, mode: str = "train", alone: bool = False) -> Review:
    """Return a review: one deciding sentence, or in training sometimes more, among neutral ones or alone."""
    writer, label = Writer(rng, mode), rng.randrange(2)
    deciding, kind = writer.whole(label)
    sentences = [deciding]
    if mode == "train" and not alone:
        sentences += [writer.whole(label)[0] for _ in range(rng.choices([0, 1, 2], [70, 22, 8])[0])]
    for _ in range(0 if alone else rng.choices([0, 1, 2, 3], [35, 30, 22, 13])[0]):
        sentences.insert(rng.randint(0, len(sentences)), writer.filler())
    text, spans = strip_marks(" ".join(tidy(sentence, rng) for sentence in sentences))
    return Review(text, label, kind, **spans)
