"""Every norm, site, mask and number of parts against a slow float64 formula that pools entry by entry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from norm_formulas import FORMULAS, Case
from norm_sites import CASES, SITES, SPATIAL, Site, apply, build, legal, step_of, tried

EPS = 1e-5
Key = Callable[[int, int, int], tuple]  # (example, place, channel) -> the set of statistics that it belongs to


def pools(name: str, site: Site, parts: int, options: dict[str, Any]) -> Key:
    """DESIGN's table: which entries share statistics."""
    width = site.channels // parts
    if name == "batch":
        chunk = options.get("nbs") or 10**6
        per_position = "recurrent" in site.name or (site.layout == "BTC" and options.get("pool") == "positions")
        return lambda b, p, c: (b // chunk, p if per_position else 0, c)
    if name == "instance":
        return lambda b, p, c: (b, c)
    if name == "group":
        size = width // options.get("groups", 8)
        return lambda b, p, c: (b, 0 if site.layout != "BC" else p, c // size)
    if name == "layer_channel" or not site.channels_first:
        return lambda b, p, c: (b, p, c // width)
    return lambda b, p, c: (b, c // width)


def formula(name: str, norm: Any, site: Site, x: Tensor, mask: Tensor | None, parts: int, **options: Any) -> Tensor:
    """y from loops over single entries; x is brought to [examples, places, channels] first."""
    values = x.movedim(1, -1) if site.channels_first else x
    flat = values.reshape(x.shape[0], -1, site.channels).detach().numpy()
    real = np.ones(flat.shape[:2], bool) if mask is None else mask.reshape(flat.shape[:2]).numpy()
    gain, bias = (p.detach().numpy() if p is not None else q for p, q in ((norm.gain, 1.0), (norm.bias, 0.0)))
    gain, bias = (np.broadcast_to(p, site.channels) for p in (gain, bias))
    y = np.zeros_like(flat)
    if name == "dyt":
        y = gain * np.tanh(norm.alpha.item() * flat) + bias
    if name == "none":
        y = flat.copy()
    if name in FORMULAS:
        recurrent = site.layout == "BC" and site.positions is not None
        per_position = recurrent or (site.layout == "BTC" and options.get("pool") == "positions")
        step = (step_of(site) or 0) if per_position else None
        y = FORMULAS[name](Case(norm, flat, real, parts, site.channels_first, step, options))
    elif name not in ("dyt", "none"):
        key = pools(name, site, parts, options)
        sets = defaultdict(list)
        for b, p, c in product(*map(range, flat.shape)):
            if real[b, p]:
                sets[key(b, p, c)].append(flat[b, p, c])
        for b, p, c in product(*map(range, flat.shape)):
            pool = np.array(sets[key(b, p, c)] or [0.0])
            mean, var = pool.mean(), ((pool - pool.mean()) ** 2).mean()
            if name == "rms":
                mean, var = 0.0, (pool**2).mean()
            if name == "batch" and len(sets[key(b, p, c)]) < 2:
                at = (step_of(site) or p, c) if norm.running_mean.ndim == 2 else c
                mean, var = norm.running_mean[at].item(), norm.running_var[at].item()
            y[b, p, c] = (flat[b, p, c] - mean) / np.sqrt(var + EPS) * gain[c] + bias[c]
    y[~real] = 0
    result = torch.from_numpy(y).reshape(values.shape)
    return result.movedim(-1, 1) if site.channels_first else result


PASSES = 200
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "batch": [
        {},
        {"pool": "positions"},
        {"nbs": 2},
        {"nbs": 3},
        {"nbs": 2, "pool": "positions"},
        {"nbs": 3, "pool": "positions"},
    ],
    "group": [{"groups": 1}, {"groups": 2}],
    "ada": [{}, {"scale": 2.0, "k": 0.3}],
    "batch_renorm": [
        {},
        {"r_max": 1.2, "d_max": 0.1, "r_steps": 100, "d_steps": 100},
        {"warmup": 300, "d_steps": 300},
        {"pool": "positions"},
    ],
    "evo_b": [{}, {"nbs": 2}],
    "evo_s": [{"groups": 4}],
    "frn": [{}, {"threshold": False}],
    "frozen_batch": [{}, {"after": 200}, {"after": 0, "pool": "positions"}],
    "regularized_batch": [{}, {"mean_weight": 2.0, "pool": "positions"}],
    "switchable": [{}, {"nbs": 2}],
    "unit": [{}, {"k": 0.4}],
    "rms": [{}, {"with_bias": True}],
}


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize(("name", "site"), tried(CASES + SPATIAL))
def test_training_equals_the_formula(name: str, site: Site, masked: bool, parts: int) -> None:
    for options in OPTIONS.get(name, [{}]):
        norm = build(name, site, parts=parts, **options)
        if "passes" in dict(norm.named_buffers()):  # in the middle of what they change with training
            norm.passes.fill_(PASSES)
        x, mask = site.input(), site.mask() if masked else None
        expected = formula(name, norm, site, x, mask, parts, **options)
        torch.testing.assert_close(apply(norm, site, x, mask), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["batch", "layer", "group", "instance", "rms"])
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_any_shape_and_mask_equals_the_formula(name: str, data: st.DataObject) -> None:
    layout = data.draw(st.sampled_from(["BC", "BCL", "BCHW", "BCDHW", "BTC"]))
    small = st.integers(1, 4)
    channels = 4 * data.draw(st.integers(1, 2))
    between = [small] * (len(layout) - 2)
    space = [data.draw(size) for size in between]
    batch = data.draw(small)
    shape = (batch, channels, *space) if layout[1] == "C" else (batch, *space, channels)
    site = Site("any", layout, shape, positions=space[0] if layout == "BTC" else None)
    assume(legal(name, site))
    options = {"groups": 2} if name == "group" else {}
    if name == "batch":
        options = {"nbs": data.draw(st.sampled_from([None, 2, 3]))}
    seed = data.draw(st.integers(0, 99))
    mask = None
    if data.draw(st.booleans()):
        mask = torch.rand(site.places, generator=torch.Generator().manual_seed(seed)) < 0.6
    norm, x = build(name, site, **options), site.input(seed)
    expected = formula(name, norm, site, x, mask, 1, **options)
    torch.testing.assert_close(apply(norm, site, x, mask), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("site", SITES, ids=lambda s: s.name)
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
def test_detached_layer_norm_has_the_gradient_of_constant_statistics(site: Site, parts: int, masked: bool) -> None:
    norm = build("detached_layer", site, parts=parts)
    mask = site.mask() if masked else None
    x = site.input().requires_grad_()
    y = apply(norm, site, x, mask)
    torch.testing.assert_close(y, apply(build("layer", site, parts=parts), site, x, mask), rtol=1e-11, atol=1e-11)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    # with μ and σ constant, y is linear in x: its slope is y's difference between two inputs with the same statistics
    blocks = x.detach().movedim(1, -1) if site.channels_first else x.detach()
    real = torch.ones(site.places).bool() if mask is None else mask
    wide = blocks.unflatten(-1, (parts, -1))
    if site.layout == "BCHW":
        var = torch.stack([wide[i][real[i]].var((0, 2), correction=0) for i in range(len(wide))])[:, None, None]
    else:
        var = wide.var(-1, correction=0)
    slope = (torch.rsqrt(var + EPS)[..., None].expand_as(wide).flatten(-2) * norm.gain) * real[..., None]
    expected = slope.movedim(-1, 1) if site.channels_first else slope
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10)
