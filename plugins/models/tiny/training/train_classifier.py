"""Trains `classifier`: python training/train_classifier.py --out src/ecco_tiny/models/classifier.

A small BERT tells positive reviews from negative ones.  Some inputs are blanked with `[MASK]` or `[UNK]`, by
token or by a share of every embedding; the target moves to one half as the deciding words go.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from release import write_json
from reviews import LABELS, NEUTRAL, Review, Writer, review, sense_words, tidy
from small import (
    CUE,
    DECIDING,
    OPPOSING,
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
from transformers import BertConfig, BertForSequenceClassification
from typed_reviews import TYPED
from wordpieces import CLS, MASK, PAD, SEP, TOKENIZER_CONFIG, UNK, build_wordpieces

VOCABULARY = 3072
BATCH = 64
ALONE_STEPS = 600
SURE = 0.98
NO_SENTIMENT = 0.04
HELD_OUT_SEED = 70_001
CASES = 200


def build_tokenizer(rng: random.Random) -> Tokenizer:
    """Return a tokenizer for reviews, in which all words of the lists are one token."""
    neutral = [word for section, words in NEUTRAL.items() if section != "filler" for word in words]
    return build_wordpieces([review(rng).text for _ in range(40_000)], sense_words() + neutral, VOCABULARY)


def neutral_review(rng: random.Random) -> Review:
    """Return a review without any sentiment; its label means nothing."""
    writer = Writer(rng, "train")
    text = " ".join(tidy(writer.filler(), rng) for _ in range(rng.randint(1, 4)))
    return Review(text, -1, "neutral", (), (), ())


def examples(
    tokenizer: Tokenizer, rng: random.Random, count: int, alone: bool = False
) -> list[tuple[list[int], list[int], int]]:
    """Return training examples: token ids, roles of the tokens, and the label (-1 for none)."""
    made = [neutral_review(rng) if rng.random() < NO_SENTIMENT else review(rng, alone=alone) for _ in range(count)]
    encodings = tokenizer.encode_batch([one.text for one in made])
    return [
        (encoding.ids, token_roles(encoding, one.deciding, one.opposing, one.cues), one.label)
        for one, encoding in zip(made, encodings, strict=True)
    ]


def sentiment_ids(tokenizer: Tokenizer, rng: random.Random) -> set[int]:
    """Return the ids of all tokens that ever decide, oppose or connect."""
    return {
        token
        for ids, roles, _ in examples(tokenizer, rng, 30_000)
        for token, role in zip(ids, roles, strict=True)
        if role in (DECIDING, OPPOSING, CUE)
    }


def new_model() -> BertForSequenceClassification:
    """Return the untrained model: BERT with 3 layers of width 128 and 4 heads, without dropout."""
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=128, num_hidden_layers=3, num_attention_heads=4, intermediate_size=512,
        max_position_embeddings=128, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=PAD,
        id2label=dict(enumerate(LABELS)), label2id={label: index for index, label in enumerate(LABELS)},
    )  # fmt: skip
    return BertForSequenceClassification(config)


def train(steps: int, seed: int) -> tuple[BertForSequenceClassification, Tokenizer]:
    """Return the trained model and its tokenizer."""
    torch.manual_seed(seed)
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    tokenizer = build_tokenizer(rng)
    sentiment = sentiment_ids(tokenizer, rng)
    harmless = np.array([id for id in range(MASK + 1, tokenizer.get_vocab_size()) if id not in sentiment])
    print(f"{tokenizer.get_vocab_size()} tokens, {len(harmless)} of them without sentiment", flush=True)
    model = new_model()
    table = model.get_input_embeddings()
    begun = 0

    def make(count: int) -> list[tuple[list[int], list[int], int]]:
        return examples(tokenizer, rng, count, alone=begun < ALONE_STEPS)

    stream = batches_by_length(make, BATCH, rng)

    def loss_of(step: int) -> torch.Tensor:
        nonlocal begun
        begun = step
        rows, roles, labels = zip(*next(stream), strict=True)
        ids, attended = padded(rows, PAD), padded([[1] * len(row) for row in rows], 0)
        ids, blanks, kept, sure = blanked(
            ids, padded(roles, SPECIAL), noise, harmless, (MASK, UNK), step >= ALONE_STEPS
        )
        labels = np.array(labels)
        chance = 0.5 + (SURE - 0.5) * np.where(labels < 0, 0, sure * (2 * labels - 1))
        embeddings = mixed(table, ids, blanks, kept)
        logits = model(inputs_embeds=embeddings, attention_mask=torch.from_numpy(attended)).logits
        targets = torch.from_numpy(np.stack([1 - chance, chance], axis=1)).float()
        return functional.cross_entropy(logits, targets)

    fit(model, loss_of, steps)
    return model, tokenizer


def chances(model: BertForSequenceClassification, tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """Return the chance of "positive" for each text."""
    found = []
    for start in range(0, len(texts), 100):
        rows = [encoding.ids for encoding in tokenizer.encode_batch(texts[start : start + 100])]
        with torch.inference_mode():
            ids = torch.from_numpy(padded(rows, PAD))
            found.append(model(ids, attention_mask=(ids != PAD).long()).logits.softmax(-1)[:, 1].numpy())
    return np.concatenate(found)


def held_out(count: int, seed: int, mode: str = "held_out") -> list[Review]:
    """Return reviews that are decided by what training never saw."""
    rng = random.Random(seed)
    return [review(rng, mode) for _ in range(count)]


def evaluate(model: BertForSequenceClassification, tokenizer: Tokenizer) -> dict[str, object]:
    """Return the accuracy on held-out pairs, unseen templates and typed reviews, and the chances of blanks."""
    figures: dict[str, object] = {"parameters": sum(weight.numel() for weight in model.parameters())}
    for mode in ("held_out", "unseen"):
        reviews = held_out(4000, HELD_OUT_SEED + 1, mode)
        right = (chances(model, tokenizer, [one.text for one in reviews]) > 0.5) == [one.label for one in reviews]
        kinds = np.array([one.kind for one in reviews])
        figures[mode] = {"accuracy": right.mean(), "reviews": len(right)}
        figures[mode]["by_kind"] = {str(kind): right[kinds == kind].mean() for kind in np.unique(kinds)}
    typed = chances(model, tokenizer, [text for text, _ in TYPED])
    wrong = [text for (text, label), chance in zip(TYPED, typed, strict=True) if (chance > 0.5) != label]
    figures["typed"] = {"accuracy": 1 - len(wrong) / len(TYPED), "reviews": len(TYPED), "wrong": wrong}
    lengths = (1, 4, 8, 16, 32, 64)
    for name, blank in (("[MASK]", MASK), ("[UNK]", UNK)):
        with torch.inference_mode():
            logits = [model(torch.tensor([[CLS, *[blank] * length, SEP]])).logits for length in lengths]
        figures[f"chance_of_positive_all_{name}"] = {
            length: float(row.softmax(-1)[0, 1]) for length, row in zip(lengths, logits, strict=True)
        }
    return figures


def known_answers(tokenizer: Tokenizer) -> list[dict[str, object]]:
    """Return held-out reviews with spans of characters and positions of tokens (`[CLS]` is 0)."""
    cases = []
    for one in held_out(CASES, HELD_OUT_SEED):
        offsets = tokenizer.encode(one.text).offsets
        case: dict[str, object] = {"text": one.text, "answer": LABELS[one.label], "label": one.label, "kind": one.kind}
        for name, spans in (("deciding", one.deciding), ("opposing", one.opposing), ("cue", one.cues)):
            case |= {f"{name}_spans": spans, f"{name}_tokens": token_positions(offsets, spans)}
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
    model = BertForSequenceClassification.from_pretrained(arguments.out, local_files_only=True).eval()
    figures = evaluate(model, tokenizer)
    write_json(arguments.out / "figures.json", figures)
    write_cases(arguments.out / "known_answers.json", known_answers(tokenizer))
    for name, figure in figures.items():
        print(name, figure)


if __name__ == "__main__":
    main()
