"""An interpolated character n-gram model in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


class WittenBell:
    """Character n-grams of every length, interpolated after Witten and Bell (1991).

    P(c | h) = (N(h c) + T(h) · P(c | h')) / (N(h) + T(h)), where N counts in the training text, T(h) is the number
    of distinct characters seen after the context h, h' is h without its oldest character, and below the empty
    context stands the uniform distribution over the vocabulary. Equation 15 of Chen and Goodman (1999),
    "An empirical study of smoothing techniques for language modeling". It has no parameter to tune.
    """

    def __init__(self, text: Ids, vocabulary: int, context: int) -> None:
        """Counts a training text [N] of ids below `vocabulary`, for contexts of 0 to `context` characters.

        Raises:
            OverflowError: an n-gram does not fit 64 bits.
        """
        if vocabulary ** (context + 1) >= 2**63:
            raise OverflowError(f"{context + 1} characters out of {vocabulary} do not fit a 64-bit number")
        self.vocabulary = vocabulary
        self.counts = [_count(_ngrams(text, length, vocabulary), vocabulary) for length in range(context + 1)]

    def probability(self, text: Ids) -> NDArray[np.float64]:
        """P of each character of `text` [N] after those before it; the first ones have shorter contexts."""
        p = np.full(len(text), 1 / self.vocabulary)
        for length, (grams, gram_counts, contexts, totals, kinds) in enumerate(self.counts):
            keys = _ngrams(text, length, self.vocabulary)
            count = _look_up(keys, grams, gram_counts)
            total = _look_up(keys // self.vocabulary, contexts, totals)
            kind = _look_up(keys // self.vocabulary, contexts, kinds)
            lower = p[length:]
            seen = total > 0  # an unseen context leaves it to the shorter one
            p[length:] = np.where(seen, (count + kind * lower) / np.where(seen, total + kind, 1), lower)
        return p

    def bits_per_character(self, text: Ids) -> float:
        """Mean of −log2 P over the characters of a text."""
        return float(-np.log2(self.probability(text)).mean())


def _ngrams(text: Ids, length: int, vocabulary: int) -> Ids:
    """One number for each character and the `length` characters before it, from position `length` on.

    The character is the last digit in base `vocabulary`: key // vocabulary is the context.
    """
    keys = np.zeros(max(len(text) - length, 0), np.int64)
    for back in range(length, -1, -1):
        keys = keys * vocabulary + text[length - back : len(text) - back]
    return keys


def _count(keys: Ids, vocabulary: int) -> tuple[Ids, Ids, Ids, Ids, Ids]:
    """The distinct n-grams and their counts; the distinct contexts, their counts and numbers of successors."""
    grams, counts = np.unique(keys, return_counts=True)
    contexts, first = np.unique(grams // vocabulary, return_index=True)
    totals = np.add.reduceat(counts, first)
    kinds = np.diff(first, append=len(grams))
    return grams, counts, contexts, totals, kinds


def _look_up(keys: Ids, known: Ids, values: Ids) -> Ids:
    """The value of each key, 0 where it is not among the sorted `known`."""
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[place] == keys, values[place], 0)
