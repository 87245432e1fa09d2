"""Turn text into token ids and ids into readable Tokens, with any fast tokenizer."""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ecco_core.data.tokens import Tokens
from ecco_core.errors import PromptError, TargetError, did_you_mean, saying

_FIX = "pass a tokenizer that AutoTokenizer loads with use_fast=True"


def encode(
    tokenizer: Any, text: str, size: int, *, special: bool = True, what: str = "prompt", target: bool = False
) -> list[int]:
    """Return the ids of `text`.

    Args:
        size: how many tokens the model embeds. `special`: add the special tokens that the tokenizer adds.
        what: what the text is, for messages. `target`: it is what an encoder-decoder model answers.

    Raises:
        PromptError: the text is empty, is no text, or cannot be encoded.
    """
    if not isinstance(text, str):
        raise PromptError(f"The {what} is a string, found {type(text).__name__}.")
    if not text:
        raise PromptError(f"The {what} is empty; give at least one character.")
    text = _encodable(text)
    given = {"text_target": text} if target else {"text": text}
    ids: list[int] = tokenizer(**given, add_special_tokens=special)["input_ids"]
    if not ids:
        raise PromptError(f"The tokenizer finds no token in the {what} {text!r}.")
    if max(ids) >= size:
        raise PromptError(
            f"The tokenizer gives the id {max(ids)}, but the model embeds {size} tokens: another's tokenizer?"
        )
    return ids


def chat(tokenizer: Any, messages: Any) -> str:
    """Return a chat as the text that the model was taught to answer, by the tokenizer's own template.

    Args:
        messages: ``[{"role": "user", "content": "…"}, …]``.

    Raises:
        PromptError: the tokenizer has no template, or it refuses the messages.
    """
    if not isinstance(messages, (list, tuple)) or not messages or not all(isinstance(m, Mapping) for m in messages):
        raise PromptError(f"A prompt is a string, or a list of messages with role and content, found {messages!r:.80}.")
    if not getattr(tokenizer, "chat_template", None):
        raise PromptError("This tokenizer has no chat template; give the prompt as one string.")
    with saying("The chat template refuses these messages", PromptError):
        return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))


def _encodable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"The text holds a lone surrogate (U+{ord(text[error.start]):04X} at character {error.start}), which "
            "stands for no character; remove it."
        ) from error
    return text


def tokens_of(tokenizer: Any, ids: Sequence[int]) -> Tokens:
    """Return ids with their texts, which join to the decoded string, and labels for parts of characters.

    Raises:
        PromptError: the tokenizer has no fast backend.
    """
    ids = [int(i) for i in ids]
    texts = _texts(tokenizer, ids)
    pieces = tokenizer.convert_ids_to_tokens(ids)
    special_ids = set(tokenizer.all_special_ids)
    special = [i in special_ids for i in ids]
    labels = [text or _bytes_label(piece) for text, piece in zip(texts, pieces)]
    starts = [
        position == 0
        or special[position]
        or special[position - 1]
        or text[:1].isspace()
        or texts[position - 1][-1:].isspace()
        for position, text in enumerate(texts)
    ]
    return Tokens(ids, texts, labels, starts, special)


def fast_backend(tokenizer: Any) -> Any:
    """Return the fast backend of a tokenizer.

    Raises:
        PromptError: it has none.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise PromptError(f"{type(tokenizer).__name__} has no fast version, which Ecco needs to show tokens: {_FIX}.")
    return backend


def _texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """One text per id; a split character's text on its last part, what is never completed on the last id."""
    from tokenizers.decoders import DecodeStream

    backend = fast_backend(tokenizer)
    whole = backend.decode(list(ids), skip_special_tokens=False)
    stream = DecodeStream(skip_special_tokens=False)
    try:
        texts = [stream.step(backend, i) or "" for i in ids]
    except Exception:  # tokenizers raises it bare, where stray bytes change what came before
        texts = []
    if not texts or not whole.startswith("".join(texts)):
        return _texts_of_prefixes(backend, ids, whole)
    texts[-1] += whole[len("".join(texts)) :]
    return texts


def _texts_of_prefixes(backend: Any, ids: Sequence[int], whole: str) -> list[str]:
    """What each id adds to the agreement between the decoded prefix and the decoded whole; slow, always joins."""
    prefixes = (backend.decode(list(ids[:n]), skip_special_tokens=False) for n in range(len(ids)))
    agreed = itertools.accumulate((len(os.path.commonprefix([prefix, whole])) for prefix in prefixes), max)  # noqa: RUF071
    return [whole[start:end] for start, end in itertools.pairwise([*agreed, len(whole)])]


def label_of(tokenizer: Any, token: int) -> str:
    """Return how one token reads inside of a text; some decoders drop the blank of a text's first token."""
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"]
    return tokens_of(tokenizer, [*anchor, token]).labels[-1]


@functools.cache
def _byte_of() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for (as GPT-2's published table)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(others)}


def _bytes_label(piece: str | None) -> str:
    """Label a token without text of its own by the bytes it stands for."""
    if not piece:
        return "<?>"
    if re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", piece):
        return f"<{piece[3:5].upper()}>"
    table = _byte_of()
    if all(c in table for c in piece):
        return "<" + " ".join(f"{table[c]:02X}" for c in piece) + ">"
    return piece


def single_token(tokenizer: Any, wanted: int | str, size: int, what: str) -> int:
    """Return the vocabulary entry that an id or a text names.

    Args:
        size: number of entries the model's head scores. `what`: what it is wanted as, for messages.

    Raises:
        TargetError: no such id, or the text is not exactly one token.
    """
    if isinstance(wanted, int):
        if not 0 <= wanted < size:
            raise TargetError(f"{what}: token id {wanted} is not in the vocabulary of {size} entries.")
        return wanted
    special = tokenizer.get_vocab().get(wanted)
    if special is not None and special in tokenizer.all_special_ids:
        return single_token(tokenizer, int(special), size, what)
    if not wanted:
        raise TargetError(f"{what}: an empty text is no token.")
    ids = tokenizer(_encodable(wanted), add_special_tokens=False)["input_ids"]
    if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
        return single_token(tokenizer, int(ids[0]), size, what)
    if tokenizer.unk_token_id in ids:
        raise TargetError(f"{what}: {wanted!r} is not in the vocabulary: it becomes {tokenizer.unk_token!r}.")
    pieces, spaced = [t or "?" for t in tokens_of(tokenizer, ids).labels], f" {wanted}"
    hint = did_you_mean(wanted, pieces) or " Name one token, or its id."
    if len(tokenizer(spaced, add_special_tokens=False)["input_ids"]) == 1:  # the common slip
        hint = f" Did you mean {spaced!r}, with a blank before it?"
    raise TargetError(f"{what}: {wanted[:80]!r} is {len(ids)} tokens of this vocabulary ({pieces[:9]}), not one.{hint}")
