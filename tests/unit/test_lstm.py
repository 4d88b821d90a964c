"""The plain LSTM against torch.nn.LSTM and against the papers' equations, written out naively in float64.

test_kernels.py holds the fused one equal to it.
"""

from functools import partial
from itertools import product

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from normlab.config.schema import InputError, Sizes
from normlab.models.lstm import LSTM
from normlab.norms.batch import BatchNorm
from normlab.norms.group import GroupNorm
from normlab.norms.instance import InstanceNorm
from normlab.norms.layer import LayerNorm
from normlab.norms.none import NoNorm

B, T, F, H = 6, 5, 3, 4
LENGTHS = torch.tensor([5, 2, 4, 1, 5, 3])
MASK = torch.arange(T) < LENGTHS[:, None]
SEQUENCES = Sizes("features", (T, F), outputs=H, positions=T, causal=True)  # one output a step
CLASSES = Sizes("features", (T, F), outputs=H, positions=T)
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def build(norm, sizes, **options) -> LSTM:
    """A float64 model without its output layer, all its parameters random."""
    torch.manual_seed(0)
    model = LSTM(norm, sizes, width=H, kernel="plain", **options).double()
    model.head = nn.Identity()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def inputs() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(B, T, F, dtype=torch.float64, requires_grad=True)


def gradients(output, wanted):
    weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view(output.shape)
    return torch.autograd.grad((output * weights).sum(), wanted, allow_unused=True)


def in_torch_order(gate_rows: torch.Tensor) -> torch.Tensor:
    """Ours: forget, input, output, candidate. torch: input, forget, candidate, output."""
    f, i, o, g = gate_rows.chunk(4)
    return torch.cat([i, f, g, o])


def torch_twin(model: LSTM) -> nn.LSTM:
    cells = [cell for layer in model.layers for cell in (layer.forwards, layer.backwards) if cell is not None]
    twin = nn.LSTM(F, H, len(model.layers), batch_first=True, bidirectional=model.bidirectional).double()
    with torch.no_grad():
        for cell, names in zip(cells, twin.all_weights, strict=True):
            values = cell.weight_x, cell.weight_h, cell.bias, torch.zeros_like(cell.bias)
            for target, value in zip(names, values, strict=True):
                target.copy_(in_torch_order(value))
    return twin


@pytest.mark.parametrize(("bidirectional", "pooled"), [(False, False), (False, True), (True, True)])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_without_norm_equals_torch(layers, bidirectional, padded, pooled):
    model = build(partial(NoNorm), CLASSES if pooled else SEQUENCES, layers=layers, bidirectional=bidirectional)
    twin, x = torch_twin(model), inputs()
    if padded:
        packed, (last, _) = twin(pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False))
        outputs, _ = pad_packed_sequence(packed, batch_first=True)
        ours = model(x, MASK)
        ours = ours if pooled else torch.where(MASK[..., None], ours, 0.0)
    else:
        outputs, (last, _) = twin(x)
        ours = model(x)
    expected = torch.cat(list(last[-2:] if bidirectional else last[-1:]), -1) if pooled else outputs
    torch.testing.assert_close(ours, expected, **EXACT)

    cells = [cell for layer in model.layers for cell in (layer.forwards, layer.backwards) if cell is not None]
    own = gradients(ours, [x, *(w for cell in cells for w in (cell.weight_x, cell.weight_h, cell.bias))])
    reference = gradients(expected, [x, *(w for names in twin.all_weights for w in names[:3])])
    torch.testing.assert_close(own[0], reference[0], **EXACT)
    for mine, theirs in zip(own[1:], reference[1:], strict=True):
        torch.testing.assert_close(in_torch_order(mine), theirs, **EXACT)


def layer_norm(values: torch.Tensor, gain, bias=0.0, parts=1) -> torch.Tensor:
    """One example's layer norm (Ba et al. 2016, eq. 15-16), each part alone."""
    blocks = []
    for block in values.chunk(parts):
        mean = block.sum() / len(block)
        variance = ((block - mean) ** 2).sum() / len(block)
        blocks.append((block - mean) / torch.sqrt(variance + 1e-5))
    return torch.cat(blocks) * gain + bias


