"""Swapping norms where networks are odd: hooks, computed weights, frozen parameters, errors half-way, second swaps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import normlab
from normlab.config.schema import InputError


def pair(norm: nn.Module | None = None) -> nn.Sequential:
    """A convolution and batch norm with statistics, or another norm."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8) if norm is None else norm)
    with torch.no_grad():
        for value in net[1].parameters():
            value.add_(0.3 * torch.randn_like(value))
    net.train()(images() + 1)
    return net.eval()


def images(examples: int = 4) -> Tensor:
    return torch.randn(examples, 8, 3, 3, generator=torch.Generator().manual_seed(1))


def test_hooks_of_a_norm_stay_and_their_handles_remove_them() -> None:
    net, x = pair(), images()
    seen: list[str] = []
    handles = [
        net[1].register_forward_pre_hook(lambda *_: seen.append("before")),
        net[1].register_forward_hook(lambda module, inputs, y: 2 * y),
        net[1].register_full_backward_hook(lambda *_: seen.append("backward")),
    ]
    expected = net(x)
    normlab.swap_norms(net, "batch", x)
    seen.clear()
    y = net(x)
    torch.testing.assert_close(y, expected)
    y.sum().backward()
    assert seen == ["before", "backward"]
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(net(x), expected / 2)


@pytest.mark.parametrize("compute", [
    lambda norm: parametrizations.weight_norm(norm, dim=None),
    lambda norm: prune.random_unstructured(norm, "weight", 2),
])  # fmt: skip
def test_a_norm_whose_weight_is_computed_stays(compute: Any) -> None:
    net = pair(compute(nn.GroupNorm(2, 8)))
    with pytest.raises(InputError, match="1 can't be replaced: its weight is computed from other parameters"):
        normlab.swap_norms(net, "layer", images())


@pytest.mark.parametrize("affine", [False, True])
def test_instance_norm_of_an_input_without_a_batch_axis_stays(affine: bool) -> None:
    """Its rows would be taken for channels."""
    (site,) = normlab.norm_sites(pair(nn.InstanceNorm2d(8, affine=affine)), images()[0])
    assert site.obstacle == "its input has no batch axis"


@pytest.mark.parametrize("affine", [False, True])
def test_the_frozen_map_trains_what_was_trained_and_loads_old_checkpoints(affine: bool) -> None:
    net, x = pair(nn.BatchNorm2d(8, affine=affine)), images()
    if affine:
        net[1].bias.requires_grad_(False)
    expected, old = net(x), {key: value.clone() for key, value in net.state_dict().items()}
    normlab.swap_norms(net, "frozen", x)
    assert [p.requires_grad for p in net[1].parameters()] == [affine, False]
    new = {key: value.clone() for key, value in net.state_dict().items()}
    for state in (old, new):
        with torch.no_grad():
            net[1].gain.fill_(7), net[1].bias.fill_(7)
        net.load_state_dict(state)
        torch.testing.assert_close(net(x), expected)


def test_checkpoints_of_each_stage_load_after_two_swaps() -> None:
    net, x = pair(), images()
    first = {key: value.clone() for key, value in net.state_dict().items()}
    normlab.swap_norms(net, "dyt", x)
    second = {key: value.clone() for key, value in net.state_dict().items()}
    normlab.swap_norms(net, "group", x, groups=2)
    third = {key: value.clone() for key, value in net.state_dict().items()}
    for state in (first, second, third):
        with torch.no_grad():
            net[1].gain.zero_()
        net.load_state_dict(dict(state))
        torch.testing.assert_close(net[1].gain, first["1.weight"])


def test_a_checkpoint_from_after_the_swap_keeps_what_the_swap_added() -> None:
    net, x = pair(), images()
    normlab.swap_norms(net, "group", x, groups=2)
    normlab.swap_norms(net, "dyt", x)  # whose gain and bias have the names of those before
    state = {key: value + 1 for key, value in net.state_dict().items()}
    net.load_state_dict(dict(state))
    assert float(net[1].alpha) == float(state["1.alpha"]) == 1.5


def test_a_checkpoint_loads_at_a_site_that_had_no_values() -> None:
    net = pair(nn.GroupNorm(2, 8, affine=False))
    old = net.state_dict()
    normlab.swap_norms(net, "dyt", images())
    net.load_state_dict(old)


def test_parameters_of_a_swap_in_inference_mode_can_be_trained() -> None:
    net, x = pair(), images()
    with torch.inference_mode():
        normlab.swap_norms(net, "dyt", x)
    net(x).sum().backward()
    assert net[1].alpha.grad is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_rms_norm_without_eps_has_that_of_torch(dtype: torch.dtype) -> None:
    net, x = nn.Sequential(nn.RMSNorm(8)).to(dtype), (1e-4 * torch.randn(4, 8)).to(dtype)
    expected = net(x)
    normlab.swap_norms(net, "rms", x)
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize(("call", "message"), [
    ({"only": 1}, "only=1 must be a pattern"),
    ({"eps": torch.ones(2)}, "a value of a config is expected, not a Tensor"),
    ({"also": {"X": "rms"}}, "'X' is not a class of modules"), ({"also": [nn.Linear]}, "must map classes"),
    ({"also": {nn.Linear: "rmss"}}, "no norm 'rmss'. Did you mean 'rms'"),
    ({"also": {nn.Conv2d: "rms"}, "only": "0"}, "it has 8 channels, which axis -1 of its input"),
    ({"example": None}, r"Sequential does not accept the example: TypeError: [^\n]*$"),
])  # fmt: skip
def test_what_is_mistyped_is_said_in_one_line(call: dict[str, Any], message: str) -> None:
    net = pair()
    with pytest.raises(InputError, match=message):
        normlab.swap_norms(net, "layer", **{"example": images(), **call})
    assert isinstance(net[1], nn.BatchNorm2d)


