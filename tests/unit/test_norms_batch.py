"""The options of batch norm, and its statistics."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from norm_sites import SITES, Site, build
from normlab.config.schema import InputError
from normlab.norms.batch import BatchNorm
from normlab.norms.moments import Moments, merge, moments
from normlab.norms.precise import needs_refreshing, refresh_statistics

BC, BCHW, BTC, RECURRENT, _ = SITES
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def own_batch_norm(norm, site: Site):
    """The same norm without chunks."""
    other = build("batch", site)
    other.load_state_dict(norm.state_dict())
    return other


@pytest.mark.parametrize("site", [BC, BCHW, BTC], ids=lambda s: s.name)
def test_each_chunk_is_normalised_by_a_batch_norm_of_its_own(site: Site) -> None:
    norm = build("batch", site, nbs=2)
    chunks = site.input().split(2)
    own = [own_batch_norm(norm, site) for _ in chunks]
    expected = torch.cat([one(chunk) for one, chunk in zip(own, chunks, strict=True)])
    torch.testing.assert_close(norm(site.input()), expected, **EXACT)
    # the running statistics move once a forward, towards the mean of what the chunks say
    for name, buffer in norm.named_buffers():
        mean = torch.stack([dict(one.named_buffers())[name] for one in own]).mean(0)
        torch.testing.assert_close(buffer, mean, **EXACT)


def test_a_smaller_last_chunk_counts_by_its_size() -> None:
    norm, x = build("batch", BC, nbs=4, momentum=1.0), BC.input()
    norm(x)
    torch.testing.assert_close(norm.running_mean, x.mean(0), **EXACT)
    within = sum((part - part.mean(0)).square().sum(0) for part in x.split(4))
    torch.testing.assert_close(norm.running_var, within / (6 - 2), **EXACT)


def test_a_last_chunk_of_one_example_is_normalised_with_running_statistics() -> None:
    norm, x = build("batch", BC, nbs=5, momentum=1.0), BC.input()
    other = own_batch_norm(norm, BC).eval()
    torch.testing.assert_close(norm(x)[5:], other(x[5:]), **EXACT)
    torch.testing.assert_close(norm.running_mean, x[:5].mean(0), **EXACT)


@given(nbs=st.integers(6, 20))
@settings(max_examples=5, deadline=None)
def test_chunks_as_large_as_the_batch_are_the_batch(nbs: int) -> None:
    torch.testing.assert_close(build("batch", BC, nbs=nbs)(BC.input()), build("batch", BC)(BC.input()), **EXACT)


def test_a_single_example_uses_and_keeps_the_running_statistics() -> None:
    norm, x = build("batch", BC), BC.input()[:1]
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    torch.testing.assert_close(norm(x), norm.eval()(x), **EXACT)
    for name, buffer in norm.named_buffers():
        assert torch.equal(buffer, before[name])


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("masked", [False, True])
def test_step_by_step_equals_all_steps_at_once(masked: bool, momentum: float | None) -> None:
    one, other = (build("batch", RECURRENT, momentum=momentum) for _ in range(2))
    for seed in range(2):
        x = RECURRENT.input(seed)
        mask = torch.arange(5) < torch.tensor([5, 4, 2, 1])[:, None] if masked else None  # one sequence reaches the end
        single = torch.stack([one(x[:, t], None if mask is None else mask[:, t], t) for t in range(5)], 1)
        torch.testing.assert_close(single, other(x, mask), **EXACT)
        for ours, theirs in zip(one.buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(ours, theirs, **EXACT)
    one.eval()
    x = RECURRENT.input(2)
    single = torch.stack([one(x[:, t], None, t) for t in range(5)], 1)
    torch.testing.assert_close(single, other.eval()(x), **EXACT)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("masked", [False, True])
def test_later_steps_use_the_last_set_and_leave_it(masked: bool, training: bool) -> None:
    longer = Site("longer", "BC", (4, 8, 16), positions=5)
    x, mask = longer.input(), longer.mask() if masked else None
    one, other, short = (build("batch", longer).train(training) for _ in range(3))
    last = (one.running_mean[4].clone(), one.running_var[4].clone())
    y = other(x, mask)
    for t in range(8):
        torch.testing.assert_close(one(x[:, t], None if mask is None else mask[:, t], t), y[:, t], **EXACT)
        if t == 4 and training:
            last = (one.running_mean[4].clone(), one.running_var[4].clone())
    short(x[:, :5], None if mask is None else mask[:, :5])
    for ours, theirs, first in zip(one.buffers(), other.buffers(), short.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)
        torch.testing.assert_close(ours, first, **EXACT)
    if not training:
        late = (x[:, 6] - last[0]) * torch.rsqrt(last[1] + 1e-5) * one.gain + one.bias
        real = torch.ones(4).bool() if mask is None else mask[:, 6]
        torch.testing.assert_close(y[:, 6], late * real[:, None], **EXACT)


def test_backward_through_steps_that_update_the_same_buffers() -> None:
    norm = build("batch", RECURRENT)
    x, mask = RECURRENT.input().requires_grad_(), torch.tensor([True, True, True, False])
    total = norm(x[:, 0], None, 0) + norm(x[:, 0], mask, 0) + norm(x[:, 6 % 5], None, 6)
    total.sum().backward()  # would raise if a buffer that autograd holds had been changed in place


def test_positions_have_statistics_of_their_own() -> None:
    norm = build("batch", BTC, pool="positions", momentum=1.0)
    norm(BTC.input())
    torch.testing.assert_close(norm.running_mean, BTC.input().mean(0), **EXACT)
    torch.testing.assert_close(norm.running_var, BTC.input().var(0), **EXACT)


def test_running_variance_is_unbiased_over_real_entries() -> None:
    norm, x, mask = build("batch", BTC, momentum=1.0), BTC.input(), BTC.mask()
    norm(x, mask)
    torch.testing.assert_close(norm.running_mean, x[mask].mean(0), **EXACT)
    torch.testing.assert_close(norm.running_var, x[mask].var(0), **EXACT)


@pytest.mark.parametrize(
    ("site", "options", "message"),
    [
        (BC, {"nbs": 1}, "at least 2"),
        (BTC, {"nbs": 1, "pool": "positions"}, "at least 2"),
        (BC, {"nbs": 2, "sync": True}, "use only one of them"),
        (Site("without", "BTC", (2, 3, 16)), {"pool": "positions"}, "pool=tokens"),
    ],
    ids=str,
)
def test_options_that_exclude_each_other(site: Site, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build("batch", site, **options)


@pytest.mark.parametrize(
    ("options", "examples", "positions"),
    [
        ({}, True, True),
        ({"nbs": 1}, False, True),
        ({"nbs": 2}, True, True),
        ({"pool": "positions"}, True, False),
        ({"pool": "positions", "nbs": 2}, True, False),
    ],
    ids=str,
)
def test_coupling_follows_the_options(options: dict, examples: bool, positions: bool) -> None:
    norm = build("batch", BTC, **options)
    assert (norm.couples_examples, norm.couples_positions) == (examples, positions)
    jacobian = torch.autograd.functional.jacobian(norm, BTC.input()).abs().sum((2, 5))  # [B, T, B, T]
    assert bool(jacobian.sum((1, 3)).fill_diagonal_(0).any()) == examples
    assert bool(jacobian.diagonal(dim1=0, dim2=2).sum(-1).fill_diagonal_(0).any()) == positions


OPTIONS = [{"nbs": 2}, {"nbs": 3}, {"pool": "positions"}, {"nbs": 2, "pool": "positions"}, {"momentum": None}]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("site", [BCHW, BTC, RECURRENT], ids=lambda s: s.name)
def test_gradients_of_every_option(site: Site, options: dict, masked: bool) -> None:
    mask = site.mask() if masked else None

    def function(x: Tensor) -> Tensor:  # a new norm each time: small sets take the running statistics, which move
        return build("batch", site, **options)(x, mask)

    assert torch.autograd.gradcheck(function, site.input().requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("site", [BCHW, BTC, RECURRENT], ids=lambda s: s.name)
def test_stacked_seeds_keep_their_running_statistics_apart(site: Site, options: dict) -> None:
    norms = [build("batch", site, **options) for _ in range(2)]
    x = torch.stack([site.input(seed) for seed in range(2)])
    parameters, buffers = torch.func.stack_module_state(norms)
    together = torch.vmap(lambda p, b, x: torch.func.functional_call(norms[0], (p, b), (x,)))(parameters, buffers, x)
    torch.testing.assert_close(together, torch.stack([n(v) for n, v in zip(norms, x, strict=True)]), **EXACT)
    for name, stacked in buffers.items():
        torch.testing.assert_close(stacked, torch.stack([dict(n.named_buffers())[name] for n in norms]), **EXACT)


def test_evaluation_with_the_batch_has_no_affine_map() -> None:
    assert build("batch", BC, evaluation="batch").eval_affine() is None
    assert build("batch", RECURRENT).eval_affine() is None
    assert build("batch", RECURRENT).eval_affine(3) is not None


def test_sync_alone_in_one_process_changes_nothing() -> None:
    assert torch.equal(build("batch", BC, sync=True)(BC.input()), build("batch", BC)(BC.input()))


@given(sizes=st.lists(st.integers(0, 5), min_size=1, max_size=4), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_merged_moments_are_those_of_the_union(sizes: list[int], seed: int) -> None:
    x = 1e3 + torch.randn(sum(sizes), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    none = Moments(*(torch.zeros(1, 3).double() for _ in range(3)))
    sets = [moments(part, (0,)) if len(part) else none for part in x.split(sizes)]
    whole = merge(Moments(*(torch.cat(field) for field in zip(*sets, strict=True))), 0)
    if len(x):
        torch.testing.assert_close(whole.mean, x.mean(0), **EXACT)
        torch.testing.assert_close(whole.m2, (x - x.mean(0)).square().sum(0), rtol=1e-9, atol=1e-9)
    assert (whole.n == len(x)).all()


# Precise statistics


@pytest.mark.parametrize("site", [BC, BCHW, BTC, RECURRENT], ids=lambda s: s.name)
@pytest.mark.parametrize("nbs", [None, 2])
def test_refreshed_statistics_are_the_population_s(site: Site, nbs: int | None) -> None:
    norm = build("batch", site, evaluation="precise", nbs=nbs).eval()
    data = [(site.input(seed), site.mask(seed) if seed else None) for seed in range(4)]
    with refresh_statistics(norm):
        for x, mask in data:
            norm(x, mask)

    def places(x, mask):
        tokens = x.movedim(1, -1) if site.layout == "BCHW" else x
        return tokens, torch.ones(site.places).bool() if mask is None else mask

    tokens, real = (torch.cat(both) for both in zip(*(places(x, mask) for x, mask in data), strict=True))
    if site.name == "recurrent":
        for t in range(5):
            kept = tokens[:, t][real[:, t]]
            torch.testing.assert_close(norm.running_mean[t], kept.mean(0), **EXACT)
            torch.testing.assert_close(norm.running_var[t], kept.var(0), **EXACT)
    else:
        torch.testing.assert_close(norm.running_mean, tokens[real].mean(0), **EXACT)
        torch.testing.assert_close(norm.running_var, tokens[real].var(0), **EXACT)


def test_refreshing_normalises_as_in_training_with_dropout_silent() -> None:
    model = nn.Sequential(build("batch", BC, evaluation="precise"), nn.Dropout(0.5)).eval()
    state = torch.get_rng_state()
    with refresh_statistics(model):
        y = model(BC.input())
    torch.testing.assert_close(y, build("batch", BC)(BC.input()), **EXACT)
    assert torch.equal(state, torch.get_rng_state())


def test_steps_one_by_one_refresh_like_all_at_once() -> None:
    one, other = (build("batch", RECURRENT, evaluation="precise").eval() for _ in range(2))
    with refresh_statistics(one), refresh_statistics(other):
        for seed in range(2):
            x, mask = Site("x", "BC", (4, 7, 16)).input(seed), torch.arange(7) < torch.tensor([7, 4, 2, 1])[:, None]
            other(x, mask)
            for t in range(7):
                one(x[:, t], mask[:, t], t)
    for ours, theirs in zip(one.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)


def test_sets_never_seen_keep_their_statistics() -> None:
    norm = build("batch", RECURRENT, evaluation="precise").eval()
    before = norm.running_mean.clone()
    with refresh_statistics(norm):
        norm(RECURRENT.input()[:, :2])
    assert torch.equal(norm.running_mean[2:], before[2:])
    assert not torch.equal(norm.running_mean[:2], before[:2])


def test_an_interrupted_refresh_changes_nothing() -> None:
    norm = build("batch", BC, evaluation="precise").eval()
    before = norm.running_mean.clone()

    def interrupted() -> None:
        with refresh_statistics(norm):
            norm(BC.input())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.equal(norm.running_mean, before)
    torch.testing.assert_close(norm(BC.input()), BC.input() * norm.eval_affine()[0] + norm.eval_affine()[1], **EXACT)


def test_only_precise_norms_are_refreshed() -> None:
    norm = build("batch", BC).eval()
    before = norm.running_mean.clone()
    with refresh_statistics(norm):
        norm(BC.input())
    assert torch.equal(norm.running_mean, before)
    assert not needs_refreshing(nn.Sequential(norm))
    assert needs_refreshing(nn.Sequential(norm, build("batch", BC, evaluation="precise")))


def by_formula(norm):
    """The same norm without our kernel."""
    other = copy.deepcopy(norm)
    other.kernel = "plain"
    return other


@pytest.mark.parametrize("site", [BC, BTC], ids=lambda s: s.name)
@pytest.mark.parametrize("options", [{}, {"evaluation": "batch"}, {"bias": False}, {"nbs": 64}])
@pytest.mark.parametrize("training", [True, False])
def test_real_rows_alone_give_what_the_formula_gives(site: Site, options: dict, training: bool) -> None:
    norm = build("batch", site, **options).train(training)
    plain = by_formula(norm)
    mask = torch.rand(site.input().shape[:-1], generator=torch.Generator().manual_seed(0)) < 0.6
    for seed in range(3):
        x, z = (site.input(seed).requires_grad_() for _ in range(2))
        y, expected = norm(x, mask), plain(z, mask)
        torch.testing.assert_close(y, expected, **EXACT)
        assert not y[~mask].any()
        inputs = [*norm.parameters()], [*plain.parameters()]
        found = torch.autograd.grad((y * site.input(9)).sum(), [x, *inputs[0]])
        wanted = torch.autograd.grad((expected * site.input(9)).sum(), [z, *inputs[1]])
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)
    for name, buffer in norm.named_buffers():
        torch.testing.assert_close(buffer, dict(plain.named_buffers())[name], **EXACT)


@pytest.mark.parametrize("real", [0, 1])
def test_fewer_than_two_real_rows_use_the_running_statistics(real: int) -> None:
    norm, x = build("batch", BTC), BTC.input()
    mask = torch.zeros(x.shape[:-1], dtype=torch.bool)
    mask[0, :real] = True
    before = norm.running_mean.clone()
    y = norm(x, mask)
    scale, shift = norm.eval_affine()
    torch.testing.assert_close(y, (x * scale + shift) * mask[..., None], **EXACT)
    assert torch.equal(norm.running_mean, before)


def test_real_rows_are_differentiated_twice() -> None:
    norm = build("batch", BTC)
    mask = torch.ones(2, 3, dtype=torch.bool)
    mask[1, 1:] = False
    x = torch.randn(2, 3, BTC.channels, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: norm(x, mask), x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: norm(x, mask), x, fast_mode=True)


@pytest.mark.parametrize("shape", [(4, 5), (6, 4), (4, 6, 8)], ids=["short", "transposed", "channels"])
def test_a_mask_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    """Flattened, it would name other rows."""
    with pytest.raises(RuntimeError, match="size"):
        BatchNorm(8, "BTC")(torch.randn(4, 6, 8), torch.ones(shape, dtype=torch.bool))
