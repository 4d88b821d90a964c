"""The GRU against torch.nn.GRU and against the papers' equations, written out naively in float64."""

from __future__ import annotations

from functools import partial
from itertools import product

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from normlab.config.schema import InputError, Sizes
from normlab.models.gru import GRU
from normlab.norms.batch import BatchNorm
from normlab.norms.instance import InstanceNorm
from normlab.norms.layer import LayerNorm
from normlab.norms.none import NoNorm

B, T, F, H = 6, 5, 3, 4
LENGTHS = torch.tensor([5, 2, 4, 1, 5, 3])
MASK = torch.arange(T) < LENGTHS[:, None]
SEQUENCES = Sizes("features", (T, F), outputs=H, positions=T, causal=True)  # one output a step
CLASSES = Sizes("features", (T, F), outputs=H, positions=T)
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def build(norm, sizes=SEQUENCES, **options) -> GRU:
    """A float64 model without its output layer, all its parameters random."""
    torch.manual_seed(0)
    model = GRU(norm, sizes, width=H, **options).double()
    model.head = nn.Identity()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def inputs() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(B, T, F, dtype=torch.float64, requires_grad=True)


def cells_of(model: GRU) -> list[nn.Module]:
    return [cell for layer in model.layers for cell in (layer.forwards, layer.backwards) if cell is not None]


def torch_twin(model: GRU) -> nn.GRU:
    twin = nn.GRU(F, H, len(model.layers), batch_first=True, bidirectional=model.bidirectional).double()
    with torch.no_grad():
        for cell, (weight_x, weight_h, bias_x, bias_h) in zip(cells_of(model), twin.all_weights, strict=True):
            weight_x.copy_(cell.weight_x)
            weight_h.copy_(cell.weight_h)
            bias_x.copy_(cell.bias)
            bias_h.copy_(torch.cat([torch.zeros(2 * H), cell.bias_h]))
    return twin


@pytest.mark.parametrize(("bidirectional", "padded", "layers"), list(product([False, True], [False, True], [1, 2])))
def test_without_norm_equals_torch(bidirectional, padded, layers):
    model = build(partial(NoNorm), CLASSES if bidirectional else SEQUENCES, layers=layers, bidirectional=bidirectional)
    twin, x = torch_twin(model), inputs()
    packed = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False) if padded else x
    outputs, last = twin(packed)
    if bidirectional:
        expected = torch.cat(list(last[-2:]), -1)
        ours = model(x, MASK if padded else None)
    else:
        expected = pad_packed_sequence(outputs, batch_first=True)[0] if padded else outputs
        ours = model(x, MASK if padded else None)
        ours = torch.where(MASK[..., None], ours, 0.0) if padded else ours
    torch.testing.assert_close(ours, expected, **EXACT)
    (one,), (other,) = (torch.autograd.grad(y.square().sum(), [x]) for y in (ours, expected))
    torch.testing.assert_close(one, other, **EXACT)


def normed(x: torch.Tensor, axis: int, parts: int = 1) -> torch.Tensor:
    blocks = x.chunk(parts, -1)
    return torch.cat(
        [(b - b.mean(axis, True)) / torch.sqrt(b.var(axis, False, keepdim=True) + 1e-5) for b in blocks], -1
    )


def naive(cell, x: torch.Tensor, axis: int, parts: int = 1) -> torch.Tensor:
    """Hidden states for whole sequences; statistics over this axis of [B, C], at each step alone."""
    h, outputs = torch.zeros(B, H, dtype=x.dtype), []
    for t in range(T):
        at_x, at_h = x[:, t] @ cell.weight_x.T, h @ cell.weight_h.T
        gates = normed(at_x[:, : 2 * H], axis, parts) * cell.norms_x[0].gain + cell.bias[: 2 * H]
        gates = gates + normed(at_h[:, : 2 * H], axis, parts) * cell.norms_h[0].gain
        r, z = torch.sigmoid(gates).chunk(2, -1)
        within = normed(at_h[:, 2 * H :], axis) * cell.norms_h[1].gain + cell.bias_h
        new = torch.tanh(normed(at_x[:, 2 * H :], axis) * cell.norms_x[1].gain + cell.bias[2 * H :] + r * within)
        h = (1 - z) * new + z * h
        outputs.append(h)
    return torch.stack(outputs, 1)


@pytest.mark.parametrize("gates", ["joint", "separate"])
def test_layer_norm_equals_ba_2016(gates):
    model, x = build(partial(LayerNorm), gates=gates), inputs()
    expected = naive(model.layers[0].forwards, x, axis=-1, parts=2 if gates == "separate" else 1)
    torch.testing.assert_close(model(x), expected, **EXACT)


def test_batch_norm_takes_the_statistics_of_each_step():
    model, x = build(partial(BatchNorm)), inputs()
    torch.testing.assert_close(model(x), naive(model.layers[0].forwards, x, axis=0), **EXACT)
    norm = model.layers[0].forwards.norms_h[0]
    assert norm.running_mean.shape == (T, 2 * H)
    assert len(norm.running_var[1:].unique(dim=0)) == T - 1


def test_gradients_are_right():
    model = build(partial(LayerNorm))
    assert torch.autograd.gradcheck(lambda x: model(x, MASK)[MASK], inputs())


@pytest.mark.parametrize(
    ("norm", "placement", "bidirectional"),
    list(product([LayerNorm, BatchNorm], ["inside", "input", "between"], [0, 1])),
)
def test_padding_changes_nothing(norm, placement, bidirectional):
    model = build(partial(norm), CLASSES, layers=2, bidirectional=bool(bidirectional), placement=placement)
    x = inputs()
    reference = model(x, MASK)
    torch.testing.assert_close(model(torch.where(MASK[..., None], x, 1e3), MASK), reference, **EXACT)
    longer = torch.cat([x, torch.full((B, 2, F), 7.0)], 1).to(x.dtype)
    torch.testing.assert_close(model(longer, nn.functional.pad(MASK, (0, 2))), reference, **EXACT)


def test_refusals():
    with pytest.raises(InputError, match="bidirectional=false"):
        GRU(partial(NoNorm), SEQUENCES, bidirectional=True)
    with pytest.raises(InputError, match="instance"):
        GRU(partial(InstanceNorm), CLASSES)