def test_a_site_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match="'2' is no norm site: 1"):
        normlab.norm_sites(pair(), images())["2"]


@pytest.mark.parametrize("batches", [[], [images(), images()[0]], [(images(), images())]])
def test_a_failed_recalibration_leaves_the_statistics(batches: list[Any]) -> None:
    net = pair()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(InputError, match=r"at least one batch|does not accept a batch"):
        normlab.recalibrate(net, batches)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert net[1].momentum == 0.1


def test_recalibration_leaves_a_norm_that_no_batch_reaches() -> None:
    net = nn.ModuleList([pair(), pair()])
    before = net[1][1].running_mean.clone()
    normlab.recalibrate(net, [lambda net: net[0](images())])
    assert torch.equal(net[1][1].running_mean, before)


def test_damage_takes_any_iterable_of_batches_but_an_empty_one() -> None:
    def loss(net: nn.Module, batch: Tensor) -> Tensor:
        return net(batch).square().mean()

    batches = [images(), images(3)]
    of_list, of_iterator = (normlab.damage(pair(), "batch", images(), b, loss) for b in (batches, iter(batches)))
    assert of_list == of_iterator
    with pytest.raises(InputError, match="at least one batch"):
        normlab.damage(pair(), "batch", images(), [], loss)
    with pytest.raises(InputError, match="no option carry"):
        normlab.damage(pair(), "batch", images(), batches, loss, carry=True)


class Pooled(nn.Module):
    """One layer norm of all steps, and of their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.norm(x).mean(1))
        return y


class Mean(nn.Module):
    """One norm of images, and of their mean, which has more values."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, 8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.norm(x).mean((2, 3), keepdim=True).repeat(16, 1, 1, 1))
        return y


@pytest.mark.parametrize(("net", "x"), [(Pooled(), torch.randn(4, 5, 8)), (Mean(), images())])
def test_a_single_value_in_any_call_is_refused(net: nn.Module, x: Tensor) -> None:
    with pytest.raises(InputError, match="a single value"):
        normlab.swap_norms(net, "instance", x)


class TimeFirst(nn.Module):
    """torch's Transformer layer with time steps first, behind batches with examples first."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x.transpose(0, 1)).transpose(0, 1)
        return y


@pytest.mark.parametrize("example", [lambda x: x, lambda x: (x,), lambda x: {"x": x}])
def test_as_many_steps_as_examples_are_no_examples(example: Any) -> None:
    net, x = TimeFirst(), torch.randn(5, 5, 8)
    assert {site.layout for site in normlab.norm_sites(net, example(x))} == {"TBC"}
    normlab.swap_norms(net, "instance", example(x))
    other = torch.cat([torch.randn(1, 5, 8), x[1:]])
    torch.testing.assert_close(net(other)[1:], net(x)[1:])  # or examples would be normalised with each other


@pytest.mark.parametrize("carry", [True, False])
@pytest.mark.parametrize("norm", ["layer", "dyt", "scale", "grn"])
def test_a_frozen_norm_is_replaced_by_a_frozen_one(norm: str, carry: bool) -> None:
    net = pair().requires_grad_(False)
    normlab.swap_norms(net, norm, images(), carry=carry)
    assert not any(value.requires_grad for value in net.parameters())


@pytest.mark.parametrize(("norm", "carry", "new"), [
    ("layer", True, None), ("dyt", True, "alpha"), ("layer", False, "gain, bias"),
])  # fmt: skip
def test_parameters_that_an_earlier_optimiser_does_not_train_are_named(norm: str, carry: bool, new: str | None) -> None:
    notes = normlab.swap_norms(pair(), norm, images(), carry=carry).notes
    said = f"new parameters ({new}): an optimiser built before the swap doesn't train them"
    assert notes == ((said,) if new else ())


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_an_empty_batch_is_refused(norm: str) -> None:
    with pytest.raises(InputError, match="the batch is empty"):
        normlab.swap_norms(pair(), norm, images(0))


def test_what_is_no_network_is_said() -> None:
    with pytest.raises(InputError, match="the network must be"):
        normlab.norm_sites(nn.BatchNorm1d, images())  # type: ignore[arg-type]


def test_a_path_with_brackets_names_itself() -> None:
    net = nn.Sequential(nn.Sequential())
    net[0].add_module("[a]", nn.BatchNorm2d(8))
    assert len(normlab.swap_norms(net, "layer", images(), only="0.[a]").done) == 1
