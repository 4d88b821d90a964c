"""Parameter groups and the course of the learning rate."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from normlab.config.schema import InputError, OptimConfig
from normlab.norms.dyt import DynamicTanh
from normlab.tasks.optimiser import build_optimiser, build_schedule, rate_factor


def config(**changes):
    return OptimConfig(**{"name": "adamw", "lr": 0.1, "weight_decay": 0.5, "warmup": 0.2, **changes})


def test_only_weights_decay():
    model = nn.Sequential(nn.Linear(3, 4), DynamicTanh(4, "BC"), nn.LayerNorm(4))
    decayed, rest = build_optimiser(model, config()).param_groups
    assert decayed["weight_decay"] == 0.5
    assert [p.shape for p in decayed["params"]] == [(4, 3)]
    assert rest["weight_decay"] == 0.0
    assert sum(p.numel() for p in rest["params"]) == 4 + (1 + 4 + 4) + (4 + 4)


def test_decay_moves_weights_but_no_gain():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = build_optimiser(model, config(name="sgd", momentum=0.0))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimiser.step()
    after = dict(model.named_parameters())
    torch.testing.assert_close(after["0.weight"], before["0.weight"] * (1 - 0.1 * 0.5))
    assert torch.equal(after["1.weight"], before["1.weight"])
    assert torch.equal(after["0.bias"], before["0.bias"])


def test_warmup_rises_and_cosine_falls_to_its_end():
    factors = [rate_factor(step, config(final=0.1), 100) for step in range(101)]
    assert factors[:20] == sorted(factors[:20])
    assert 0 < factors[0] < 0.1
    assert factors[20] == pytest.approx(1.0)
    assert factors[20:] == sorted(factors[20:], reverse=True)
    assert factors[60] == pytest.approx(0.55)
    assert factors[100] == pytest.approx(0.1)


def test_constant_stays():
    assert {rate_factor(step, config(schedule="constant", warmup=0.0), 10) for step in range(10)} == {1.0}


def test_schedule_steps_the_optimiser():
    optimiser = build_optimiser(nn.Linear(2, 2), config(warmup=0.0))
    schedule = build_schedule(optimiser, config(warmup=0.0), steps=2)
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.1)
    optimiser.step()
    schedule.step()
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.05)


def test_steps_fall_at_their_shares():
    stepwise = config(schedule="step", warmup=0.0, milestones=(0.5, 0.75), drop=0.1)
    factors = [rate_factor(step, stepwise, 64000) for step in (0, 31999, 32000, 47999, 48000, 63999)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_rmsprop_is_its_formula():
    layer = nn.Linear(2, 1, bias=False)
    weight = layer.weight.detach().clone()
    optimiser = build_optimiser(layer, config(name="rmsprop", weight_decay=0.0, momentum=0.9, alpha=0.8))
    square, velocity = torch.zeros(1, 2), torch.zeros(1, 2)
    for gradient in (torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 3.0]])):
        layer.weight.grad = gradient
        optimiser.step()
        square = 0.8 * square + 0.2 * gradient**2
        velocity = 0.9 * velocity + gradient / (square.sqrt() + 1e-8)
        weight = weight - 0.1 * velocity
    torch.testing.assert_close(layer.weight.detach(), weight)


def muon_model():
    torch.manual_seed(0)
    embedding = nn.Embedding(5, 4)
    return nn.ModuleDict(
        {"tokens": embedding, "hidden": nn.Linear(4, 6), "conv": nn.Conv1d(6, 2, 3), "norm": nn.LayerNorm(6)}
    )


def stepped(model, optimiser, steps, start=0):
    for number in range(start, start + steps):
        generator = torch.Generator().manual_seed(number)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimiser.step()


def test_muon_moves_matrices_and_adamw_the_rest():
    """As PyTorch's two optimisers do, each with its own parameters."""
    ours, theirs = muon_model(), muon_model()
    stepped(ours, build_optimiser(ours, config(name="muon", momentum=0.95)), 3)
    muon = torch.optim.Muon(
        [theirs["hidden"].weight], lr=0.1, momentum=0.95, weight_decay=0.5, adjust_lr_fn="match_rms_adamw"
    )
    decayed = [theirs["tokens"].weight, theirs["conv"].weight]
    rest = [p for p in theirs.parameters() if p.ndim < 2]
    adamw = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.5}, {"params": rest, "weight_decay": 0.0}], lr=0.1)
    for number in range(3):
        stepped(theirs, muon, 1, number)
        adamw.step()
    for name, parameter in ours.named_parameters():
        assert torch.equal(parameter, dict(theirs.named_parameters())[name]), name


def test_muon_goes_on_from_its_state():
    model = muon_model()
    optimiser = build_optimiser(model, config(name="muon"))
    schedule = build_schedule(optimiser, config(name="muon"), steps=10)
    stepped(model, optimiser, 2)
    schedule.step()
    other = muon_model()
    other.load_state_dict(model.state_dict())
    resumed = build_optimiser(other, config(name="muon", lr=0.7))
    resumed.load_state_dict(deepcopy(optimiser.state_dict()))  # which shares its tensors
    assert {group["lr"] for group in resumed.param_groups} == {optimiser.param_groups[0]["lr"]}
    for each, opt in ((model, optimiser), (other, resumed)):
        stepped(each, opt, 2, start=2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_without_matrices_muon_is_adamw():
    model = nn.Conv1d(2, 2, 3)
    optimiser = build_optimiser(model, config(name="muon"))
    assert [type(part).__name__ for part in optimiser.parts] == ["AdamW"]


def test_a_torch_without_muon_is_told(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(InputError, match=r"needs torch 2\.9 or newer.*use optim=adamw"):
        build_optimiser(muon_model(), config(name="muon"))
