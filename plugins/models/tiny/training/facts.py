"""Generated stories of facts, with questions that one fact answers in one word, and where that word stands.

A fact joins a subject and a value, such as a name and a role.  Stories state facts of several relations, and what is
asked for is the only word of its kind there.  About a sixth of all pairs of subject and value are kept out of
training, and held-out stories ask for such a pair.
"""

import random
import re
from collections import Counter
from dataclasses import dataclass

from fillers import KINDS
from reviews import kept

PAIRS_KEPT_ONE_IN = 6
GAP = "\x00"
KIND_LIST = ("name", "place", "object", "role", "animal", "food", "colour", "room")
SHARED = {
    word for kind in KIND_LIST for word in KINDS[kind] for other in KIND_LIST if other != kind and word in KINDS[other]
}
MOST_WORDS = 48


def some_words(kind: str) -> tuple[str, ...]:
    """Return at most `MOST_WORDS` words of a kind that belong to no other kind."""
    words = [word for word in KINDS[kind] if word not in SHARED]
    return tuple(sorted(random.Random(kind).sample(words, min(MOST_WORDS, len(words)))))


WORDS = {kind: some_words(kind) for kind in KIND_LIST}


@dataclass(frozen=True)
class Relation:
    """What joins a subject `S` and a value `V`: statements, and questions for either."""

    subject: str
    value: str
    statements: tuple[str, ...]
    ask_subject: tuple[str, ...]
    ask_value: tuple[str, ...]

    @property
    def kinds(self) -> tuple[str, str]:
        """The kinds of the subject and of the value."""
        return self.subject, self.value


RELATIONS = (
    Relation(
        "name", "role",
        ("S is the V", "the V is S", "the V is called S", "S works as the V"),
        ("who is the V?", "what is the V called?", "who works as the V?"),
        ("what is the job of S?", "what does S work as?"),
    ),
    Relation(
        "name", "place",
        ("S lives in V", "S comes from V", "the home of S is in V", "S moved to V"),
        ("who lives in V?", "who comes from V?"),
        ("where does S live?", "where is the home of S?"),
    ),
    Relation(
        "object", "room",
        ("the S is in the V", "the S lies in the V", "in the V is the S", "you can find the S in the V"),
        ("what is in the V?", "what can you find in the V?"),
        ("where is the S?", "where can you find the S?"),
    ),
    Relation(
        "object", "colour",
        ("the S is V", "the S was painted V", "the colour of the S is V"),
        ("what is V?", "which thing is V?"),
        ("what colour is the S?", "what is the colour of the S?"),
    ),
    Relation(
        "name", "object",
        ("S has the V", "the V belongs to S", "S owns the V", "S took the V"),
        ("who has the V?", "who owns the V?"),
        ("what does S have?", "what does S own?"),
    ),
    Relation(
        "name", "animal",
        ("S keeps the V", "S feeds the V", "the V lives with S"),
        ("who keeps the V?", "who feeds the V?"),
        ("which animal does S keep?", "what animal does S feed?"),
    ),
    Relation(
        "name", "food",
        ("S likes V", "S eats V", "S asked for V"),
        ("who likes V?", "who eats V?"),
        ("what does S like?", "what does S eat?"),
    ),
)  # fmt: skip

