"""Windows of other lengths: every token once, by slow formulas, with known answers."""

import math

import pytest
import torch
from torch import nn

from norm_sites import config
from normlab.config.schema import Sizes
from normlab.data.splits import Windows
from normlab.measures.lengths import bits, drift, first_scored, late_windows, score
from normlab.models.base import Model
from normlab.models.build import factory
from normlab.models.lstm import LSTM
from normlab.models.transformer import Transformer

VOCABULARY = 7


def text(count: int = 61) -> torch.Tensor:
    return torch.randint(VOCABULARY, (count,), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("lengths", [(4, 8, 16), (3, 5, 7), (2,), (9, 20)])
@pytest.mark.parametrize("count", [61, 62, 40])
def test_later_halves_hold_the_same_tokens_once_whatever_the_length(lengths, count):
    start = first_scored(lengths)
    for length in lengths:
        split = Windows(text(count), length)
        begins = late_windows(split, start)
        assert int(begins.min()) >= 0
        skip = length - length // 2
        scored = [i for b in begins.tolist() for i in range(b + skip, b + length) if i < split.predicted]
        assert scored == list(range(start, split.predicted))


class Guesses(Model):
    """Certain of the next token from step `sure` on (it is one more than this one), and at a loss before."""

    def __init__(self, sure: int) -> None:
        super().__init__()
        self.sure = sure

    def forward(self, inputs, mask):
        logits = 50.0 * nn.functional.one_hot((inputs + 1) % VOCABULARY, VOCABULARY).float()
        logits[:, : self.sure] = 0
        return logits


def test_bits_of_known_models():
    split = Windows(torch.arange(81) % VOCABULARY, 8)
    assert bits(score(Guesses(8), split, split.in_order(), 0, 3), 1.0) == pytest.approx(math.log2(VOCABULARY))
    assert bits(score(Guesses(2), split, split.in_order(), 0, 3), 1.0) == pytest.approx(math.log2(VOCABULARY) / 4)
    assert bits(score(Guesses(4), split, late_windows(split, 4), 4, 3), 1.0) == pytest.approx(0, abs=1e-6)
    assert bits(score(Guesses(6), split, late_windows(split, 4), 4, 3), 0.5) == pytest.approx(math.log2(VOCABULARY) / 4)


def lstm(norm: str) -> LSTM:
    torch.manual_seed(0)
    sizes = Sizes("tokens", (6,), outputs=VOCABULARY, vocabulary=VOCABULARY, positions=6, causal=True)
    return LSTM(factory(config(norm)), sizes, width=8, embedding=4, layers=2).eval()


def transformer(norm: str) -> Transformer:
    torch.manual_seed(0)
    sizes = Sizes("tokens", (6,), outputs=VOCABULARY, vocabulary=VOCABULARY, positions=6, causal=True)
    return Transformer(factory(config(norm)), sizes, width=8, heads=2, layers=1).eval()


@pytest.mark.parametrize("make", [lstm, transformer])
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_scores_equal_one_token_at_a_time(make, norm):
    model, tokens, length = make(norm), text(40), 9
    split = Windows(tokens, length)
    start = first_scored((length, 12))

    def nats(begin: int, token: int) -> float:
        with torch.no_grad():
            logits = model(tokens[None, begin : token + 1], None)[0, -1]
        return float(-logits.double().log_softmax(0)[tokens[token + 1]])

    whole = score(model, split, split.in_order(), 0, 2)
    expected = [nats(token // length * length, token) for token in range(39)]
    assert float(whole.loss.sum()) == pytest.approx(sum(expected), rel=1e-5)
    assert float(whole.count.sum()) == 39
    late = score(model, split, late_windows(split, start), length - length // 2, 2)
    begins = [start - 5 + (token - start) // 4 * 4 for token in range(start, 39)]
    expected = [nats(begin, token) for begin, token in zip(begins, range(start, 39), strict=True)]
    assert float(late.loss.sum()) == pytest.approx(sum(expected), rel=1e-5)
    assert float(late.count.sum()) == 39 - start


def test_sizes_of_the_state_are_those_of_the_last_layer_without_padding():
    model, tokens = lstm("layer"), text(20)  # windows of 8, 8 and 3 tokens
    split = Windows(tokens, 8)
    kept = []
    handle = model.layers[-1].register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    with torch.no_grad():
        for begin in (0, 8, 16):
            model(tokens[None, begin : min(begin + 8, 19)])
    handle.remove()
    scores = score(model, split, split.in_order(), 0, 5)
    assert scores.states.tolist() == [3, 3, 3, 2, 2, 2, 2, 2]
    sizes = [[float(h[0, t].square().mean().sqrt()) for h in kept if t < h.shape[1]] for t in range(8)]
    assert (scores.rms / scores.states).tolist() == pytest.approx([sum(s) / len(s) for s in sizes], rel=1e-5)
    assert not score(transformer("layer"), split, split.in_order(), 0, 5).rms.any()


def test_drift_is_the_spread_over_time_relative_to_the_mean():
    assert drift(torch.tensor([0.5, 0.5, 0.5])) == 0.0
    assert drift(torch.tensor([1.0, 3.0])) == 0.5
    assert math.isnan(drift(torch.tensor([math.nan, 3.0])))


def test_a_loss_that_is_not_finite_gives_no_number_of_bits():
    class Broken(Model):
        def forward(self, inputs, mask):
            return torch.full((*inputs.shape, VOCABULARY), math.inf)

    split = Windows(text(), 8)
    assert math.isnan(bits(score(Broken(), split, split.in_order(), 0, 3), 1.0))
