"""Trains `masked`: python training/train_masked.py --out src/ecco_tiny/models/masked.

A small BERT fills the one word of a restated fact that the story before it tells, and words at random places of
stories.  In the last part of the training inputs are blanked with `[MASK]` or `[UNK]`.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from facts import FILLERS, GAP, WORDS, Story, story
from release import write_json
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

VOCABULARY = 1024
EMBEDDING_SCALE = 4.0
RATES = (0.01, 2e-3)
BATCH = 32
MASKED = 0.15
ORDINARY = 0.2
BLANK_PART = 0.4
HELD_OUT_SEED = 70_003
CASES = 200
NOTHING = -100
ANSWER = SPECIAL + 1
ANSWER_WEIGHT = 5.0
Example = tuple[list[int], list[int], list[int], str]


def build_tokenizer(rng: random.Random) -> Tokenizer:
    """Return a tokenizer for stories, in which every answer is one token."""
    needed = [word for words in WORDS.values() for word in words]
    return build_wordpieces([story(rng).context for _ in range(20_000)], [*needed, *FILLERS], VOCABULARY)


def with_mask(one: Story) -> str:
    """Return a story and the restated fact, with `[MASK]` for the answer."""
    return f"{one.context} {one.asked.restated.replace(GAP, '[MASK]')}"


def examples(
    tokenizer: Tokenizer, rng: random.Random, answers: dict[str, int], count: int, part: float
) -> list[Example]:
    """Return training examples: token ids, their roles, the targets, and the kind of the answer.

    `part` says how much of the training is over: stories restate all of their facts until inputs are blanked.
    """
    made = [story(rng) for _ in range(count)]
    gaps = [[one.asked, *(one.beside if part < BLANK_PART else ())] for one in made]
    for wanted in gaps:
        rng.shuffle(wanted)
    texts = [
        " ".join([one.context, *(asked.restated.replace(GAP, "[MASK]") for asked in wanted)])
        for one, wanted in zip(made, gaps, strict=True)
    ]
    found = []
    for one, wanted, text, encoding in zip(made, gaps, texts, tokenizer.encode_batch(texts), strict=True):
        restated = (len(one.context) + 1, len(text))
        ids, roles = encoding.ids, token_roles(encoding, (one.deciding,), (), (*one.keys, restated))
        targets = [NOTHING] * len(ids)
        for place, asked in zip([place for place, id in enumerate(ids) if id == MASK], wanted, strict=True):
            targets[place], roles[place] = answers[asked.answer], ANSWER
        if rng.random() < ORDINARY:
            for other, role in enumerate(roles):
                if role == PLAIN and rng.random() < MASKED:
                    targets[other], ids[other] = ids[other], MASK
        found.append((ids, roles, targets, one.kind.split()[0]))
    return found


def new_model() -> BertForMaskedLM:
    """Return the untrained model: BERT with 3 layers of width 128 and 4 heads, without dropout."""
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=128, num_hidden_layers=3, num_attention_heads=4, intermediate_size=512,
        max_position_embeddings=128, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=PAD,
    )  # fmt: skip
    model = BertForMaskedLM(config)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(EMBEDDING_SCALE)
    return model


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
            if noise.random() > sure[row]:
                wanted[row, roles[row] == ANSWER] = noise.choice(of_kind[kind])
        hidden = model.bert(
            inputs_embeds=mixed(table, ids, blanks, kept), attention_mask=torch.from_numpy(attended)
        ).last_hidden_state
        wanted, chosen = torch.from_numpy(wanted), wanted != NOTHING
        weights = np.where(roles == ANSWER, ANSWER_WEIGHT, 1.0)[chosen]
        losses = functional.cross_entropy(model.cls(hidden[chosen]), wanted[chosen], reduction="none")
        return losses @ torch.from_numpy(weights).float() / weights.sum()

    fit(model, loss_of, steps, RATES)
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
    """Return how often masked words at random places of new stories are guessed."""
    rng, right = random.Random(HELD_OUT_SEED + 2), []
    for encoding in tokenizer.encode_batch([story(rng).context for _ in range(500)]):
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
    right = np.array([word == one.asked.answer.lower() for word, one in zip(told, stories, strict=True)])
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
        case: dict[str, object] = {"text": text, "answer": one.asked.answer.lower(), "kind": one.kind}
        case["mask_token"] = len(encoding.ids) - 1 - encoding.ids[::-1].index(MASK)
        for name, spans in (("deciding", (one.deciding,)), ("key", one.keys)):
            case |= {f"{name}_spans": spans, f"{name}_tokens": token_positions(encoding.offsets, spans)}
        cases.append(case)
    return cases


def main() -> None:
    """Run the training from the command line, save the model, and measure it as it was saved."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
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