FILLERS = (
    "it was a long day", "the rain fell all night", "nobody said a word", "the sun came out at noon",
    "they met in the morning", "it happened a few years ago", "the wind was cold", "there was snow on the hills",
    "the door was open", "the night was quiet", "the summer was hot", "everyone went home early",
    "this is a short story", "many people came to the feast", "the streets were empty", "the bus was late",
    "they sat at the table and talked", "the children played outside", "it was getting dark", "the clouds were low",
    "someone was singing a song", "the old man told a tale", "the train left at seven", "they had known it for weeks",
    "a stranger came to town", "the days went by", "the river was wide", "the moon was full",
    "the news spread quickly", "they waited for the ship", "she closed the window", "he opened the gate",
    "the bells rang at six", "we heard a noise", "it all began in spring", "the trees had lost their leaves",
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A question, a restatement with a `GAP`, and the word that answers the one and fills the other."""

    question: str
    restated: str
    answer: str


@dataclass(frozen=True)
class Story:
    """A context, what is asked about one fact in it, and where the answer stands.

    `deciding` is the answer's place in the fact that tells it, `keys` where that fact names what is asked
    about, as spans of characters of the context.  `beside` asks for other facts.
    """

    context: str
    asked: Asked
    kind: str
    deciding: tuple[int, int]
    keys: tuple[tuple[int, int], ...]
    beside: tuple[Asked, ...]


def pair_is_kept(subject: str, value: str) -> bool:
    """Tell whether no training text states this fact."""
    return kept(f"{subject}|{value}", PAIRS_KEPT_ONE_IN)


def stated(statement: str, subject: str, value: str) -> str:
    """Return a statement with its subject and value, a capital and a full stop."""
    sentence = re.sub(r"\b[SV]\b", lambda match: subject if match[0] == "S" else value, statement)
    return sentence[0].upper() + sentence[1:] + "."


def spans_of(word: str, text: str) -> list[tuple[int, int]]:
    """Return where a word stands in a text, in either case of its first letter."""
    return [match.span() for match in re.finditer(rf"\b{re.escape(word)}\b", text, re.IGNORECASE)]


def facts_told(rng: random.Random, count: int, held_out: bool) -> list[tuple[Relation, str, str]]:
    """Return facts of different relations, no word twice but for subjects of which more is told."""
    left = {kind: rng.sample(words, len(words)) for kind, words in WORDS.items()}
    told: list[tuple[Relation, str, str]] = []
    for number, relation in enumerate(rng.sample(RELATIONS, count)):
        known = [subject for other, subject, _ in told if other.subject == relation.subject]
        subject = rng.choice(known) if known and rng.random() < 0.5 else left[relation.subject].pop()
        values = left[relation.value]
        want = held_out and number == 0
        value = next(word for word in reversed(values) if pair_is_kept(subject, word) == want)
        values.remove(value)
        told.append((relation, subject, value))
    return told


def story(rng: random.Random, held_out: bool = False) -> Story:
    """Return a story of two to four facts; held-out ones ask for a pair that training never states."""
    told = facts_told(rng, rng.choice((2, 3, 3, 4)), held_out)
    counts = Counter(kind for relation, _, _ in told for kind in relation.kinds)
    asked = [asked_for(rng, *fact, [counts[kind] == 1 for kind in fact[0].kinds]) for fact in told]
    if asked[0] is None:
        return story(rng, held_out)
    sentences = [stated(rng.choice(relation.statements), *words) for relation, *words in told]
    (relation, subject, value), fact = told[0], sentences[0]
    rng.shuffle(sentences)
    for _ in range(rng.choice((0, 1))):
        filler = rng.choice(FILLERS)
        sentences.insert(rng.randint(0, len(sentences)), filler[0].upper() + filler[1:] + ".")
    context = " ".join(sentences)
    begin = sum(len(sentence) + 1 for sentence in sentences[: sentences.index(fact)])
    answer, asks_value = asked[0].answer, asked[0].answer == value
    start, stop = spans_of(answer, fact)[0]
    deciding = (begin + start, begin + stop)
    key = subject if asks_value else value
    return Story(
        context,
        asked[0],
        f"{relation.value if asks_value else relation.subject} of {relation.subject if asks_value else relation.value}",
        deciding,
        tuple((begin + start, begin + stop) for start, stop in spans_of(key, fact)),
        tuple(other for other in asked[1:] if other is not None and other.answer != answer),
    )


def asked_for(rng: random.Random, relation: Relation, subject: str, value: str, only: list[bool]) -> Asked | None:
    """Return what asks for the subject or the value of a fact, if one of them is the only word of its kind."""
    if not any(only):
        return None
    asks_value = rng.choice([side for side in (False, True) if only[side]])
    answer, key = (value, subject) if asks_value else (subject, value)
    question = rng.choice(relation.ask_value if asks_value else relation.ask_subject)
    gapped = stated(rng.choice(relation.statements), subject if asks_value else GAP, GAP if asks_value else value)
    return Asked(re.sub(r"\b[SV]\b", key, question), gapped, answer)
