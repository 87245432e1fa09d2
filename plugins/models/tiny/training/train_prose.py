"""Trains `prose`: python training/train_prose.py --out src/ecco_tiny/models/prose --steps 6000 --stop 5750.

The run is cut into steps whose batches depend only on the seed and the step, so it goes on from the last
checkpoint in `training/work/` when it is started again.  The loss is logged to `training/train_log.csv`.
"""

import argparse
import csv
import itertools
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from copying import CopyText, training_texts
from corpus import read_corpus
from fillers import KINDS
from muon import Muon
from release import save_release
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

HERE = Path(__file__).parent
WORK = HERE / "work"
LOG = HERE / "train_log.csv"
END = "<|endoftext|>"
VOCABULARY = 4096
CONTEXT = 512
TOKENS_PER_STEP = 4096
SHORT = 256
SHORT_PART = 0.55
COPY_ROWS = 0.30
REPEAT_ROWS = 0.25
REPEAT_PARTS = (0.25, 0.60)
FOCUS_FROM = 2 / 3
FOCUS_COPY_ROWS = 0.40
FOCUS_WEIGHT = 8.0
BLANK_FROM = 17 / 24
COPY_TEXTS = 100_000
TOKENIZER_COPY_TEXTS = 5_000
FILLER_TIMES = 600
MUON_LR = 0.015
ADAM_LR = 3e-3
WARMUP = 150
CONSTANT_PART = 0.4
GOLDEN = (math.sqrt(5) - 1) / 2


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Return a byte-level BPE tokenizer of `VOCABULARY` entries; `<|endoftext|>` has id 0."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


@dataclass(frozen=True)
class Data:
    """Tokens to train on: the documentation, the copy texts, which of those are copies, and where texts start."""

    prose: np.ndarray
    copies: np.ndarray
    copied: np.ndarray
    starts: np.ndarray


def prepare() -> Data:
    """Return the training data, from `training/work/` if it was made before; the tokenizer lies there too."""
    WORK.mkdir(exist_ok=True)
    tokens_file, tokenizer_file = WORK / "tokens.npz", WORK / "tokenizer.json"
    if not tokens_file.exists():
        files, _ = read_corpus()
        written = list(itertools.islice(training_texts(), COPY_TEXTS))
        if not tokenizer_file.exists():
            fillers = [f" {filler}" * FILLER_TIMES for kind in KINDS.values() for filler in kind]
            texts = [text.text for text in written[:TOKENIZER_COPY_TEXTS]]
            train_tokenizer([*files.values(), *texts, *fillers]).save(str(tokenizer_file))
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
        prose, _ = flat_tokens(tokenizer, [CopyText(text, ()) for text in files.values()])
        copies, copied = flat_tokens(tokenizer, written)
        starts = np.flatnonzero(copies == 0)[:-1] + 1
        starts = starts[starts < len(copies) - CONTEXT - 1]
        np.savez(tokens_file, prose=prose, copies=copies, copied=copied, starts=starts)
    return Data(**np.load(tokens_file))


