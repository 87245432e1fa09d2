"""Generated stories of facts, with questions that one fact answers in one word, and where that word stands.

A fact joins a subject and a value, such as a name and a role.  Stories state several facts of a relation, so
only the right sentence tells the answer.  About a sixth of all pairs of subject and value are kept out of
training, and held-out stories ask for such a pair.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from fillers import KINDS
from reviews import kept

PAIRS_KEPT_ONE_IN = 6
GAP = "\x00"
KIND_LIST = ("name", "place", "object", "role", "animal", "food", "colour", "room")
SHARED = {
    word for kind in KIND_LIST for word in KINDS[kind] for other in KIND_LIST if other != kind and word in KINDS[other]
}
WORDS = {kind: tuple(word for word in KINDS[kind] if word not in SHARED) for kind in KIND_LIST}


@dataclass(frozen=True)
class Relation:
    """What joins a subject `S` and a value `V`: statements, and questions for either."""

    subject: str
    value: str
    statements: tuple[str, ...]
    ask_subject: tuple[str, ...]
    ask_value: tuple[str, ...]


RELATIONS = (
    Relation(
        "name", "role",
        ("S is the V", "the V is S", "the V is called S", "S works as the V", "the name of the V is S",
         "S became the V last year", "our V is S", "S is our V", "everybody knows that S is the V"),
        ("who is the V?", "what is the V called?", "who works as the V?", "what is the name of the V?"),
        ("what is the job of S?", "what does S work as?", "what is S?"),
    ),
    Relation(
        "name", "place",
        ("S lives in V", "S comes from V", "S has a house in V", "the home of S is in V", "S moved to V",
         "S grew up in V", "in V lives S"),
        ("who lives in V?", "who comes from V?", "who has a home in V?"),
        ("where does S live?", "where is the home of S?", "where does S come from?"),
    ),
    Relation(
        "object", "room",
        ("the S is in the V", "the S lies in the V", "the S was left in the V", "in the V is the S",
         "somebody put the S into the V", "you can find the S in the V", "the S stands in the V"),
        ("what is in the V?", "what lies in the V?", "what can you find in the V?"),
        ("where is the S?", "where can you find the S?", "where does the S lie?", "in which place is the S?"),
    ),
    Relation(
        "object", "colour",
        ("the S is V", "the S was painted V", "the colour of the S is V", "the S is bright V", "the S looks V"),
        ("what is V?", "what looks V?", "which thing is V?"),
        ("what colour is the S?", "what colour has the S?", "which colour is the S?", "what is the colour of the S?"),
    ),
    Relation(
        "name", "object",
        ("S has the V", "the V belongs to S", "S owns the V", "S took the V", "S carries the V",
         "the V is the property of S"),
        ("who has the V?", "who owns the V?", "to whom does the V belong?"),
        ("what does S have?", "what does S own?", "what belongs to S?"),
    ),
    Relation(
        "name", "animal",
        ("S keeps a V", "S looks after the V", "S feeds the V", "the V lives with S", "S walks with a V"),
        ("who keeps a V?", "who looks after the V?", "who feeds the V?"),
        ("which animal does S keep?", "what animal does S feed?"),
    ),
    Relation(
        "name", "food",
        ("S likes V", "S eats V", "S bought V", "S asked for V", "for dinner S wants V"),
        ("who likes V?", "who eats V?", "who wants V?"),
        ("what does S like?", "what does S eat?", "which food does S want?"),
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
class Story:
    """A context, a question or restatement about one fact in it, the answer, and where that stands.

    `deciding` is the answer's place in the fact that tells it, `keys` where that fact names what is asked
    about, `others` the other places of the answer; all are spans of characters of the context.  `beside` are
    the other facts, restated with a gap as `restated` is, and what is missing there.
    """

    context: str
    question: str
    restated: str
    answer: str
    kind: str
    deciding: tuple[int, int]
    keys: tuple[tuple[int, int], ...]
    others: tuple[tuple[int, int], ...]
    beside: tuple[tuple[str, str], ...]


def pair_is_kept(subject: str, value: str) -> bool:
    """Tell whether no training text states this fact."""
    return kept(f"{subject}|{value}", PAIRS_KEPT_ONE_IN)


def stated(statement: str, subject: str, value: str) -> str:
    """Return a statement with its subject and value, a mended article, a capital and a full stop."""
    sentence = re.sub(r"\b[SV]\b", lambda match: subject if match[0] == "S" else value, statement)
    sentence = re.sub(r"\ba (?=[aeiou])", "an ", sentence)
    return sentence[0].upper() + sentence[1:] + "."


def spans_of(word: str, text: str) -> list[tuple[int, int]]:
    """Return where a word stands in a text, in either case of its first letter."""
    return [match.span() for match in re.finditer(rf"\b{re.escape(word)}\b", text, re.IGNORECASE)]


def story(rng: random.Random, held_out: bool = False, facts: int | None = None, fillers: int | None = None) -> Story:
    """Return a story of two to six facts; held-out ones ask for a pair that training never states."""
    facts = facts or rng.choice((2, 3, 3, 4, 4, 5, 6))
    asked = rng.choice(RELATIONS)
    beside = rng.choice([relation for relation in RELATIONS if relation is not asked])
    same = facts if facts < 4 else rng.randint(2, facts)
    left = {kind: rng.sample(words, len(words)) for kind, words in WORDS.items()}
    told: list[tuple[Relation, str, str]] = []
    for number in range(facts):
        relation = asked if number < same else beside
        want = held_out if number == 0 else False
        values, value = left[relation.value], None
        again = number >= same and beside.subject == asked.subject and rng.random() < 0.6
        while value is None:
            subject = told[number - same][1] if again else left[relation.subject].pop()
            value, again = next((one for one in values if pair_is_kept(subject, one) == want), None), False
        values.remove(value)
        told.append((relation, subject, value))
    relation, subject, value = told[0]
    fact = stated(rng.choice(relation.statements), subject, value)
    rng.shuffle(told)
    sentences = [
        fact if (subject, value) == (one, other) and relation is kind
        else stated(rng.choice(kind.statements), one, other)
        for kind, one, other in told
    ]  # fmt: skip
    for _ in range(rng.choice((0, 0, 1, 1, 2)) if fillers is None else fillers):
        filler = rng.choice(FILLERS)
        sentences.insert(rng.randint(0, len(sentences)), filler[0].upper() + filler[1:] + ".")
    context = " ".join(sentences)
    begin = sum(len(sentence) + 1 for sentence in sentences[: sentences.index(fact)])
    asks_value = rng.random() < 0.5
    answer, key = (value, subject) if asks_value else (subject, value)
    question = rng.choice(relation.ask_value if asks_value else relation.ask_subject)
    start, stop = spans_of(answer, fact)[0]
    deciding = (begin + start, begin + stop)
    keys = tuple((begin + start, begin + stop) for start, stop in spans_of(key, fact))
    return Story(
        context,
        re.sub(r"\b[SV]\b", key, question),
        gapped(rng, relation, subject, value, asks_value),
        answer,
        f"{relation.value if asks_value else relation.subject} of {key_kind(relation, asks_value)}",
        deciding,
        keys,
        tuple(span for span in spans_of(answer, context) if span != deciding),
        tuple(beside_of(rng, [known for known in told if known != (relation, subject, value)])),
    )


def gapped(rng: random.Random, relation: Relation, subject: str, value: str, asks_value: bool) -> str:
    """Return a fact in any wording, with `GAP` for its value or its subject."""
    return stated(rng.choice(relation.statements), subject if asks_value else GAP, GAP if asks_value else value)


def beside_of(rng: random.Random, told: list[tuple[Relation, str, str]]) -> Iterator[tuple[str, str]]:
    """Yield facts with a gap, and what is missing there."""
    for relation, subject, value in told:
        asks_value = rng.random() < 0.5
        yield gapped(rng, relation, subject, value, asks_value), value if asks_value else subject


def key_kind(relation: Relation, asks_value: bool) -> str:
    """Return the kind of word that a question names."""
    return relation.subject if asks_value else relation.value
