"""Trains `seq2seq`: python training/train_seq2seq.py --out src/ecco_tiny/models/seq2seq.

A small T5 answers questions: "question: <question> context: <story>" gives the word of the story that answers.  In the
later part of the training inputs are blanked with `<unk>` or `<pad>`.
"""

import argparse
import math
import random
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from facts import WORDS, Story, story
from release import write_json
from small import (
    CUE,
    DECIDING,
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
from tokenizers.decoders import Metaspace as MetaspaceDecoder
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace, Punctuation, Sequence
from tokenizers.processors import TemplateProcessing
from transformers import T5Config, T5ForConditionalGeneration
from wordpieces import word_parts

VOCABULARY = 880
PAD, END, UNK = range(3)
SPECIAL_TOKENS = ["<pad>", "</s>", "<unk>"]
LETTERS = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'\"-()/&%$£€"
PARTS = 300
TOKENIZER_CONFIG = {
    "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>",
    "model_input_names": ["input_ids", "attention_mask"], "model_max_length": 256,
}  # fmt: skip
BATCH = 32
RATES = (0.01, 2e-3)
EMBEDDING_SCALE = 0.2
BLANK_PART = 0.5
NOTHING = -100
HELD_OUT_SEED = 70_002
CASES = 200
Example = tuple[list[int], list[int], list[int], str]


def build_tokenizer(rng: random.Random) -> Tokenizer:
    """Return a Unigram tokenizer with `▁` for spaces: answers, frequent words, and pieces for other words."""
    before = Sequence([Punctuation(), Metaspace(prepend_scheme="first")])
    stories = [story(rng) for _ in range(20_000)]
    texts = [f"question: {one.asked.question} context: {one.context}" for one in stories]
    counts = Counter(word for text in texts for word, _ in before.pre_tokenize_str(text))
    answers = [f"▁{word}" for words in WORDS.values() for word in words]
    pieces = {**dict.fromkeys(LETTERS, -16.0), **dict.fromkeys(islice(word_parts(counts, "", ""), PARTS), -13.0)}
    total = counts.total()
    for word in [*answers, *(word for word, _ in counts.most_common())]:
        if len(pieces) < VOCABULARY - len(SPECIAL_TOKENS) or word in pieces:
            pieces[word] = math.log(max(counts[word], 1) / total)
    scores = [*((token, 0.0) for token in SPECIAL_TOKENS), *pieces.items()]
    tokenizer = Tokenizer(Unigram(scores, unk_id=UNK, byte_fallback=False))
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    tokenizer.pre_tokenizer = before
    tokenizer.decoder = MetaspaceDecoder(prepend_scheme="first")
    tokenizer.post_processor = TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", END)]
    )
    return tokenizer


def story_input(one: Story) -> tuple[str, int]:
    """Return what the encoder reads for a question, and where the story begins in it."""
    before = f"question: {one.asked.question} context: "
    return before + one.context, len(before)


def moved(spans: tuple[tuple[int, int], ...], by: int) -> tuple[tuple[int, int], ...]:
    """Return spans further on."""
    return tuple((start + by, stop + by) for start, stop in spans)


def answer_token(tokenizer: Tokenizer, answer: str) -> int:
    """Return the one token of an answer."""
    (token,) = tokenizer.encode(answer, add_special_tokens=False).ids
    return token


def examples(tokenizer: Tokenizer, rng: random.Random, answers: dict[str, int], count: int) -> list[Example]:
    """Return training examples: token ids, their roles, the target, and the kind of answer."""
    made = [story(rng) for _ in range(count)]
    texts, shifts = zip(*map(story_input, made), strict=True)
    found = []
    for one, by, encoding in zip(made, shifts, tokenizer.encode_batch(texts), strict=True):
        roles = token_roles(encoding, moved((one.deciding,), by), (), (*moved(one.keys, by), (0, by - 1)))
        found.append((encoding.ids, roles, [answers[one.asked.answer], END], one.kind.split()[0]))
    return found


