"""Gradients through time: against numerical differentiation, and against a recurrence whose growth is known."""

import math

import pytest
import torch
from torch import Tensor, nn

from norm_sites import config as norm_config
from normlab.config.schema import Sizes
from normlab.measures.gradient_in_time import gradient_logs
from normlab.models.base import Model
from normlab.models.build import factory
from normlab.models.lstm import LSTM
from normlab.probes.slopes import gaussian, growth, inner


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Two threads take longer where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SERIES = Sizes("features", (6, 3), outputs=2, positions=6)
TOKENS = Sizes("tokens", (6,), outputs=5, positions=6, vocabulary=5, causal=True)


def lstm(norm: str, sizes: Sizes, **options) -> LSTM:
    torch.manual_seed(0)
    return LSTM(factory(norm_config(norm)), sizes, width=4, embedding=3, **options).double().train()


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("layers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_they_equal_numerical_differentiation(norm, layers):
    model = lstm(norm, SERIES, layers=layers)
    inputs = gaussian((3, 4, 3), 1)
    v = gaussian((3, 4), 7)

    @torch.no_grad()
    def energy(x: Tensor) -> float:
        with torch.random.fork_rng():
            for layer in model.layers:
                x = layer(x, None)
        return float((v * x[:, -1]).sum())

    gradient, step = torch.zeros_like(inputs), 1e-6
    for i in range(inputs.numel()):
        moved = torch.zeros(inputs.numel(), dtype=torch.float64)
        moved[i] = step
        there = moved.view_as(inputs)
        gradient.view(-1)[i] = (energy(inputs + there) - energy(inputs - there)) / (2 * step)
    expected = gradient.square().mean((0, 2)).sqrt().log10()
    assert gradient_logs(model, inputs, 7) == pytest.approx(expected.tolist(), abs=1e-5)


def test_of_tokens_they_are_those_of_their_vectors():
    """The same network, given the vectors as features, has the same gradients."""
    model = lstm("layer", TOKENS)
    tokens = torch.randint(5, (4, 6), generator=torch.Generator().manual_seed(0))
    features = lstm("layer", SERIES)
    features.layers.load_state_dict(model.layers.state_dict())
    assert gradient_logs(model, tokens, 3) == gradient_logs(features, model.embedding(tokens).detach(), 3)


class Decaying(Model):
    """h_t = decay · h_{t-1} + u_t: its gradients shrink by `decay` per step, exactly."""

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.loop = Loop(decay)

    def hidden_layers(self) -> list[nn.Module]:
        return [self.loop]

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.loop(inputs)[:, -1]


class Loop(nn.Module):
    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay

    def forward(self, x: Tensor) -> Tensor:
        h, states = torch.zeros_like(x[:, 0]), []
        for u in x.unbind(1):
            h = self.decay * h + u
            states.append(h)
        return torch.stack(states, 1)


@pytest.mark.parametrize("decay", [0.5, 0.9, 1.0, 1.1])
def test_a_known_decay_is_found(decay):
    logs = gradient_logs(Decaying(decay), gaussian((8, 40, 3), 0), 0)
    assert growth([-log for log in logs], inner(len(logs), 0.2)) == pytest.approx(decay, rel=1e-12)


def test_a_recurrence_that_forgets_everything_has_no_growth():
    logs = gradient_logs(Decaying(0.0), gaussian((8, 10, 3), 0), 0)
    assert logs[0] == -math.inf
    assert growth(logs, inner(10, 0.2)) is None
