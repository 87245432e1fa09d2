"""A lower-casing WordPiece tokenizer as BERT has it, made of the frequent words of generated texts."""

from collections import Counter
from collections.abc import Iterable
from itertools import combinations

from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, UNK, CLS, SEP, MASK = range(5)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
SIGNS = ".,:;!?'\"-()/&%$£€"
PARTS = 500
TOKENIZER_CONFIG = {
    "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
    "do_lower_case": True, "model_max_length": 128,
}  # fmt: skip


def word_parts(counts: Counter[str], start_mark: str, inner_mark: str) -> Iterable[str]:
    """Yield the parts of two to four letters that most words begin with or contain, most frequent first."""
    parts: Counter[str] = Counter()
    for word, count in counts.items():
        for start, stop in combinations(range(len(word) + 1), 2):
            if 2 <= stop - start <= 4:
                parts[(inner_mark if start else start_mark) + word[start:stop]] += count
    return (part for part, _ in parts.most_common())


def build_wordpieces(texts: Iterable[str], needed: Iterable[str], vocabulary: int) -> Tokenizer:
    """Return a tokenizer of `vocabulary` entries: letters, needed words, parts of words, and frequent words."""
    normalizer, before = BertNormalizer(lowercase=True), BertPreTokenizer()

    def words(text: str) -> list[str]:
        return [word for word, _ in before.pre_tokenize_str(normalizer.normalize_str(text))]

    counts = Counter(word for text in texts for word in words(text))
    entries = [*SPECIAL_TOKENS, *LETTERS, *SIGNS, *(f"##{letter}" for letter in LETTERS)]
    entries += [word for entry in needed for word in words(entry)]
    parts = list(word_parts(counts, "", "##"))
    entries += [*parts[:PARTS], *(word for word, _ in counts.most_common()), *parts[PARTS:]]
    entries = list(dict.fromkeys(entries))[:vocabulary]
    tokenizer = Tokenizer(WordPiece({entry: index for index, entry in enumerate(entries)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = before
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    tokenizer.decoder = WordPieceDecoder()
    return tokenizer