def flat_tokens(tokenizer: Tokenizer, texts: list[CopyText]) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens of all texts in one row, `<|endoftext|>` after each, and which of them are copies."""
    tokens, marks = [], []
    for text, encoding in zip(texts, tokenizer.encode_batch([text.text for text in texts]), strict=True):
        mark = np.zeros(len(encoding.ids) + 1, dtype=bool)
        for start, value in text.copies:
            first, last = encoding.char_to_token(start), encoding.char_to_token(start + len(value) - 1)
            mark[first : last + 1] = True
        tokens.append(np.array([*encoding.ids, 0], dtype=np.uint16))
        marks.append(mark)
    return np.concatenate(tokens), np.concatenate(marks)


def repeated_row(rng: np.random.Generator, length: int, prose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a span that repeats until the row is full, and the weights, which leave out its first showing.

    The span is made of random tokens or cut from the documentation.  Such rows teach to copy as such.
    """
    span = int(rng.integers(8, length // 2))
    start = int(rng.integers(0, len(prose) - span))
    source = rng.integers(1, VOCABULARY, span) if rng.random() < 0.7 else prose[start : start + span]
    weights = np.ones(length, dtype=np.float32)
    weights[: span - 1] = 0.0
    return np.resize(source, length + 1), weights


def row_at(
    rng: np.random.Generator, place: float, length: int, part: float, data: Data
) -> tuple[np.ndarray, np.ndarray]:
    """Return one row (a token more than `length`) and the weights of its targets.

    `place` says where in the corpus, `part` how much of the training is over.
    """
    if REPEAT_PARTS[0] <= part < REPEAT_PARTS[1] and rng.random() < REPEAT_ROWS:
        return repeated_row(rng, length, data.prose)
    focus = part >= FOCUS_FROM
    weights = np.ones(length, dtype=np.float32)
    if rng.random() >= (FOCUS_COPY_ROWS if focus else COPY_ROWS):
        start = int(place * (len(data.prose) - length - 1))
        return data.prose[start : start + length + 1], weights
    start = int(data.starts[int(place * len(data.starts))])
    if focus:
        weights[data.copied[start + 1 : start + length + 1]] = FOCUS_WEIGHT
    return data.copies[start : start + length + 1], weights


def blanking(rng: np.random.Generator, length: int) -> np.ndarray:
    """Return how much of each input embedding is kept: all, or all of some tokens, or some of every token.

    What is blanked falls back to the embedding of `<|endoftext|>`.  So the model learns to copy from what
    is left, and texts with absent tokens, such as those between a baseline and an input, are known to it.
    """
    kind = rng.random()
    if kind < 0.4:
        return np.ones(length, dtype=np.float32)
    if kind < 0.7:
        return (rng.random(length) >= rng.uniform(0.0, 0.7)).astype(np.float32)
    return np.full(length, rng.uniform(0.1, 1.0), dtype=np.float32)


def batch_at(step: int, steps: int, seed: int, data: Data) -> tuple[torch.Tensor, ...]:
    """Return the inputs, the targets, their weights, the kept parts of the inputs and the positions of a step.

    Rows are spread evenly over the corpus (multiples of the golden ratio), not drawn at random.  A row of
    copy texts starts with the beginning of a text.  Short rows sit at the first or at later positions.
    """
    rng = np.random.default_rng([seed, step])
    part = step / steps
    length = SHORT if part < SHORT_PART else CONTEXT
    rows, weights, kept, offsets = [], [], [], []
    for row in range(TOKENS_PER_STEP // length):
        tokens, weight = row_at(rng, (seed * 0.1 + (step * 16 + row) * GOLDEN) % 1.0, length, part, data)
        rows.append(tokens.astype(np.int64))
        weights.append(weight)
        blank = part >= BLANK_FROM and weight.max() > 1
        kept.append(blanking(rng, length) if blank else np.ones(length, dtype=np.float32))
        offsets.append(int(rng.integers(0, CONTEXT - length + 1)) if rng.random() < 0.5 else 0)
    tokens = torch.from_numpy(np.stack(rows))
    parts = (torch.from_numpy(np.stack(part)) for part in (weights, kept))
    positions = np.arange(length)[None, :] + np.array(offsets)[:, None]
    return tokens[:, :-1], tokens[:, 1:], *parts, torch.from_numpy(positions)


def new_model() -> GPT2LMHeadModel:
    """Return the untrained model: GPT-2 with 4 layers of width 192 and 6 heads, without dropout."""
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=192, n_layer=4, n_head=6,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, activation_function="gelu_pytorch_tanh",
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def optimisers(model: GPT2LMHeadModel) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices of the blocks and Adam for embeddings, biases and norms."""
    matrices = [weight for name, weight in model.named_parameters() if ".h." in name and weight.ndim == 2]
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if id(weight) not in chosen]
    return [
        Muon(matrices, lr=MUON_LR),
        torch.optim.AdamW(others, lr=ADAM_LR, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0, fused=True),
    ]


def rate(step: int, steps: int) -> float:
    """Return the factor on the learning rates: warm-up, a constant part, then linear to zero."""
    if step < WARMUP:
        return (step + 1) / WARMUP
    constant = CONSTANT_PART * steps
    return 1.0 if step < constant else max(0.0, (steps - step) / (steps - constant))


def save_checkpoint(model: GPT2LMHeadModel, tools: list[torch.optim.Optimizer], step: int) -> None:
    """Write everything that going on after `step` needs, replacing the last checkpoint in one move."""
    state = {"model": model.state_dict(), "tools": [tool.state_dict() for tool in tools], "step": step}
    torch.save(state, WORK / "checkpoint.new")
    (WORK / "checkpoint.new").replace(WORK / "checkpoint.pt")


def load_checkpoint(model: GPT2LMHeadModel, tools: list[torch.optim.Optimizer]) -> int:
    """Restore the last checkpoint, if there is one, and returns the step to go on with."""
    path = WORK / "checkpoint.pt"
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for tool, saved in zip(tools, state["tools"], strict=True):
        tool.load_state_dict(saved)
    return int(state["step"])


def train(steps: int, stop: int, seed: int, log_every: int) -> GPT2LMHeadModel:
    """Return the model after `stop` of `steps` planned steps, with a checkpoint on the way every 250."""
    torch.manual_seed(seed)
    data = prepare()
    print(f"documentation {len(data.prose):,} tokens, copy texts {len(data.copies):,} tokens", flush=True)
    model = new_model()
    tools = optimisers(model)
    first = load_checkpoint(model, tools)

    def loss_of(
        inputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, kept: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        table = model.transformer.wte.weight
        embeddings = table[0] + kept[..., None] * (table[inputs] - table[0])
        logits = model(inputs_embeds=embeddings, position_ids=positions, use_cache=False).logits
        losses = functional.cross_entropy(logits.reshape(-1, VOCABULARY).float(), targets.reshape(-1), reduction="none")
        return (losses * weights.reshape(-1)).sum() / weights.sum()

    compiled = torch.compile(loss_of, dynamic=False)
    began, losses = time.monotonic(), []
    for step in range(first, stop):
        for tool, base in zip(tools, (MUON_LR, ADAM_LR), strict=True):
            for group in tool.param_groups:
                group["lr"] = base * rate(step, steps)
        with torch.autocast("cpu", torch.bfloat16):
            loss = compiled(*batch_at(step, steps, seed, data))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for tool in tools:
            tool.step()
            tool.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        if (step + 1) % log_every == 0:
            log(step + 1, float(np.mean(losses)), rate(step, steps), time.monotonic() - began)
            losses = []
        if (step + 1) % 250 == 0 or step + 1 == stop:
            save_checkpoint(model, tools, step + 1)
    return model


def log(step: int, loss: float, factor: float, seconds: float) -> None:
    """Append one line to the training log; seconds count from the (re)start of the run."""
    new = not LOG.exists()
    with LOG.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", "mean_loss_nats_per_token", "rate_factor", "seconds_since_start"])
        writer.writerow([step, f"{loss:.4f}", f"{factor:.4f}", f"{seconds:.0f}"])
    print(f"step {step} loss {loss:.4f} rate {factor:.3f} {seconds:.0f} s", flush=True)


def main() -> None:
    """Run the training from the command line and saves the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--stop", type=int, help="end before the planned steps are done")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--log-every", type=int, default=50)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    stop = arguments.steps if arguments.stop is None else arguments.stop
    model = train(arguments.steps, stop, arguments.seed, arguments.log_every)
    save_release(model, WORK / "tokenizer.json", arguments.out)


if __name__ == "__main__":
    main()
