"""Swapping the norms of any network: what is kept, what keeps working, and what is refused with nothing changed."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hydra.utils import get_class
from torch import Tensor, nn

import normlab
from norm_sites import config
from normlab.config.schema import InputError
from normlab.norms.base import Norm
from normlab.norms.layer import LayerNorm
from normlab.sites.options import names
from plain_nets import NETS, trained
from slowly import some

# regularized_batch adds terms to the loss, and is refused: tests/unit/test_regularized_batch.py
NORMS = [(norm, name) for norm in names() if norm != "regularized_batch" for name in NETS]
VALID = {"group": {"groups": 2}}


LAYOUTS = {"resnet": {"BCHW", "BC"}, "transformer": {"BTC"}, "volumes": {"BCDHW", "BCL", "BC"}}


def legal(norm: str, name: str) -> bool:
    odd = norm == "group" and name == "volumes"  # whose last site has 3 channels
    return set(get_class(config(norm)._target_).layouts) >= LAYOUTS[name] and not odd


def step(net: nn.Module, x: Tensor) -> None:
    net.train()
    loss = net(x).square().mean()
    loss.backward()
    for path, value in net.named_parameters():
        assert value.grad is None or value.grad.isfinite().all(), path
    torch.optim.SGD(net.parameters(), 0.01).step()
    assert net.eval()(x).isfinite().all()


@pytest.mark.parametrize(("norm", "name"), some([case for case in NORMS if legal(*case)], every=5))
def test_every_norm_trains_in_every_network(norm: str, name: str) -> None:
    net, x = trained(name)
    report = normlab.swap_norms(net, norm, x, **VALID.get(norm, {}))
    assert len(report.done) == report.total == NETS[name][2]
    assert all(isinstance(m, Norm) or not type(m).__module__.startswith("torch.nn.modules.norm") for m in net.modules())
    step(net, x)
    assert max(map(len, str(report).splitlines())) <= 100


def outputs(net: nn.Module, x: Tensor) -> list[Tensor]:
    """In training, gradients, what it then does in eval mode."""
    torch.manual_seed(0)
    y = net.train()(x)
    y.square().mean().backward()
    layers = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Embedding)]
    return [y, net.eval()(x), *(layer.weight.grad for layer in layers)]


@pytest.mark.parametrize(("name", "norm", "pattern"), [
    ("resnet", "batch", "*"), ("transformer", "layer", "*norm[12]"), ("transformer", "rms", "*norm"),
    ("volumes", "batch", "signal.1"), ("volumes", "group", "first.1"), ("volumes", "instance", "down.1"),
    ("volumes", "layer_channel", "signal.3"),
])  # fmt: skip
def test_a_norm_in_its_own_place_changes_nothing(name: str, norm: str, pattern: str) -> None:
    (net, x), (swapped, _) = trained(name), trained(name)
    report = normlab.swap_norms(swapped, norm, x, only=pattern)
    assert all(site.site.norm == norm for site in report if norm != "rms" or "norm1" not in site.site.path)
    chosen = [site for site in report if site.site.norm == norm]
    assert chosen
    if len(chosen) == len(report.done):
        for ours, theirs in zip(outputs(swapped, x), outputs(net, x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_batch_norm_in_place_of_batch_norm_is_bit_equal() -> None:
    (net, x), (swapped, _) = trained("resnet"), trained("resnet")
    normlab.swap_norms(swapped, "batch", x)
    for ours, theirs in zip(outputs(swapped, x), outputs(net, x), strict=True):
        assert torch.equal(ours, theirs)


def test_the_frozen_map_is_batch_norm_in_eval_mode() -> None:
    (net, x), (frozen, _) = trained("resnet"), trained("resnet")
    report = normlab.swap_norms(frozen, "frozen", x)
    assert len(report.done) == 4
    expected = net.eval()(x)
    for training in (False, True):
        torch.testing.assert_close(frozen.train(training)(x), expected, rtol=1e-5, atol=1e-5)
    step(frozen, x)
    with pytest.raises(InputError, match="layer norm is not a fixed map"):
        normlab.swap_norms(trained("transformer")[0], "frozen", NETS["transformer"][1])


def test_the_parameters_stay_the_same_objects_so_that_an_optimiser_goes_on() -> None:
    net, x = trained("resnet")
    gain, optimiser = net.head_norm.weight, torch.optim.SGD(net.parameters(), 0.1)
    net.head_norm.bias.requires_grad_(False)
    normlab.swap_norms(net, "layer", x)
    assert net.head_norm.gain is gain
    assert not net.head_norm.bias.requires_grad
    before = gain.detach().clone()
    net(x).square().mean().backward()
    optimiser.step()
    assert not torch.equal(before, gain)


def test_values_that_are_stored_otherwise_are_carried() -> None:
    net, x = trained("transformer")
    expected = 1 + net.norm.weight.detach()
    normlab.swap_norms(net, "rms", x)
    assert torch.equal(net.norm.gain, expected)
    volumes, x = trained("volumes")
    gamma = volumes.signal[3].gamma.detach().flatten()
    normlab.swap_norms(volumes, "layer_channel", x, only="signal.3")
    assert torch.equal(volumes.signal[3].gain, gamma)


def test_a_site_without_gain_or_bias_gets_none_that_learns() -> None:
    net, x = trained("volumes")
    normlab.swap_norms(net, "layer", x)
    assert not net.down[1].gain.requires_grad
    assert net.down[1].bias is None


def test_a_gain_that_means_something_else_is_not_carried() -> None:
    """The gain of global response norm starts at 0, where the norm is the identity; a trained one is lost."""
    net, x = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), torch.randn(2, 1, 6, 6)
    same = net[0](x)
    normlab.swap_norms(net, "grn", x)
    torch.testing.assert_close(net(x), same)
    nn.init.constant_((net := nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)))[1].weight, 3.0)
    report = normlab.swap_norms(net, "grn", x)
    assert "gain" in report.done[0].lost


def test_options_that_are_not_given_stay() -> None:
    net, x = trained("transformer")
    normlab.swap_norms(net, "layer", x, only="layers.0*")
    assert net.layers[0].norm1.eps == 1e-6
    normlab.swap_norms(net, "layer", x, only="layers.1*", eps=1e-3)
    assert net.layers[1].norm1.eps == 1e-3


def test_a_shared_module_is_replaced_by_one() -> None:
    net, x = trained("volumes")
    normlab.swap_norms(net, "layer", x)
    assert net.first[1] is net.second[1]
    assert isinstance(net.first[1], LayerNorm)


def test_tied_parameters_stay_tied() -> None:
    net = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.LayerNorm(8))
    net[2].weight = net[0].weight
    normlab.swap_norms(net, "rms", torch.randn(4, 8))
    assert net[2].gain is net[0].gain


@pytest.mark.parametrize("name", some(NETS))
def test_copies_pickles_and_checkpoints(name: str) -> None:
    (net, x), (other, _) = trained(name), trained(name)
    normlab.swap_norms(net, "rms", x)
    step(net, x)
    expected = net(x)
    assert torch.equal(copy.deepcopy(net)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(net))(x), expected)
    normlab.swap_norms(other, "rms", x)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.eval()(x), expected)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_checkpoint_from_before_the_swap_loads_afterwards(momentum: float | None) -> None:
    net, x = trained("resnet")
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.momentum = momentum
    net.train()(x)
    for norm in ("batch", "layer"):
        fresh = NETS["resnet"][0]()
        for module in fresh.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = momentum
        normlab.swap_norms(fresh, norm, x)
        fresh.load_state_dict(net.state_dict())
        if norm == "batch":
            assert torch.equal(fresh.eval()(x), copy.deepcopy(net).eval()(x))
        assert torch.equal(fresh.head_norm.gain, net.head_norm.weight)
    transformer, tokens = trained("transformer")
    old = transformer.state_dict()
    normlab.swap_norms(transformer, "layer", tokens, only="layers*")
    transformer.load_state_dict(old)
    transformer, tokens = trained("transformer")
    normlab.swap_norms(transformer, "layer", tokens)  # the last one stores its gain minus 1
    with pytest.raises(RuntimeError, match=r"norm\.gain"):
        transformer.load_state_dict(old)


@pytest.mark.slow
def test_compiles_to_one_graph() -> None:
    net, x = trained("volumes")
    normlab.swap_norms(net, "layer_channel", x)
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), net(x))


def test_wrappers_are_looked_into() -> None:
    net, x = trained("resnet")
    wrapped = nn.DataParallel(net)
    report = normlab.swap_norms(wrapped, "layer", x, only="layer1*")
    assert [site.site.path for site in report] == ["layer1.0.bn1", "layer1.0.bn2"]
    assert torch.equal(wrapped(x), net(x))


def test_dtype_device_and_mode_stay() -> None:
    net, x = trained("resnet")
    net.bfloat16().eval()
    net.layer1.train()
    normlab.swap_norms(net, "batch", x.bfloat16())
    assert {v.dtype for v in net.state_dict().values() if v.is_floating_point()} == {torch.bfloat16}
    assert (net.head_norm.training, net.layer1[0].bn1.training) == (False, True)
    with torch.device("meta"):
        normlab.swap_norms(net, "layer", x.bfloat16())
    assert {value.device.type for value in net.parameters()} == {"cpu"}


@pytest.mark.parametrize("norm", some(["dyt", "rms", "none"]))
def test_torchs_transformer_does_not_compute_layer_norm_in_its_place(norm: str) -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
    net, x = nn.TransformerEncoder(layer, 2), torch.randn(3, 5, 16)
    normlab.swap_norms(net, norm, x)
    padding = torch.zeros(3, 5, dtype=torch.bool)
    expected = net.train()(x, src_key_padding_mask=padding)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(x, src_key_padding_mask=padding), expected)


class Double(nn.Module):
    """Uses what goes into its norm once more."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.norm(x)) + x