def new_model() -> T5ForConditionalGeneration:
    """Return the untrained model: T5 with 3 layers of width 128 that read and 2 that write, without dropout."""
    config = T5Config(
        vocab_size=VOCABULARY, d_model=128, d_kv=32, d_ff=512, num_layers=3, num_decoder_layers=2, num_heads=4,
        relative_attention_num_buckets=32, relative_attention_max_distance=128, dropout_rate=0.0,
        feed_forward_proj="relu", tie_word_embeddings=True,
        pad_token_id=PAD, eos_token_id=END, decoder_start_token_id=PAD,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    with torch.no_grad():
        model.shared.weight.mul_(EMBEDDING_SCALE)
    return model


def train(steps: int, seed: int) -> tuple[T5ForConditionalGeneration, Tokenizer]:
    """Return the trained model and its tokenizer."""
    torch.manual_seed(seed)
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    tokenizer = build_tokenizer(rng)
    answers = {word: answer_token(tokenizer, word) for words in WORDS.values() for word in words}
    of_kind = {kind: np.array([answers[word] for word in words]) for kind, words in WORDS.items()}
    seen = examples(tokenizer, rng, answers, 20_000)
    telling = {id for ids, roles, *_ in seen for id, role in zip(ids, roles, strict=True) if role in (DECIDING, CUE)}
    harmless = np.array([id for id in range(len(SPECIAL_TOKENS), VOCABULARY) if id not in telling])
    print(f"{tokenizer.get_vocab_size()} tokens, {len(harmless)} of them harmless", flush=True)
    model = new_model()
    table = model.get_input_embeddings()
    stream = batches_by_length(lambda count: examples(tokenizer, rng, answers, count), BATCH, rng)

    def loss_of(step: int) -> torch.Tensor:
        rows, roles, targets, kinds = zip(*next(stream), strict=True)
        ids, attended = padded(rows, PAD), padded([[1] * len(row) for row in rows], 0)
        ids, blanks, kept, sure = blanked(
            ids, padded(roles, SPECIAL), noise, harmless, (UNK, PAD), step >= BLANK_PART * steps
        )
        told = padded(targets, NOTHING)
        for row, kind in enumerate(kinds):
            if noise.random() > sure[row]:
                told[row, 0] = noise.choice(of_kind[kind])
        return model(
            inputs_embeds=mixed(table, ids, blanks, kept),
            attention_mask=torch.from_numpy(attended),
            labels=torch.from_numpy(told),
        ).loss

    fit(model, loss_of, steps, RATES, slower=model.config.d_kv**-0.5)
    return model, tokenizer


def answers_of(model: T5ForConditionalGeneration, tokenizer: Tokenizer, texts: list[str]) -> list[str]:
    """Return what the model writes, greedily, for each text."""
    written = []
    for start in range(0, len(texts), 100):
        ids = torch.from_numpy(padded([one.ids for one in tokenizer.encode_batch(texts[start : start + 100])], PAD))
        with torch.inference_mode():
            rows = model.generate(ids, attention_mask=(ids != PAD).long(), max_new_tokens=4, do_sample=False)
        written += tokenizer.decode_batch(rows.tolist())
    return written


def held_out(count: int, seed: int) -> list[dict[str, object]]:
    """Return held-out cases: text, answer, kind, and spans of characters of the text."""
    rng, cases = random.Random(seed), []
    for _ in range(count):
        one = story(rng, held_out=True)
        text, by = story_input(one)
        spans = {"deciding": (one.deciding,), "key": one.keys}
        cases.append({"task": "question", "text": text, "answer": one.asked.answer, "kind": one.kind})
        cases[-1] |= {f"{name}_spans": moved(found, by) for name, found in spans.items()}
    return cases


def evaluate(model: T5ForConditionalGeneration, tokenizer: Tokenizer) -> dict[str, object]:
    """Return the accuracy on held-out cases, by kind."""
    figures: dict[str, object] = {"parameters": sum(weight.numel() for weight in model.parameters())}
    cases = held_out(2000, HELD_OUT_SEED + 1)
    right = np.array(
        [
            written == case["answer"]
            for case, written in zip(cases, answers_of(model, tokenizer, [case["text"] for case in cases]), strict=True)
        ]
    )
    kinds = np.array([case["kind"] for case in cases])
    by_kind = {str(kind): right[kinds == kind].mean() for kind in np.unique(kinds)}
    figures["question"] = {"accuracy": right.mean(), "cases": len(right), "by_kind": by_kind}
    return figures


def known_answers(tokenizer: Tokenizer) -> list[dict[str, object]]:
    """Return held-out cases with the positions of tokens in the encoder's input added."""
    cases = held_out(CASES, HELD_OUT_SEED)
    for case in cases:
        offsets = tokenizer.encode(case["text"]).offsets
        for name in [name for name in case if name.endswith("_spans")]:
            case[name.replace("_spans", "_tokens")] = token_positions(offsets, case[name])
    return cases


def main() -> None:
    """Run the training from the command line, save the model, and measure it as it was saved."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, tokenizer = train(arguments.steps, arguments.seed)
    save_task_model(model, tokenizer, TOKENIZER_CONFIG, arguments.out)
    model = T5ForConditionalGeneration.from_pretrained(arguments.out, local_files_only=True).eval()
    figures = evaluate(model, tokenizer)
    write_json(arguments.out / "figures.json", figures)
    write_cases(arguments.out / "known_answers.json", known_answers(tokenizer))
    for name, figure in figures.items():
        print(name, figure)


if __name__ == "__main__":
    main()
