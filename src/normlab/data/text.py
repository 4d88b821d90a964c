"""Text to token ids and back. Imports no torch, and `tokenizers` only to fit subwords.

Every vocabulary begins with two special tokens. Id 0 is padding in classification; in language modelling it
closes each document. Id 1 stands for whatever the training split does not contain.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

END = 0
UNKNOWN = 1
SPECIAL = ("<end>", "<unk>")

Ids = NDArray[np.int32]
Encoder = Callable[[str], Ids]


@dataclass(frozen=True)
class Vocabulary:
    """The text of each token id, and what stands between two tokens (a space for words, else nothing)."""

    pieces: tuple[str, ...]
    joiner: str = ""

    def __len__(self) -> int:
        return len(self.pieces)

    def decode(self, ids: Iterable[int]) -> str:
        """Token ids → text, for showing examples; ends of documents and padding become line breaks."""
        text = self.joiner.join("\n" if i == END else self.pieces[i] for i in ids)
        return text.strip("\n")


def fit_characters(texts: Sequence[str]) -> tuple[Vocabulary, Encoder]:
    """Every character of the training texts, by code point."""
    seen = sorted(set().union(*map(set, texts)))
    table = np.full(0x110000, UNKNOWN, np.int32)
    table[[ord(character) for character in seen]] = np.arange(len(SPECIAL), len(SPECIAL) + len(seen))

    def encode(text: str) -> Ids:
        return table[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)]

    return Vocabulary((*SPECIAL, *seen)), encode


def split_words(text: str) -> list[str]:
    """Lower-case words and single punctuation marks: for classification."""
    return re.findall(r"[^\W_]+(?:['\u2019][^\W_]+)*|[^\w\s]|_", text.lower())


def fit_words(texts: Sequence[str], split: Callable[[str], list[str]], limit: int | None) -> tuple[Vocabulary, Encoder]:
    """The `limit` most frequent words of the training texts, special tokens included.

    `split` is `split_words`, or `str.split` where words are already separated by spaces, as in the corpora of
    language modelling (whose own `<unk>` is then ours).
    """
    counts = Counter(word for text in texts for word in split(text))
    del counts[SPECIAL[UNKNOWN]]
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    pieces = (*SPECIAL, *ranked[: None if limit is None else limit - len(SPECIAL)])
    ids = {word: i for i, word in enumerate(pieces)}

    def encode(text: str) -> Ids:
        return np.array([ids.get(word, UNKNOWN) for word in split(text)], np.int32)

    return Vocabulary(pieces, joiner=" "), encode


def fit_subwords(texts: Sequence[str], limit: int) -> tuple[Vocabulary, Encoder]:
    """Byte-pair encoding of the training texts (Sennrich et al. 2016, arXiv 1508.07909), on characters.

    Merges stay within a word with the space before it, a run of punctuation, or a run of other white space,
    so that joining the pieces gives back the text.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[UNKNOWN]))
    pieces = Regex(r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pieces, "isolated")
    trainer = trainers.BpeTrainer(vocab_size=limit, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    ids = tokenizer.get_vocab()

    def encode(text: str) -> Ids:
        return np.array(tokenizer.encode(text).ids, np.int32)

    return Vocabulary(tuple(sorted(ids, key=ids.__getitem__))), encode