def test_no_norm_lets_no_activation_change_its_input() -> None:
    net, x = Double(), torch.randn(4, 8)
    normlab.swap_norms(net, "none", x)
    torch.testing.assert_close(net(x.clone()), x.relu() + x)


def test_sequences_with_time_first_are_normalised_as_such() -> None:
    net = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)
    x = torch.randn(4, 5, 8)

    def call(net: nn.Module) -> Tensor:
        return net(x.transpose(0, 1)).transpose(0, 1)

    site = normlab.norm_sites(net, call)["norm1"]
    assert site.layout == "BTC"  # a function doesn't show which axis the batch is
    wrapped = nn.Sequential(nn.Identity(), TimeFirst(net))
    normlab.swap_norms(wrapped, "instance", x)
    norm = wrapped[1].inner.norm1
    y = norm(x.transpose(0, 1))
    torch.testing.assert_close(y.mean(0), torch.zeros(4, 8), atol=1e-5, rtol=0)


class TimeFirst(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.transpose(0, 1)).transpose(0, 1)


def test_a_norm_of_ones_own_and_a_second_swap() -> None:
    net, x = trained("transformer")
    normlab.swap_norms(net, LayerNorm, x, eps=1e-3)
    normlab.swap_norms(net, "rms", x)
    assert len(normlab.norm_sites(net, x).swappable) == 7
    step(net, x)


