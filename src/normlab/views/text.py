"""Text to token ids and back. Imports no torch, and `tokenizers` only to fit subwords.

Every vocabulary begins with two special tokens. Id 0 is padding in classification and ends each document in language
modelling. Id 1 stands for everything that the training split does not contain.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from normlab.config.schema import InputError

END = 0
UNKNOWN = 1
SPECIAL = ("<end>", "<unk>")

Ids = NDArray[np.int32]
Encoder = Callable[[str], Ids]


@dataclass(frozen=True)
class Vocabulary:
    """The text of each token id, and the separator of tokens (a space for words, otherwise nothing)."""

    pieces: tuple[str, ...]
    joiner: str = ""

    def __len__(self) -> int:
        return len(self.pieces)

    def decode(self, ids: Iterable[int]) -> str:
        """Token ids → text, for showing examples; ends of documents and padding become line breaks."""
        text = self.joiner.join("\n" if i == END else self.pieces[i] for i in ids)
        return text.strip("\n")


def normal(text: str) -> str:
    """Canonical composition (NFC): é becomes one character however it was typed."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def fit_characters(texts: Sequence[str], limit: int | None = None) -> Vocabulary:
    """Every character of the training texts, or the `limit` most frequent, by code point."""
    seen = set().union(*map(set, texts))
    if limit is not None and len(seen) > limit - len(SPECIAL):
        counts = Counter(character for text in texts for character in text)
        seen = set(sorted(counts, key=lambda c: (-counts[c], c))[: limit - len(SPECIAL)])
    return Vocabulary((*SPECIAL, *sorted(seen)))


def character_encoder(vocabulary: Vocabulary) -> Encoder:
    """Text → ids of its characters."""
    seen = vocabulary.pieces[len(SPECIAL) :]
    table = np.full(0x110000, UNKNOWN, np.int32)
    table[[ord(character) for character in seen]] = np.arange(len(SPECIAL), len(SPECIAL) + len(seen))

    def encode(text: str) -> Ids:
        return table[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)]

    return encode


@cache
def _word() -> re.Pattern[str]:
    """A word, with apostrophes within it; or one other visible character. Marks belong to the character before them.

    `re` doesn't count combining marks (Unicode category M) as letters; all of them are within these two bounds.
    The joiners U+200C and U+200D occur within words too, for example in Persian.
    """
    points = [*range(0x300, 0x20000), *range(0xE0100, 0xE01F0)]
    marks = "".join(chr(c) for c in points if unicodedata.category(chr(c))[0] == "M") + "\u200c\u200d"
    letters = rf"(?:[^\W_]+[{marks}]*)+"
    return re.compile(rf"{letters}(?:['\u2019]{letters})*|[^\w\s{marks}][{marks}]*|_|[{marks}]+")


def split_words(text: str) -> list[str]:
    """Lower-case words and single punctuation marks: for classification."""
    return _word().findall(text.lower())


def fit_words(texts: Sequence[str], split: Callable[[str], list[str]], limit: int | None) -> Vocabulary:
    """The `limit` most frequent words of the training texts, special tokens included.

    `split` is `split_words`, or `str.split` for words already separated by spaces, as in the corpora of language
    modelling (whose `<unk>` then becomes ours).
    """
    counts = Counter(word for text in texts for word in split(text))
    del counts[SPECIAL[UNKNOWN]]
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return Vocabulary((*SPECIAL, *ranked[: None if limit is None else limit - len(SPECIAL)]), joiner=" ")


def word_encoder(vocabulary: Vocabulary, split: Callable[[str], list[str]]) -> Encoder:
    """Text → ids of its words; unknown ones become `UNKNOWN`."""
    ids = {word: i for i, word in enumerate(vocabulary.pieces)}

    def encode(text: str) -> Ids:
        return np.array([ids.get(word, UNKNOWN) for word in split(text)], np.int32)

    return encode


def fit_subwords(texts: Sequence[str], limit: int) -> tuple[Vocabulary, str]:
    """Byte-pair encoding of the training texts (Sennrich et al. 2016, arXiv 1508.07909), on characters.

    Merges stay within a word and the space before it, a run of punctuation, or a run of other white space, so joining
    the pieces restores the text.

    Returns:
        The vocabulary, and the tokenizer as JSON.

    Raises:
        InputError: the texts have more different characters than the vocabulary may have pieces.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    characters = len(set().union(*map(set, texts)))
    if characters + len(SPECIAL) > limit:
        raise InputError(
            f"task.vocabulary={limit}: the training texts have {characters} different characters, and each needs a "
            f"subword: use task.vocabulary={characters + len(SPECIAL)} or more"
        )
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[UNKNOWN]))
    pieces = Regex(r" ?\p{L}[\p{L}\p{M}\x{200C}\x{200D}]*| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pieces, "isolated")
    trainer = trainers.BpeTrainer(vocab_size=limit, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    ids = tokenizer.get_vocab()
    return Vocabulary(tuple(sorted(ids, key=ids.__getitem__))), tokenizer.to_str()


def check_tokenizer(tokenizer: str | None, ids: int) -> None:
    """Check that it is a tokenizer as JSON, with at most so many token ids.

    Raises:
        InputError: it is not.
    """
    from tokenizers import Tokenizer

    try:
        known = Tokenizer.from_str(str(tokenizer)).get_vocab()
    except Exception:  # the library raises no narrower type of error
        raise InputError("its tokenizer is invalid") from None
    if max(known.values(), default=0) >= ids:
        raise InputError(f"its tokenizer has other token ids than its model, of {ids}")


def subword_encoder(tokenizer: str) -> Encoder:
    """Text → ids, by a tokenizer given as JSON."""
    from tokenizers import Tokenizer

    made = Tokenizer.from_str(tokenizer)

    def encode(text: str) -> Ids:
        return np.array(made.encode(text).ids, np.int32)

    return encode


def compact(ids: int) -> type[np.integer]:
    """The smallest integer type for that many token ids from which torch can gather."""
    return np.uint8 if ids <= 2**8 else np.int16 if ids <= 2**15 else np.int32
