"""The contract of every norm: each YAML in conf/norm is tested at every site where it is valid."""

from __future__ import annotations

import inspect

import pytest
import torch
from hydra.utils import get_class, instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from norm_sites import (
    BATCH,
    CASES,
    DETACHED,
    NORMS,
    SITES,
    SPATIAL,
    Site,
    apply,
    build,
    config,
    home,
    legal,
    some_norms,
    step_of,
    tried,
)
from normlab.config.schema import InputError

MODES = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
EVERYWHERE = pytest.mark.parametrize(("name", "site"), tried(CASES + SPATIAL))


@pytest.mark.parametrize("name", NORMS)
def test_yaml_lists_every_option_with_its_default(name: str) -> None:
    listed = dict(config(name))
    options = inspect.signature(get_class(listed.pop("_target_"))).parameters.values()
    assert listed.pop("_partial_") is True
    assert listed == {p.name: p.default for p in options if p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize("name", NORMS)
def test_every_norm_has_its_file_and_says_its_name(name: str) -> None:
    norm = instantiate(config(name))(16, home(name).layout, positions=3)
    assert norm.name == name
    assert config(name)._target_.split(".")[-2] == name


@pytest.mark.parametrize("name", NORMS)
def test_whole_numbers_do_for_real_options(name: str) -> None:
    listed = dict(config(name))
    whole = {key: 1 for key, value in listed.items() if isinstance(value, float) and key != "momentum"}
    norm = instantiate({**listed, **whole})(16, home(name).layout, positions=3, gain_init=2)
    assert all(parameter.is_floating_point() for parameter in norm.parameters())


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("site", SITES, ids=lambda s: s.name)
def test_a_refusal_names_a_norm_that_works(name: str, site: Site) -> None:
    if legal(name, site):
        build(name, site)
        return
    with pytest.raises(InputError, match="not valid") as refusal:
        build(name, site)
    nearest = get_class(config(name)._target_).nearest
    assert f"norm={nearest}" in str(refusal.value)
    assert legal(nearest, site)


@EVERYWHERE
def test_construction_draws_no_random_number(name: str, site: Site) -> None:
    before = torch.get_rng_state()
    build(name, site)
    assert torch.equal(before, torch.get_rng_state())


@EVERYWHERE
def test_parameters_are_vectors_which_weight_decay_spares(name: str, site: Site) -> None:
    assert all(parameter.ndim == 1 for parameter in build(name, site).parameters())
    assert "bias" not in dict(build(name, site, bias=False).named_parameters())


@EVERYWHERE
def test_initial_gain_is_the_one_asked_for(name: str, site: Site) -> None:
    norm = instantiate(config(name))(site.channels, site.layout, positions=site.positions, gain_init=0.3)
    if norm.gain is not None:
        assert torch.equal(norm.gain, torch.full((site.channels,), 0.3))
    default = instantiate(config(name))(site.channels, site.layout, positions=site.positions).gain
    recurrent = site.layout == "BC" and site.positions is not None
    if default is not None:
        own = 0.0 if name == "grn" else 1.0
        expected = config(name).get("recurrent_gain", own) if recurrent else own
        assert torch.equal(default, torch.full((site.channels,), expected))


@MODES
@EVERYWHERE
def test_an_all_true_mask_changes_nothing(name: str, site: Site, training: bool) -> None:
    one, other = (build(name, site).train(training) for _ in range(2))
    x = site.input()
    torch.testing.assert_close(
        apply(one, site, x), apply(other, site, x, torch.ones(site.places).bool()), rtol=1e-12, atol=1e-12
    )
    for (key, ours), theirs in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12, msg=key)


