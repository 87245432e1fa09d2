"""What the small task models share: training loop, token roles, blanking, and the folder that is shipped."""

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from muon import Muon
from release import halve, write_json
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedModel

Span = tuple[int, int]
WORK = Path(__file__).parent / "work"
PLAIN, DECIDING, OPPOSING, CUE, SPECIAL = range(5)
WARMUP = 200
CONSTANT_PART = 0.4


def token_positions(offsets: Iterable[Span], spans: Iterable[Span]) -> list[int]:
    """Return the positions of the tokens that share a character with one of the spans."""
    spans = list(spans)
    return [
        place
        for place, (start, end) in enumerate(offsets)
        if any(start < stop and end > begin for begin, stop in spans)
    ]


def token_roles(encoding: Encoding, deciding: Iterable[Span], opposing: Iterable[Span], cues: Iterable[Span]) -> list:
    """Return for each token whether it decides, opposes, connects, is special, or none of these."""
    roles = [SPECIAL if special else PLAIN for special in encoding.special_tokens_mask]
    for role, spans in ((CUE, cues), (OPPOSING, opposing), (DECIDING, deciding)):
        for place in token_positions(encoding.offsets, spans):
            roles[place] = role
    return roles


def batches_by_length(make: Callable[[int], list], size: int, rng: random.Random) -> Iterator[list]:
    """Yield endless batches of examples `(ids, …)` of like length, from `make(count)`, in random order."""
    while True:
        examples = sorted(make(100 * size), key=lambda example: len(example[0]))
        cut = [examples[start : start + size] for start in range(0, len(examples), size)]
        rng.shuffle(cut)
        yield from cut


def padded(rows: list[list[int]], fill: int) -> np.ndarray:
    """Return rows of different length as one array."""
    width = max(map(len, rows))
    return np.array([[*row, *[fill] * (width - len(row))] for row in rows])


def blanked(
    ids: np.ndarray,
    roles: np.ndarray,
    rng: np.random.Generator,
    harmless: np.ndarray,
    blanks: tuple[int, int],
    on: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return ids, the blank of each row, what is kept of each embedding, and how sure the answer still is.

    Some rows get harmless random tokens, some lose tokens that do not matter, some lose those that decide (so
    nothing is sure any more), some lose all, and of some rows every embedding is moved a part of the way.
    """
    ids, kept, sure = ids.copy(), np.ones(ids.shape, dtype=np.float32), np.ones(len(ids), dtype=np.float32)
    chosen = np.where(rng.random(len(ids)) < 0.7, *blanks)
    for row, kind in enumerate(rng.random(len(ids)) if on else ()):
        words = (roles[row] != SPECIAL) if rng.random() < 0.7 else ids[row] != 0
        chance = rng.random(ids.shape[1])
        if kind < 0.15:
            noisy = (roles[row] == PLAIN) & (chance < rng.uniform(0, 0.4))
            ids[row, noisy] = rng.choice(harmless, noisy.sum())
        elif kind < 0.35:
            kept[row, (roles[row] == PLAIN) & (chance < rng.uniform(0, 1))] = 0
        elif kind < 0.42:
            gone = np.isin(roles[row], (DECIDING, OPPOSING)) | (words & (chance < rng.uniform(0.2, 1)))
            kept[row, gone], sure[row] = 0, 0
        elif kind < 0.44:
            kept[row, words], sure[row] = 0, 0
        elif kind < 0.60:
            kept[row, words] = sure[row] = rng.random()
    return ids, chosen, kept, sure


def mixed(table: torch.nn.Embedding, ids: np.ndarray, blanks: np.ndarray, kept: np.ndarray) -> torch.Tensor:
    """Return the embeddings of ids, of which only the kept part is not that of the row's blank."""
    blank = table(torch.from_numpy(blanks))[:, None]
    return blank + torch.from_numpy(kept)[..., None] * (table(torch.from_numpy(ids)) - blank)


def fit(
    model: PreTrainedModel,
    loss_of: Callable[[int], torch.Tensor],
    steps: int,
    rates: tuple[float, float] = (0.01, 3e-3),
    slower: float = 1.0,
    log_every: int = 200,
) -> None:
    """Train with Muon for matrices and Adam for the rest: warm-up, a constant part, then linear to zero.

    `slower` is a factor on the rate of T5's query matrices, for its attention divides by no root of the width.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    matrices: dict[float, list[torch.Tensor]] = {}
    others = []
    for name, weight in model.named_parameters():
        if weight.ndim < 2 or min(weight.shape) <= 2 or id(weight) in tables:
            others.append(weight)
        else:
            matrices.setdefault(slower if name.endswith(".q.weight") else 1.0, []).append(weight)
    tools = [
        *(Muon(weights, lr=rates[0] * scale) for scale, weights in matrices.items()),
        torch.optim.AdamW(others, lr=rates[1], betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]
    began, losses = time.monotonic(), []
    model.train()
    for step in range(steps):
        factor = min(1.0, (step + 1) / WARMUP, (steps - step) / steps / (1 - CONSTANT_PART))
        for tool in tools:
            tool.param_groups[0]["lr"] = tool.defaults["lr"] * factor
        loss = loss_of(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for tool in tools:
            tool.step()
            tool.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        if (step + 1) % log_every == 0:
            print(f"step {step + 1} loss {np.mean(losses):.4f} {time.monotonic() - began:.0f} s", flush=True)
            losses = []
    model.eval()


def save_task_model(model: PreTrainedModel, tokenizer: Tokenizer, config: dict[str, object], folder: Path) -> None:
    """Write half-precision weights, configuration and tokenizer to `folder`, ready for the Auto classes."""
    halve(model, folder)
    tokenizer.no_padding()
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    defaults = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    write_json(folder / "tokenizer_config.json", defaults | config)


def write_cases(path: Path, cases: list[dict[str, object]]) -> None:
    """Write known answers as JSON, a case a line."""
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