REFUSED: list[tuple[str, Any, dict[str, Any], str]] = [
    ("resnet", "group", {"groups": 3}, r"stem\.1 \(BatchNorm2d at BCHW, 8 channels\): .*divide .*groups=1, 2, 4\."),
    ("resnet", "group", {"groups": 8}, r"head_norm .*one value per group.*groups=1, 2, 4\. Nothing was replaced"),
    ("resnet", "instance", {}, r"head_norm .*not valid at a BC site.*use norm=layer"),
    ("resnet", "batch", {"nbs": 1}, r"head_norm .*nbs=1 leaves one value"),
    ("transformer", "layr", {}, r"there is no norm 'layr'. Did you mean 'layer'\? Norms: .*batch"),
    ("transformer", "group", {"grups": 2}, r"no option norm.grups. Did you mean norm.groups\?"),
    ("transformer", "group", {"groups": 2.5}, r"norm.groups=2.5: input should be a valid integer"),
    ("transformer", 3, {}, r"norm=3 is neither"),
    ("transformer", "layer", {"only": "block*"}, r"only='block\*' names none of the norms: layers.0.norm1, "),
    ("volumes", "frozen", {"eps": 1.0}, r"no options, such as eps"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "norm", "options", "message"), REFUSED)
def test_what_is_refused_changes_nothing(name: str, norm: Any, options: dict[str, Any], message: str) -> None:
    net, x = trained(name)
    before = [(path, id(module)) for path, module in net.named_modules()]
    with pytest.raises(InputError, match=message):
        normlab.swap_norms(net, norm, x, **options)
    assert [(path, id(module)) for path, module in net.named_modules()] == before