@MODES
@EVERYWHERE
def test_padded_values_change_nothing(name: str, site: Site, training: bool) -> None:
    x, mask = site.input(), site.mask()
    other = torch.where(site.along_channels(mask), x, 1e3 * site.input(seed=1))
    results = []
    for values in (x, other):
        norm = build(name, site).train(training)
        values.requires_grad_()
        y = apply(norm, site, values, mask)
        gradients = torch.autograd.grad((y * site.input(seed=2)).sum(), [values, *norm.parameters()])
        results.append([y, *gradients, *norm.buffers()])
        assert not y[~site.along_channels(mask).expand_as(y)].any()
        assert not gradients[0][~site.along_channels(mask).expand_as(y)].any()
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "site"), tried([c for c in CASES if len(c[1].shape) == 3]))
@given(more=st.integers(1, 4), seed=st.integers(0, 5))
@settings(max_examples=5, deadline=None)
def test_appended_padding_changes_nothing(name: str, site: Site, more: int, seed: int) -> None:
    x, mask = site.input(seed), site.mask(seed)
    longer = torch.cat([x, 9 * torch.ones(x.shape[0], more, x.shape[2]).double()], 1)
    longer_mask = torch.cat([mask, torch.zeros(x.shape[0], more).bool()], 1)
    short, long = build(name, site), build(name, site)
    y, z = short(x, mask), long(longer, longer_mask)
    torch.testing.assert_close(y, z[:, : x.shape[1]], rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(short.buffers(), long.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@MODES
@pytest.mark.parametrize(("name", "site"), tried([case for case in CASES + SPATIAL if case[0] not in DETACHED]))
def test_gradients(name: str, site: Site, training: bool, masked: bool) -> None:
    norm = build(name, site).train(training)
    mask = site.mask() if masked else None
    named = dict(norm.named_parameters())

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        return functional_call(norm, dict(zip(named, parameters, strict=True)), (x, mask, step_of(site)))

    inputs = [site.input(), *(v.detach().clone() for v in named.values())]
    assert torch.autograd.gradcheck(function, [v.requires_grad_() for v in inputs], fast_mode=True)


def couplings(norm, site: Site, mask: Tensor | None) -> tuple[bool, bool]:
    """Whether the Jacobian links different examples, and different time positions of one example."""
    jacobian = torch.autograd.functional.jacobian(lambda x: apply(norm, site, x, mask), site.input())
    size = len(site.shape)
    if site.channels_first:
        linked = jacobian.abs().sum(dim=[*range(1, size), *range(size + 1, 2 * size)])
        return bool(linked.fill_diagonal_(0).any()), False
    linked = jacobian.abs().sum(dim=(size - 1, 2 * size - 1))  # [B, B] or [B, T, B, T]
    if size == 2:
        return bool(linked.fill_diagonal_(0).any()), False
    examples = linked.sum((1, 3)).fill_diagonal_(0)
    positions = linked.diagonal(dim1=0, dim2=2).sum(-1).fill_diagonal_(0)
    return bool(examples.any()), bool(positions.any())


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize(("name", "site"), tried(CASES, newer=False))  # `site_couplings` tests the newer too
def test_coupling_is_as_declared(name: str, site: Site, masked: bool) -> None:
    norm = build(name, site).train()
    mask = site.mask() if masked else None
    assert couplings(norm, site, mask) == (norm.couples_examples, norm.couples_positions)
    if name in BATCH:
        assert couplings(norm.eval(), site, mask) == (False, False)


@pytest.mark.parametrize("name", some_norms(NORMS))
def test_causal_norms_hide_later_positions_when_evaluated(name: str) -> None:
    site = home(name)
    norm = build(name, site).eval()
    assert couplings(norm, site, None)[1] == (not norm.causal)


@EVERYWHERE
def test_eval_affine_is_the_norm_in_eval_mode(name: str, site: Site) -> None:
    norm = build(name, site)
    apply(norm, site, site.input())
    affine = norm.eval_affine(step_of(site))
    if affine is None:
        assert name not in ("none", "batch", "batch_renorm", "frozen_batch") or site.name == "recurrent"
        return
    scale, shift = (v.view(-1, *[1] * (len(site.shape) - 2)) if site.channels_first else v for v in affine)
    x = site.input(seed=3)
    torch.testing.assert_close(apply(norm.eval(), site, x), x * scale + shift, rtol=1e-12, atol=1e-12)


@MODES
@EVERYWHERE
def test_state_dict_round_trip(name: str, site: Site, training: bool) -> None:
    norm = build(name, site)
    apply(norm, site, site.input())
    other = instantiate(config(name))(site.channels, site.layout, positions=site.positions).double()
    other.load_state_dict(norm.state_dict())
    x = site.input(seed=4)
    assert torch.equal(apply(norm.train(training), site, x), apply(other.train(training), site, x))


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@MODES
@EVERYWHERE
def test_vmap_stacks_seeds(name: str, site: Site, training: bool, masked: bool) -> None:
    norms = [build(name, site).train(training) for _ in range(3)]
    with torch.no_grad():
        for i, norm in enumerate(norms):
            for value in (*norm.parameters(), *norm.buffers()):
                value.add_(i) if value.is_floating_point() else value
    x = torch.stack([site.input(seed) for seed in range(3)])
    mask = site.mask() if masked else None
    parameters, buffers = stack_module_state(norms)  # type: ignore[arg-type]

    def call(parameters, buffers, x):
        return functional_call(norms[0], (parameters, buffers), (x, mask, step_of(site)))

    together = vmap(call)(parameters, buffers, x)
    alone = torch.stack([apply(norm, site, x[i], mask) for i, norm in enumerate(norms)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
    for key, stacked in buffers.items():
        expected = torch.stack([dict(norm.named_buffers())[key] for norm in norms])
        torch.testing.assert_close(stacked, expected, rtol=1e-12, atol=1e-12, msg=key)


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@EVERYWHERE
def test_half_precision_keeps_its_dtype_and_float32_statistics(
    name: str, site: Site, dtype: torch.dtype, masked: bool
) -> None:
    mask = site.mask() if masked else None
    x = (100 + site.input()).to(dtype)  # in bf16 neither 100.5² nor a sum of it can be told from its neighbours
    exact = build(name, site)
    expected = apply(exact, site, x.double(), mask)
    norm = build(name, site).float()
    with torch.autocast("cpu", dtype=dtype):
        y = apply(norm, site, x, mask)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), expected, rtol=2e-2, atol=2e-2)
    for ours, theirs in zip(norm.buffers(), exact.buffers(), strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("real", [0, 1, 2])
@MODES
@EVERYWHERE
def test_few_real_entries_give_finite_values_and_gradients(name: str, site: Site, training: bool, real: int) -> None:
    norm = build(name, site).train(training)
    mask = torch.zeros(site.places).bool()
    mask.view(-1)[:real] = True
    x = site.input().requires_grad_()
    y = apply(norm, site, x, mask)
    y.square().sum().backward()
    for value in (y, x.grad, *norm.buffers(), *(p.grad for p in norm.parameters())):
        assert value is not None
        assert value.isfinite().all()


@EVERYWHERE
def test_a_batch_of_one_works(name: str, site: Site) -> None:
    norm = build(name, site)
    assert apply(norm, site, site.input()[:1]).isfinite().all()


@EVERYWHERE
def test_float32_and_float64_agree(name: str, site: Site) -> None:
    x = site.input()
    single = apply(build(name, site).float(), site, x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), apply(build(name, site), site, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", some_norms(NORMS))
def test_compiles_without_a_graph_break(name: str) -> None:
    site = home(name)
    torch._dynamo.reset()
    compiled = torch.compile(build(name, site), fullgraph=True, backend="eager")
    for mask in (None, site.mask()):
        expected = apply(build(name, site), site, site.input(), mask)
        torch.testing.assert_close(compiled(site.input(), mask), expected, rtol=1e-12, atol=1e-12)