def ba_2016(cell, x: torch.Tensor, parts: int, cell_norm: bool) -> torch.Tensor:
    """Eq. 20-22 for one sequence, with b standing for all three biases."""
    h = c = torch.zeros(H, dtype=x.dtype)
    outputs = []
    for x_t in x:
        gates = layer_norm(cell.weight_h @ h, cell.norm_h.gain, parts=parts)
        gates = gates + layer_norm(cell.weight_x @ x_t, cell.norm_x.gain, parts=parts) + cell.bias
        f, i, o, g = gates[:H], gates[H : 2 * H], gates[2 * H : 3 * H], gates[3 * H :]
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        shown = layer_norm(c, cell.norm_c.gain, cell.norm_c.bias) if cell_norm else c
        h = torch.sigmoid(o) * torch.tanh(shown)
        outputs.append(h)
    return torch.stack(outputs)


@pytest.mark.parametrize(
    ("gates", "cell_norm", "padded"), list(product(["joint", "separate"], [True, False], [False, True]))
)
def test_layer_norm_equals_ba_2016(gates, cell_norm, padded):
    model = build(partial(LayerNorm), SEQUENCES, gates=gates, cell_norm=cell_norm)
    cell, x, parts = model.layers[0].forwards, inputs(), 4 if gates == "separate" else 1
    real = MASK if padded else torch.ones_like(MASK)
    expected = torch.stack([ba_2016(cell, x[b], parts, cell_norm) for b in range(B)])
    expected = torch.where(real[..., None], expected, 0.0)
    ours = torch.where(real[..., None], model(x, MASK if padded else None), 0.0)
    torch.testing.assert_close(ours, expected, **EXACT)
    wanted = [x, *model.parameters()]
    for mine, theirs in zip(gradients(ours, wanted), gradients(expected, wanted), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


class StepStatistics:
    """Cooijmans et al. 2017: statistics of each step of its own, gains shared over time."""

    def __init__(self, channels: int, gain, bias=0.0):
        self.gain, self.bias = gain, bias
        self.mean = torch.zeros(T, channels, dtype=torch.float64)
        self.variance = torch.ones(T, channels, dtype=torch.float64)

    def __call__(self, x: torch.Tensor, t: int, real: torch.Tensor, training: bool) -> torch.Tensor:
        """x [B, C]; padded rows come out as anything."""
        mean, variance, n = self.mean[t], self.variance[t], int(real.sum())
        if training and n > 1:
            mean = x[real].mean(0)
            variance = ((x[real] - mean) ** 2).mean(0)
            self.mean[t] = 0.9 * self.mean[t] + 0.1 * mean.detach()
            self.variance[t] = 0.9 * self.variance[t] + 0.1 * variance.detach() * n / (n - 1)
        return (x - mean) / torch.sqrt(variance + 1e-5) * self.gain + self.bias


def cooijmans_2017(cell, norms, x, real, training):
    h = c = torch.zeros(B, H, dtype=x.dtype)
    outputs = []
    for t in range(T):
        gates = norms["h"](h @ cell.weight_h.T, t, real[:, t], training)
        gates = gates + norms["x"](x[:, t] @ cell.weight_x.T, t, real[:, t], training) + cell.bias
        f, i, o, g = gates.chunk(4, 1)
        new_c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        new_h = torch.sigmoid(o) * torch.tanh(norms["c"](new_c, t, real[:, t], training))
        h = torch.where(real[:, t, None], new_h, h)
        c = torch.where(real[:, t, None], new_c, c)
        outputs.append(h)
    return torch.where(real[..., None], torch.stack(outputs, 1), 0.0)


@pytest.mark.parametrize("padded", [False, True])
def test_batch_norm_equals_cooijmans_2017(padded):
    model = build(partial(BatchNorm), SEQUENCES)
    cell = model.layers[0].forwards
    norms = {
        "h": StepStatistics(4 * H, cell.norm_h.gain),
        "x": StepStatistics(4 * H, cell.norm_x.gain),
        "c": StepStatistics(H, cell.norm_c.gain, cell.norm_c.bias),
    }
    real = MASK if padded else torch.ones_like(MASK)
    for training in (True, True, False):
        model.train(training)
        x = inputs()
        ours = torch.where(real[..., None], model(x, MASK if padded else None), 0.0)
        expected = cooijmans_2017(cell, norms, x, real, training)
        torch.testing.assert_close(ours, expected, **EXACT)
        wanted = [x, *model.parameters()]
        for mine, theirs in zip(gradients(ours, wanted), gradients(expected, wanted), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
    for name, reference in norms.items():
        norm = getattr(cell, f"norm_{name}")
        torch.testing.assert_close(norm.running_mean, reference.mean, **EXACT)
        torch.testing.assert_close(norm.running_var, reference.variance, **EXACT)


def test_batch_norm_begins_with_small_gains_inside_the_cell_only():
    inside = LSTM(partial(BatchNorm), CLASSES, width=H).layers[0].forwards
    for norm in (inside.norm_x, inside.norm_h, inside.norm_c):
        assert torch.equal(norm.gain, torch.full_like(norm.gain, 0.1))
    between = LSTM(partial(BatchNorm), CLASSES, width=H, placement="between").between[0]
    assert torch.equal(between.gain, torch.ones_like(between.gain))


@pytest.mark.parametrize(
    ("placement", "sites"), [("inside", {"norm_x", "norm_h", "norm_c"}), ("input", {"norm_x"}), ("between", set())]
)
def test_placement_decides_where_norms_stand(placement, sites):
    model = LSTM(partial(LayerNorm), CLASSES, width=H, layers=2, bidirectional=True, placement=placement)
    for layer in model.layers:
        for cell in (layer.forwards, layer.backwards):
            assert {name for name in ("norm_x", "norm_h", "norm_c") if getattr(cell, name) is not None} == sites
    assert len(model.between) == (2 if placement == "between" else 0)


@pytest.mark.parametrize(
    ("norm", "placement", "bidirectional", "pooling"),
    list(product([LayerNorm, BatchNorm, GroupNorm], ["inside", "input", "between"], [False, True], ["last", "mean"])),
)
def test_padding_changes_nothing(norm, placement, bidirectional, pooling):
    options = {"groups": 2} if norm is GroupNorm else {}
    model = build(
        partial(norm, **options), CLASSES, layers=2, bidirectional=bidirectional, placement=placement, pooling=pooling
    )
    x = inputs()
    reference = model(x, MASK)
    other = torch.where(MASK[..., None], x, 1e3)
    torch.testing.assert_close(model(other, MASK), reference, **EXACT)
    longer = torch.cat([x, torch.full((B, 2, F), 7.0)], 1).to(x.dtype)
    torch.testing.assert_close(model(longer, nn.functional.pad(MASK, (0, 2))), reference, **EXACT)
    (gradient,) = gradients(reference, [x])
    assert torch.equal(gradient[~MASK], torch.zeros_like(gradient[~MASK]))


@pytest.mark.parametrize("norm", [NoNorm, LayerNorm, BatchNorm])
def test_a_sequence_of_padding_only_gives_no_nan(norm):
    model = build(partial(norm), CLASSES, bidirectional=True)
    mask = MASK.clone()
    mask[0] = False
    output = model(inputs(), mask)
    assert all(gradient.isfinite().all() for gradient in gradients(output, list(model.parameters())))
    assert output.isfinite().all()


def test_initial_values():
    model = LSTM(partial(NoNorm), CLASSES, width=8, recurrent_init="identity")
    f, i, o, g = model.layers[0].forwards.weight_h.chunk(4)
    assert torch.equal(g, torch.eye(8))
    for gate in (f, i, o):
        torch.testing.assert_close(gate @ gate.T, torch.eye(8), rtol=0, atol=1e-5)
    assert model.layers[0].forwards.bias.tolist() == [1.0] * 8 + [0.0] * 24
    uniform = LSTM(partial(NoNorm), CLASSES, width=16, recurrent_init="uniform").layers[0].forwards.weight_h
    assert 0.2 < uniform.abs().max() <= 0.25


def test_state_noise_moves_the_training_outputs_only():
    model = build(partial(LayerNorm), CLASSES, state_noise=0.1)
    x = inputs()
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_refuses_to_look_ahead():
    with pytest.raises(InputError, match="bidirectional=false"):
        LSTM(partial(NoNorm), SEQUENCES, bidirectional=True)


def test_refuses_a_norm_without_meaning_at_a_recurrent_site():
    with pytest.raises(InputError, match="instance"):
        LSTM(partial(InstanceNorm), CLASSES)


@pytest.mark.parametrize("causal", [True, False])
def test_tokens(causal):
    sizes = Sizes("tokens", (T,), outputs=9, vocabulary=9, positions=T, causal=causal)
    logits = LSTM(partial(LayerNorm), sizes, width=H, dropout=0.5)(torch.randint(9, (B, T)), MASK)
    assert logits.shape == ((B, T, 9) if causal else (B, 9))