@pytest.mark.parametrize(("net", "x", "norm", "message"), [
    (nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)), torch.randn(1, 8), "batch", "at least 2 examples"),
    (nn.Sequential(nn.AvgPool2d(2), nn.BatchNorm2d(3)), torch.randn(4, 3, 2, 2), "instance", "H=1, W=1.*norm=layer"),
    (nn.Sequential(nn.BatchNorm2d(1)), torch.randn(4, 1, 2, 2), "layer_channel", "1 of 1 channels.*only="),
    (nn.Sequential(nn.Linear(8, 8)), torch.randn(4, 8), "layer", "no norm that could be swapped"),
    (nn.LayerNorm(8), torch.randn(4, 8), "layer", "LayerNorm can't be replaced: it is the network itself"),
])  # fmt: skip
def test_what_has_no_statistics_is_refused(net: nn.Module, x: Tensor, norm: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        normlab.swap_norms(net, norm, x)


@pytest.mark.parametrize(("norm", "said"), [
    ("batch_renorm", "batch_renorm has a schedule in training passes (r_steps=..., d_steps=...): choose it"),
    ("frozen_batch", "frozen_batch has a schedule in training passes (after=...)"),
    ("evo_s", "evo_s contains an activation: in its paper no other one follows"),
    ("layer", None),
])  # fmt: skip
def test_the_report_says_what_only_the_user_knows(norm: str, said: str | None) -> None:
    net = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.BatchNorm2d(8))
    notes = normlab.swap_norms(net, norm, torch.randn(4, 8, 2, 2)).notes
    notes = tuple(note for note in notes if not note.startswith(("running", "new parameters")))
    assert [note[: len(said or "")] for note in notes] == ([said] if said else [])


def test_the_report_says_what_is_lost_and_left() -> None:
    net, x = trained("resnet")
    text = str(normlab.swap_norms(net, "rms", x, only="stem*"))
    assert "without bias, running statistics" in text
    assert "1 of 4 sites swapped" in text
    assert "3 other sites stay as they are" in text
    net, x = trained("transformer")
    text = " ".join(str(normlab.swap_norms(net, "batch", x)).split())
    assert "running statistics are 0 and 1 until training, or recalibrate" in text
    assert "not for a network that predicts the next token" in text
    assert "running statistics are" not in str(normlab.swap_norms(*trained_with("resnet", "batch")))


def trained_with(name: str, norm: str) -> tuple[nn.Module, str, Tensor]:
    net, x = trained(name)
    return net, norm, x


def test_recalibrated_statistics_are_those_of_all_batches() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Dropout(), nn.BatchNorm1d(8)).train()
    batches = list(torch.randn(3, 16, 4).unbind())
    normlab.swap_norms(net, "batch", batches[0], only="1")
    assert normlab.recalibrate(net, batches) == 2
    hidden = net[0](torch.cat(batches))
    torch.testing.assert_close(net[1].running_mean, hidden.mean(0))
    torch.testing.assert_close(net[1].running_var, hidden.var(0))
    normalised = [net.eval()[1].train()(net[0](batch)) for batch in batches]
    torch.testing.assert_close(
        net[3].running_mean, torch.stack([y.mean(0) for y in normalised]).mean(0), atol=1e-6, rtol=1e-4
    )
    assert net[3].momentum == 0.1
    with pytest.raises(InputError, match="at least one batch"):
        normlab.recalibrate(net, [])


def test_damage_is_measured_on_copies() -> None:
    net, x = trained("resnet")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    batches = [x, x + 1]

    def loss(net: nn.Module, batch: Tensor) -> Tensor:
        return net(batch).square().mean()

    damage = normlab.damage(net, "batch", x, batches, loss, momentum=0.5)
    assert damage.before == pytest.approx(damage.swapped)
    assert damage.recalibrated != pytest.approx(damage.fresh)
    assert normlab.damage(net, "layer", x, batches, loss).recalibrated is None
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert net.training
    assert "fresh gains" in str(damage)
