"""The character n-gram is a probability distribution, and the one that its formula says."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

VOCABULARY = 5
TEXT = np.random.default_rng(0).integers(0, VOCABULARY - 1, 200)  # id 4 is never seen


@pytest.fixture
def ngram(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts" / "bench"))
    monkeypatch.delitem(sys.modules, "char_ngram", raising=False)
    return importlib.import_module("char_ngram").WittenBell


def slow(context: list[int], character: int) -> float:
    """The formula, written out: recursion over shorter contexts, counting by scanning the text."""
    length = len(context)
    text = TEXT.tolist()
    after = Counter(text[i] for i in range(length, len(text)) if text[i - length : i] == context)
    lower = slow(context[1:], character) if context else 1 / VOCABULARY
    seen, kinds = after.total(), len(after)
    return (after[character] + kinds * lower) / (seen + kinds) if seen else lower


@pytest.mark.parametrize("context", [0, 1, 3])
def test_probabilities_are_those_of_the_formula(ngram, context: int) -> None:
    other = np.random.default_rng(1).integers(0, VOCABULARY, 40)
    found = ngram(TEXT, VOCABULARY, context).probability(other)
    expected = [slow(other[max(0, i - context) : i].tolist(), int(other[i])) for i in range(len(other))]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_probabilities_sum_to_one(ngram) -> None:
    model = ngram(TEXT, VOCABULARY, 3)
    for context in ([0, 1, 2], [3, 3, 3], [4, 4, 4], [1, 4, 0]):
        total = sum(model.probability(np.array([*context, c]))[-1] for c in range(VOCABULARY))
        assert total == pytest.approx(1, abs=1e-12)


def test_a_known_text_costs_fewer_bits_than_its_alphabet(ngram) -> None:
    periodic = np.tile([0, 1, 2, 3], 100)
    assert ngram(periodic, VOCABULARY, 1).bits_per_character(periodic) < 0.2
    assert ngram(periodic, VOCABULARY, 0).bits_per_character(periodic) == pytest.approx(2, abs=0.05)


def test_n_grams_that_do_not_fit_are_refused(ngram) -> None:
    with pytest.raises(OverflowError, match="64-bit"):
        ngram(TEXT, 100, 9)
