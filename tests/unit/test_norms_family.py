"""Norms beyond the textbook's: public implementations, gradients with constant parts, schedules and hard inputs."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from norm_sites import BATCH, CASES, NORMS, SITES, Site, apply, build, config, home, legal, some_norms
from normlab.config.schema import InputError
from normlab.models.build import factory
from normlab.norms.precise import refresh_statistics
from slowly import some

BC, BCHW, BTC, RECURRENT, _ = SITES
EXACT = {"rtol": 1e-12, "atol": 1e-12}
PUBLIC = json.loads((Path(__file__).parents[1] / "golden" / "public_norms.json").read_text(encoding="utf-8"))


def public_input() -> tuple[Tensor, dict[str, Tensor]]:
    """The input [2, 4, 2, 2] and the parameters with which the public numbers were computed."""
    places, channel = torch.arange(32).double().view(2, 4, 2, 2), torch.arange(4).double()
    parameters = {
        "gain": 1 + 0.1 * channel,
        "bias": 0.05 * channel,
        "v": 0.5 + 0.1 * channel,
        "tau": -0.3 + 0.05 * channel,
    }
    return 2 * torch.sin(1.7 * places) + 0.5, parameters


@pytest.mark.parametrize(("name", "options"), [("evo_b", {}), ("evo_s", {"groups": 2}), ("frn", {}), ("grn", {})])
def test_equals_a_public_implementation(name: str, options: dict) -> None:
    x, parameters = public_input()
    norm = factory({**config(name), **options})(4, "BCHW").double()
    with torch.no_grad():
        for key, parameter in norm.named_parameters():
            parameter.copy_(parameters[key])
    torch.testing.assert_close(norm(x).flatten(), torch.tensor(PUBLIC[name]).double(), rtol=1e-5, atol=2e-6)
    if f"{name}_eval" in PUBLIC:  # after that one step in training
        expected = torch.tensor(PUBLIC[f"{name}_eval"]).double()
        torch.testing.assert_close(norm.eval()(x).flatten(), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("site", [BC, BTC, RECURRENT], ids=lambda site: site.name)
def test_vectors_of_a_fixed_length_are_those_of_torch_normalize(site: Site) -> None:
    x = site.input()
    unit = functional.normalize(x, dim=-1)
    for name, length in (("simple_rms", 4.0), ("unit", 4.0), ("scale", None)):
        norm = build(name, site, eps=1e-14)
        expected = unit * (norm.length if length is None else length)
        torch.testing.assert_close(norm(x), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(build("unit", site, k=0.5, eps=1e-14)(x), 2 * unit, rtol=1e-10, atol=1e-10)


def test_scale_norm_starts_as_rms_norm_and_honours_the_initial_gain() -> None:
    x = BTC.input()
    for gain, parts in ((None, 1), (0.3, 4)):
        norm = factory(config("scale"))(16, "BTC", parts=parts, gain_init=gain).double()
        rms = build("simple_rms", BTC, parts=parts)
        torch.testing.assert_close(norm(x), rms(x) * (gain or 1.0), rtol=1e-6, atol=1e-6)


def test_seednorm_starts_as_rms_norm() -> None:
    x = BTC.input()
    torch.testing.assert_close(
        factory(config("seed"))(16, "BTC").double()(x), factory(config("rms"))(16, "BTC").double()(x), **EXACT
    )


def test_global_response_norm_starts_as_the_identity() -> None:
    x = BCHW.input()
    assert torch.equal(factory(config("grn"))(16, "BCHW").double()(x), x)


@pytest.mark.parametrize("site", [BC, BCHW, BTC], ids=lambda site: site.name)
@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
def test_adanorm_has_the_gradient_of_a_constant_factor(site: Site, masked: bool) -> None:
    mask = site.mask() if masked else None
    x, other = (site.input().requires_grad_() for _ in range(2))
    weight = site.input(3)
    y = apply(build("ada", site, scale=2.0, k=0.3), site, x, mask)
    (gradient,) = torch.autograd.grad((y * weight).sum(), x)
    plain = factory(config("layer"))(site.channels, site.layout).double()
    z = apply(plain, site, other, mask)
    factor = 2.0 * (1 - 0.3 * z.detach())
    torch.testing.assert_close(y, factor * z, rtol=1e-10, atol=1e-10)
    (expected,) = torch.autograd.grad((factor * z * weight).sum(), other)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("site", [BC, BCHW, BTC, RECURRENT], ids=lambda site: site.name)
@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
def test_batch_renorm_has_the_gradient_of_constant_corrections(site: Site, masked: bool) -> None:
    """y = r · batch norm + d, so its gradient is r times batch norm's, with r = σ/σ' within the limits."""
    norm = build("batch_renorm", site, r_max=1.5, d_max=0.2)
    norm.passes.fill_(10**6)
    batch = build("batch", site)
    batch.load_state_dict({key: value for key, value in norm.state_dict().items() if key != "passes"})
    mask = site.mask() if masked else None
    x, other, weight = site.input().requires_grad_(), site.input().requires_grad_(), site.input(3)
    real = torch.ones(site.places).bool() if mask is None else mask
    running = torch.sqrt(batch.running_var + 1e-5)
    if site is RECURRENT:
        steps = [x.detach()[:, t][real[:, t]] for t in range(5)]
        var = torch.stack([step.var(0, correction=0) for step in steps])
    else:
        var = (x.detach().movedim(1, -1) if site is BCHW else x.detach())[real].var(0, correction=0)
    r = (torch.sqrt(var + 1e-5) / running).clamp(1 / 1.5, 1.5)
    r = r.view(-1, 1, 1) if site is BCHW else r
    (apply(norm, site, x, mask) * weight).sum().backward()
    (apply(batch, site, other, mask) * weight * r).sum().backward()
    torch.testing.assert_close(x.grad, other.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("site", [c[1] for c in CASES if c[0] == "batch_renorm"], ids=lambda site: site.name)
@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("name", some(["batch_renorm", "frozen_batch"], every=2))
def test_at_first_they_are_batch_norm(name: str, site: Site, masked: bool) -> None:
    norm = build(name, site, momentum=0.1)
    batch = build("batch", site)
    for seed in range(2):
        x, mask = site.input(seed), site.mask(seed) if masked else None
        torch.testing.assert_close(apply(norm, site, x, mask), apply(batch, site, x, mask), **EXACT)
    for key, buffer in batch.named_buffers():
        torch.testing.assert_close(dict(norm.named_buffers())[key], buffer, **EXACT, msg=key)
    torch.testing.assert_close(apply(norm.eval(), site, x), apply(batch.eval(), site, x), **EXACT)


def test_the_limits_grow_as_the_paper_says() -> None:
    """1 and 0 for 5,000 steps, then linearly to 3 at 40,000 and to 5 at 25,000 steps (section 3)."""
    norm = build("batch_renorm", BC, warmup=5000, r_steps=40_000, d_steps=25_000)
    passed = torch.tensor([0.0, 5000, 15_000, 22_500, 25_000, 40_000, 90_000]).double()
    r, d = (norm.limit(passed, *limit) for limit in norm.limits)
    assert r.tolist() == pytest.approx([1, 1, 1 + 2 * 10 / 35, 2, 1 + 2 * 20 / 35, 3, 3])
    assert d.tolist() == pytest.approx([0, 0, 2.5, 4.375, 5, 5, 5])
    with pytest.raises(InputError, match="neither can be less"):
        build("batch_renorm", BC, warmup=300)


@pytest.mark.parametrize("site", [BC, BTC, RECURRENT], ids=lambda site: site.name)
def test_passes_are_counted_in_training_where_there_are_statistics(site: Site) -> None:
    norm = build("batch_renorm", site)
    apply(norm, site, site.input())
    apply(norm.eval(), site, site.input())
    assert norm.passes.unique().tolist() == [1]
    if site is RECURRENT:
        mask = torch.ones(site.places).bool()
        mask[1:, 3:] = False  # a single sequence reaches the last two steps
        norm.train()(site.input(), mask)
        norm(site.input()[:, 0], None, 0)
        assert norm.passes.flatten().tolist() == [3, 2, 2, 1, 1]
    else:
        norm.train()(site.input()[:1, :1] if site is BTC else site.input()[:1])
        assert norm.passes.tolist() == [1]


@pytest.mark.parametrize("site", [c[1] for c in CASES if c[0] == "frozen_batch"], ids=lambda site: site.name)
def test_frozen_statistics_stay_and_serve_training(site: Site) -> None:
    norm = build("frozen_batch", site, after=2)
    kept: list[Tensor] = []
    for seed in range(4):
        y = apply(norm.train(), site, site.input(seed))
        kept.append(norm.running_mean.clone())
        evaluated = apply(norm.eval(), site, site.input(seed))
        assert torch.allclose(y, evaluated, **EXACT) == (seed >= 2)
    assert not torch.equal(kept[0], kept[1])
    assert torch.equal(kept[1], kept[3])
    theirs = functional.batch_norm  # which in eval mode is torchvision's FrozenBatchNorm2d
    if site is BC:
        mean, var = norm.running_mean, norm.running_var
        expected = theirs(site.input(5), mean, var, norm.gain, norm.bias, training=False, eps=1e-5)
        torch.testing.assert_close(norm.train()(site.input(5)), expected, **EXACT)


def test_never_a_batch_norm_couples_nothing() -> None:
    norm = build("frozen_batch", BTC, after=0)
    assert (norm.couples_examples, norm.couples_positions, norm.pooled) == (False, False, "")
    assert norm.values_per_statistic({"B": 1}) is None
    jacobian = torch.autograd.functional.jacobian(norm, BTC.input()[:2])
    assert not jacobian[0, :, :, 1].any()


def test_switchable_norm_can_be_each_of_the_three() -> None:
    x = BCHW.input()
    for chosen, name in enumerate(("instance", "layer", "batch")):
        norm = build("switchable", BCHW)
        with torch.no_grad():
            for weight in (norm.mean_weight, norm.var_weight):
                weight.copy_(torch.full((3,), -50.0).index_fill(0, torch.tensor(chosen), 50.0))
        other = build(name, BCHW)
        with torch.no_grad():
            other.gain.copy_(norm.gain)
            other.bias.copy_(norm.bias)
        torch.testing.assert_close(norm(x), other(x), rtol=1e-9, atol=1e-9)


def test_evonorm_refuses_groups_that_do_not_divide() -> None:
    with pytest.raises(InputError, match="does not divide the 16 channels"):
        build("evo_s", BCHW, groups=3)


KERNELS = {"group", "instance", "layer", "layer_channel"}  # PyTorch's give NaN where squares overflow
HARD = {"constant": 3.0, "zero": 0.0, "tiny": 1e-30, "huge": 1e30}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("name", "value"), some(itertools.product(NORMS, HARD), every=3))
def test_hard_inputs_give_no_nan(name: str, value: str, training: bool) -> None:
    """In float32: all alike, or signs that alternate; squares of 1e30 overflow, which may cost accuracy, not more."""
    size = 1e15 if value == "huge" and name in KERNELS else HARD[value]
    for site in (home(name), *([BCHW] if legal(name, BCHW) else [])):
        for signs in (torch.ones(1), torch.tensor([1.0, -1.0])):
            norm = build(name, site).float().train(training)
            count = torch.Size(site.shape).numel()
            x = (size * signs.repeat(count)[:count]).view(site.shape).requires_grad_()
            y = apply(norm, site, x)
            y.sum().backward()
            assert not y.isnan().any()
            assert not x.grad.isnan().any()
            if value != "huge":
                assert y.isfinite().all()
                assert all(p.grad.isfinite().all() for p in norm.parameters())


@pytest.mark.parametrize("name", some(NORMS, every=12))
def test_exports_in_eval_mode(name: str) -> None:
    site = home(name)
    norm = build(name, site).eval()
    arguments = (site.input(), site.mask())
    exported = torch.export.export(norm, arguments)
    torch.testing.assert_close(exported.module()(*arguments), norm(*arguments), **EXACT)


# with a small eps, y stays if all of x is multiplied by one number, or if one number is added to all of x
SAME_SCALED = {
    *("batch", "layer", "layer_channel", "group", "instance", "detached_layer", "switchable", "rms", "simple_rms"),
    *("scale", "unit", "ada", "frn", "evo_b", "regularized_batch"),
}
SAME_SHIFTED = {"batch", "layer", "layer_channel", "group", "instance", "detached_layer", "switchable", "ada"}
SAME_SHIFTED |= {"regularized_batch"}
AS_BATCH = {"batch_renorm", "frozen_batch"}  # at first


@pytest.mark.parametrize("name", some_norms(NORMS))
@given(factor=st.floats(0.1, 10), seed=st.integers(0, 5))
@settings(max_examples=5, deadline=None)
def test_invariances(name: str, factor: float, seed: int) -> None:
    site = home(name)
    x = site.input(seed)
    options = {"eps": 1e-12} if "eps" in config(name) else {}
    y, scaled, shifted = (build(name, site, **options)(v) for v in (x, factor * x, factor + x))
    close = {"rtol": 1e-6, "atol": 1e-6}
    assert torch.allclose(y, scaled, **close) == (name in SAME_SCALED | AS_BATCH or factor == 1)
    assert torch.allclose(y, shifted, **close) == (name in SAME_SHIFTED | AS_BATCH)


@pytest.mark.parametrize("name", sorted(BATCH - {"evo_b", "switchable"}))
def test_step_by_step_is_all_steps_at_once(name: str) -> None:
    one, other = (build(name, RECURRENT) for _ in range(2))
    for seed in range(2):
        x, mask = RECURRENT.input(seed), RECURRENT.mask(seed)
        single = torch.stack([one(x[:, t], mask[:, t], t) for t in range(5)], 1)
        torch.testing.assert_close(single, other(x, mask), **EXACT)
    for ours, theirs in zip(one.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize("name", ["batch_renorm", "evo_b", "switchable"])
def test_precise_statistics_are_those_of_all_batches(name: str) -> None:
    norm = build(name, BCHW, evaluation="precise").eval()
    with refresh_statistics(norm):
        for seed in range(3):
            norm(BCHW.input(seed))
    pixels = torch.cat([BCHW.input(seed).movedim(1, -1).flatten(0, 2) for seed in range(3)])
    torch.testing.assert_close(norm.running_mean, pixels.mean(0), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(norm.running_var, pixels.var(0), rtol=1e-10, atol=1e-10)
