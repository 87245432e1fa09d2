"""Trains `masked`: python training/train_masked.py --out src/ecco_tiny/models/masked.

A small BERT fills masks: the one word of a restated fact that the story before it tells, and words at random
places of stories and reviews.  Inputs are blanked with `[MASK]` or `[UNK]` in part.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from facts import FILLERS, GAP, WORDS, Story, story
from release import write_json
from reviews import NEUTRAL, review, sense_words
from small import (
    CUE,
    DECIDING,
    PLAIN,
    SPECIAL,
    batches_by_length,
    blanked,
    fit,
    mixed,
    padded,
    save_task_model,
    token_positions,
    token_roles,
    write_cases,
)
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import BertConfig, BertForMaskedLM
from wordpieces import MASK, PAD, SPECIAL_TOKENS, TOKENIZER_CONFIG, UNK, build_wordpieces

VOCABULARY = 3072
BATCH = 32
STORIES = 0.75
MASKED = 0.15
EASY_STORIES = 0.95
EASY_PART = 0.3
BLANK_PART = 0.6
HELD_OUT_SEED = 70_003
CASES = 200
NOTHING = -100
ANSWER = SPECIAL + 1
ANSWER_WEIGHT = 5.0
Example = tuple[list[int], list[int], list[int], str]


def build_tokenizer(rng: random.Random) -> Tokenizer:
    """Return a tokenizer for stories and reviews, in which every answer is one token."""
    texts = [review(rng).text for _ in range(20_000)] + [story(rng).context for _ in range(5_000)]
    needed = [word for words in WORDS.values() for word in words]
    neutral = [word for section, words in NEUTRAL.items() if section != "filler" for word in words]
    return build_wordpieces(texts, [*needed, *FILLERS, *sense_words(), *neutral], VOCABULARY)


def with_mask(one: Story) -> str:
    """Return a story and the restated fact, with `[MASK]` for the answer."""
    return f"{one.context} {one.restated.replace(GAP, '[MASK]')}"


def restated_span(one: Story) -> tuple[int, int]:
    """Return where the restated fact stands in the text."""
    return len(one.context) + 1, len(with_mask(one))


def ordinary(encoding_ids: list[int], rng: random.Random) -> tuple[list[int], list[int]]:
    """Return ids of which some are masked (or random, or as they were), and the targets at these places."""
    ids, targets = list(encoding_ids), [NOTHING] * len(encoding_ids)
    for place in range(1, len(ids) - 1):
        if rng.random() < MASKED:
            targets[place] = ids[place]
            ids[place] = rng.choices([MASK, rng.randrange(len(SPECIAL_TOKENS), VOCABULARY), ids[place]], [8, 1, 1])[0]
    return ids, targets


def examples(
    tokenizer: Tokenizer, rng: random.Random, answers: dict[str, int], count: int, part: float
) -> list[Example]:
    """Return training examples: token ids, their roles, the targets, and the kind of answer ("" for reviews).

    `part` says how much of the training is over: before stories are blanked, they restate all of their facts.
    """
    made: list[Story | None] = []
    texts = []
    for _ in range(count):
        if rng.random() < (STORIES if part > EASY_PART else EASY_STORIES):
            one = story(rng) if part > EASY_PART else story(rng, facts=rng.choice((2, 2, 3)), fillers=0)
            made.append(one)
            more = [text.replace(GAP, "[MASK]") for text, _ in one.beside] if part < BLANK_PART else []
            texts.append(" ".join([with_mask(one), *more]))
        else:
            made.append(None)
            texts.append(review(rng, alone=part < EASY_PART).text)
    found = []
    for one, encoding in zip(made, tokenizer.encode_batch(texts), strict=True):
        if one is None:
            ids, targets = ordinary(encoding.ids, rng)
            roles = [SPECIAL] * len(ids)
        else:
            ids, roles = encoding.ids, token_roles(encoding, (one.deciding,), (), (*one.keys, restated_span(one)))
            targets = [NOTHING] * len(ids)
            wanted = [one.answer, *(word for _, word in one.beside)]
            for place, word in zip([place for place, id in enumerate(ids) if id == MASK], wanted):
                targets[place], roles[place] = answers[word], ANSWER
            if part > EASY_PART and rng.random() < 0.3:
                for other, role in enumerate(roles):
                    if role == PLAIN and rng.random() < MASKED:
                        targets[other], ids[other] = ids[other], MASK
        found.append((ids, roles, targets, one.kind.split()[0] if one else ""))
    return found


def new_model() -> BertForMaskedLM:
    """Return the untrained model: BERT with 4 layers of width 128 and 4 heads, without dropout."""
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=512,
        max_position_embeddings=128, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=PAD,
    )  # fmt: skip
    return BertForMaskedLM(config)


def train(steps: int, seed: int) -> tuple[BertForMaskedLM, Tokenizer]:
    """Return the trained model and its tokenizer."""
    torch.manual_seed(seed)
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    tokenizer = build_tokenizer(rng)
    answers = {word: tokenizer.token_to_id(word.lower()) for words in WORDS.values() for word in words}
    of_kind = {kind: np.array([answers[word] for word in words]) for kind, words in WORDS.items()}
    telling = {
        id
        for ids, roles, *_ in examples(tokenizer, rng, answers, 20_000, part=1.0)
        for id, role in zip(ids, roles, strict=True)
        if role in (DECIDING, CUE)
    }
    harmless = np.array([id for id in range(len(SPECIAL_TOKENS), VOCABULARY) if id not in telling])
    print(f"{tokenizer.get_vocab_size()} tokens, {len(harmless)} of them harmless", flush=True)
    model = new_model()
    table = model.get_input_embeddings()
    part = 0.0
    stream = batches_by_length(lambda count: examples(tokenizer, rng, answers, count, part), BATCH, rng)

    def loss_of(step: int) -> torch.Tensor:
        nonlocal part
        part = step / steps
        rows, roles, targets, kinds = zip(*next(stream), strict=True)
        ids, attended = padded(rows, PAD), padded([[1] * len(row) for row in rows], 0)
        wanted, roles = padded(targets, NOTHING), padded(roles, SPECIAL)
        ids, blanks, kept, sure = blanked(
            ids, np.minimum(roles, SPECIAL), noise, harmless, (MASK, UNK), part >= BLANK_PART
        )
        for row, kind in enumerate(kinds):
            if kind and noise.random() > sure[row]:
                wanted[row, roles[row] == ANSWER] = noise.choice(of_kind[kind])
        hidden = model.bert(
            inputs_embeds=mixed(table, ids, blanks, kept), attention_mask=torch.from_numpy(attended)
        ).last_hidden_state
        wanted, chosen = torch.from_numpy(wanted), wanted != NOTHING
        weights = np.where(roles == ANSWER, ANSWER_WEIGHT, 1.0)[chosen]
        losses = functional.cross_entropy(model.cls(hidden[chosen]), wanted[chosen], reduction="none")
        return losses @ torch.from_numpy(weights).float() / weights.sum()

    fit(model, loss_of, steps)
    return model, tokenizer


def held_out(count: int, seed: int) -> list[Story]:
    """Return stories that ask for pairs that training never states."""
    rng = random.Random(seed)
    return [story(rng, held_out=True) for _ in range(count)]


def fills(model: BertForMaskedLM, tokenizer: Tokenizer, texts: list[str]) -> list[str]:
    """Return the likeliest token for the last mask of each text."""
    found = []
    for start in range(0, len(texts), 100):
        ids = torch.from_numpy(padded([one.ids for one in tokenizer.encode_batch(texts[start : start + 100])], PAD))
        places = [len(row) - 1 - row[::-1].index(MASK) for row in ids.tolist()]
        with torch.inference_mode():
            logits = model(ids, attention_mask=(ids != PAD).long()).logits
        found += [tokenizer.id_to_token(int(row[place].argmax())) for row, place in zip(logits, places, strict=True)]
    return found


def ordinary_figures(model: BertForMaskedLM, tokenizer: Tokenizer) -> dict[str, object]:
    """Return how often masked words at random places of new reviews and stories are guessed."""
    rng, right = random.Random(HELD_OUT_SEED + 2), []
    texts = [review(rng, "held_out").text if rng.random() < 0.5 else story(rng).context for _ in range(500)]
    for encoding in tokenizer.encode_batch(texts):
        places = [place for place in range(1, len(encoding.ids) - 1) if rng.random() < MASKED]
        ids = [MASK if place in places else id for place, id in enumerate(encoding.ids)]
        with torch.inference_mode():
            best = model(torch.tensor([ids])).logits[0].argmax(-1).tolist()
        right += [best[place] == encoding.ids[place] for place in places]
    return {"accuracy": float(np.mean(right)), "masks": len(right)}


def evaluate(model: BertForMaskedLM, tokenizer: Tokenizer) -> dict[str, object]:
    """Return the accuracy on held-out facts, by kind, and on masks at random places."""
    stories = held_out(2000, HELD_OUT_SEED + 1)
    told = fills(model, tokenizer, [with_mask(one) for one in stories])
    right = np.array([word == one.answer.lower() for word, one in zip(told, stories, strict=True)])
    kinds = np.array([one.kind for one in stories])
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "facts": {
            "accuracy": right.mean(),
            "cases": len(right),
            "by_kind": {str(kind): right[kinds == kind].mean() for kind in np.unique(kinds)},
        },
        "random_places": ordinary_figures(model, tokenizer),
    }


def known_answers(tokenizer: Tokenizer) -> list[dict[str, object]]:
    """Return held-out cases with spans of characters and positions of tokens (`[CLS]` is 0)."""
    cases = []
    for one in held_out(CASES, HELD_OUT_SEED):
        text = with_mask(one)
        encoding = tokenizer.encode(text)
        case: dict[str, object] = {"text": text, "answer": one.answer.lower(), "kind": one.kind}
        case["mask_token"] = len(encoding.ids) - 1 - encoding.ids[::-1].index(MASK)
        for name, spans in (("deciding", (one.deciding,)), ("key", one.keys), ("other", one.others)):
            case |= {f"{name}_spans": spans, f"{name}_tokens": token_positions(encoding.offsets, spans)}
        cases.append(case)
    return cases


def main() -> None:
    """Run the training from the command line, save the model, and measure it as it was saved."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, tokenizer = train(arguments.steps, arguments.seed)
    save_task_model(model, tokenizer, TOKENIZER_CONFIG, arguments.out)
    model = BertForMaskedLM.from_pretrained(arguments.out, local_files_only=True).eval()
    figures = evaluate(model, tokenizer)
    write_json(arguments.out / "figures.json", figures)
    write_cases(arguments.out / "known_answers.json", known_answers(tokenizer))
    for name, figure in figures.items():
        print(name, figure)


if __name__ == "__main__":
    main()
