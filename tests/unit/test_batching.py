"""Batches: their order, their shares among processes, their lengths, and their content."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from normlab.config.schema import InputError
from normlab.data.batch import Batch
from normlab.data.loader import Order, Share, loader
from normlab.data.splits import Examples, Split, Windows


def examples(count: int, longest: int = 1) -> Examples:
    """Example i has target i and tokens i + 1, of a length between 1 and `longest`."""
    lengths = torch.arange(count) * 7 % longest + 1
    inputs = torch.arange(1, count + 1)[:, None] * (torch.arange(longest) < lengths[:, None])
    return Examples(inputs, torch.arange(count), lengths if longest > 1 else None)


def text(count: int, length: int) -> Windows:
    """Token i of the text is i."""
    return Windows(torch.arange(count + 1), length)


def shares(split: Split, batch_size: int, **options: int | bool | None) -> list[Share]:
    return list(loader(split, batch_size, **options).batch_sampler)  # type: ignore[arg-type]


def seen(batches: list[Batch]) -> list[int]:
    return torch.cat([batch.targets for batch in batches]).tolist()


def epoch(split: Split, number: int, batch_size: int = 8, **options: int | bool | None) -> Tensor:
    made = loader(split, batch_size, **options)  # type: ignore[arg-type]
    made.batch_sampler.sampler.set_epoch(number)  # type: ignore[union-attr]
    return torch.cat([share.index for share in made.batch_sampler])  # type: ignore[union-attr]


def test_evaluation_keeps_the_order() -> None:
    batches = list(loader(examples(11), 4))
    assert seen(batches) == list(range(11))
    assert [len(batch.targets) for batch in batches] == [4, 4, 3]
    assert [batch.total for batch in batches] == [4, 4, 3]


@pytest.mark.parametrize("bucket", [False, True])
def test_the_order_is_a_function_of_seed_and_epoch(bucket: bool) -> None:
    split = examples(100, longest=9)
    first = epoch(split, 3, seed=0, bucket=bucket)
    torch.manual_seed(99)
    epoch(split, 5, seed=0, bucket=bucket)
    assert torch.equal(epoch(split, 3, seed=0, bucket=bucket), first)
    others = [epoch(split, 4, seed=0, bucket=bucket), epoch(split, 3, seed=1, bucket=bucket)]
    for other in others:
        assert sorted(other.tolist()) == list(range(100))
        assert not torch.equal(other, first)


def test_a_loader_draws_nothing_from_the_global_generator() -> None:
    state = torch.get_rng_state()
    list(loader(examples(20), 4, seed=0))
    list(loader(examples(20), 4))
    assert torch.equal(torch.get_rng_state(), state)


def test_lightning_finds_set_epoch() -> None:
    from lightning_fabric.utilities.data import _set_sampler_epoch

    made = loader(examples(40), 8, seed=0)
    first = seen(list(made))
    _set_sampler_epoch(made, 1)
    assert isinstance(made.batch_sampler.sampler, Order)  # type: ignore[union-attr]
    assert made.batch_sampler.sampler.epoch == 1  # type: ignore[union-attr]
    assert seen(list(made)) != first


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [
        (9, 4, [4, 5]),  # up to half a batch joins the one before
        (10, 4, [4, 6]),
        (11, 4, [4, 4, 3]),
        (8, 4, [4, 4]),
        (3, 1, [1, 1, 1]),  # batches of one are asked for
        (3, 2, [3]),
        (1, 4, [1]),  # all there is
        (3, 4, [3]),
    ],
)
def test_no_last_batch_of_one(count: int, batch_size: int, sizes: list[int]) -> None:
    for seed in (None, 0):
        made = loader(examples(count), batch_size, seed=seed)
        assert [len(batch.targets) for batch in made] == sizes
        assert len(made) == len(sizes)


@given(count=st.integers(1, 70), share=st.integers(1, 6), world_size=st.integers(1, 4), shuffled=st.booleans())
@settings(max_examples=150, deadline=None)
def test_processes_share_every_batch(count: int, share: int, world_size: int, shuffled: bool) -> None:
    if count < world_size:
        return
    split, batch_size, seed = examples(count), share * world_size, 0 if shuffled else None
    whole = shares(split, batch_size, seed=seed)
    ranks = [shares(split, batch_size, seed=seed, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1  # else the processes would wait for each other for ever
    for parts in zip(*ranks, strict=True):
        sizes = [len(part.index) for part in parts]
        assert min(sizes) >= min(share, 2, count // world_size)  # never one of many: no batch statistics
        assert max(sizes) - min(sizes) <= 1
        assert {len(part.whole) for part in parts} == {sum(sizes)}
    together = torch.cat([part.index for parts in zip(*ranks, strict=True) for part in parts])
    assert torch.equal(together, torch.cat([batch.index for batch in whole]))  # none left out, none repeated


@pytest.mark.parametrize("count", range(48, 57))
def test_batches_are_the_same_for_any_number_of_processes(count: int) -> None:
    split = examples(count, longest=5)
    whole = list(loader(split, 8, seed=0, bucket=True))
    ranks = [list(loader(split, 8, seed=0, bucket=True, rank=rank, world_size=2)) for rank in range(2)]
    for batch, *parts in zip(whole, *ranks, strict=True):
        assert torch.equal(batch.targets, torch.cat([part.targets for part in parts]))
        assert torch.equal(batch.inputs, torch.cat([part.inputs for part in parts]))  # all pad to the same length
        assert [part.total for part in parts] == [batch.total] * 2


def test_an_indivisible_batch_is_refused() -> None:
    with pytest.raises(InputError, match=r"batch size 10 can't be divided evenly among 4 processes.*such as 12"):
        loader(examples(20), 10, world_size=4)


def test_more_processes_than_examples_are_refused() -> None:
    with pytest.raises(InputError, match="4 processes can't divide 3 examples"):
        loader(examples(3), 4, world_size=4)


def padding(batches: list[Batch]) -> float:
    real = sum(batch.inputs.numel() if batch.mask is None else int(batch.mask.sum()) for batch in batches)
    return 1 - real / sum(batch.inputs.numel() for batch in batches)


def test_buckets_hold_similar_lengths_in_random_order() -> None:
    split = examples(1000, longest=40)
    plain, bucketed = (list(loader(split, 16, seed=0, bucket=bucket)) for bucket in (False, True))
    assert sorted(seen(bucketed)) == sorted(seen(plain)) == list(range(1000))
    assert padding(plain) > 0.4
    assert padding(bucketed) < 0.07
    longest = [batch.inputs.shape[1] for batch in bucketed]
    assert longest != sorted(longest)
    inside = [split.lengths_at(batch.targets) for batch in bucketed]
    assert any((lengths.diff() < 0).any() for lengths in inside)  # chunks of a batch are random samples of it
    assert len(bucketed[-1].targets) == 16 + 1000 % 16


def test_bucketed_evaluation_keeps_the_order() -> None:
    assert seen(list(loader(examples(30, longest=9), 4, bucket=True))) == list(range(30))


def test_a_mask_says_what_is_real() -> None:
    split = examples(30, longest=9)
    for batch in loader(split, 4, seed=0):
        real = batch.inputs > 0
        assert batch.inputs.shape[1] == real.sum(1).max()
        assert torch.equal(batch.mask if batch.mask is not None else torch.ones_like(real), real)


@given(count=st.integers(1, 60), length=st.integers(1, 9), batch_size=st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_evaluation_predicts_every_token_once(count: int, length: int, batch_size: int) -> None:
    batches = list(loader(text(count, length), batch_size))
    found = []
    for batch in batches:
        assert batch.inputs.shape == batch.targets.shape
        mask = torch.ones_like(batch.inputs, dtype=torch.bool) if batch.mask is None else batch.mask
        assert mask.any(1).all()
        found += batch.targets[mask].tolist()
        assert torch.equal(batch.inputs[mask] + 1, batch.targets[mask])
        assert batch.total == mask.sum()
    assert found == list(range(1, count + 1))
    assert all(batch.mask is None for batch in batches[:-1])


@given(count=st.integers(9, 90), length=st.integers(1, 9), number=st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_training_windows_start_anew_each_epoch(count: int, length: int, number: int) -> None:
    split = text(count, length)
    starts = epoch(split, number, batch_size=3, seed=1).sort().values
    assert len(starts) == len(loader(split, 3, seed=1).batch_sampler.sampler)  # type: ignore[union-attr]
    assert (starts.diff() == length).all()
    assert 0 <= starts[0] < length
    batch = split.gather(starts)
    assert batch.mask is None
    assert torch.equal(batch.inputs[:, 0], starts)
    assert torch.equal(batch.targets, batch.inputs + 1)
    assert count - len(starts) * length < 2 * length  # at most that much is left out


def test_offsets_of_windows_differ_between_epochs() -> None:
    split = text(1000, 50)
    offsets = [int(epoch(split, number, seed=0).min()) for number in range(8)]
    assert len(set(offsets)) > 4


def test_processes_share_windows_and_know_the_tokens_of_all() -> None:
    split = text(22, 5)  # windows of 5, 5, 5, 5 and 2 tokens
    first, second = (list(loader(split, 4, rank=rank, world_size=2)) for rank in range(2))
    assert [batch.total for batch in first] == [22]
    assert [batch.total for batch in second] == [22]
    tokens = [int(batch.targets.numel() if batch.mask is None else batch.mask.sum()) for batch in (*first, *second)]
    assert tokens == [10, 12]


def test_shares_of_a_batch_are_contiguous() -> None:
    parts = [shares(examples(12), 6, rank=rank, world_size=3) for rank in range(3)]
    assert [share.index.tolist() for share in itertools.chain(*zip(*parts, strict=True))] == [
        [0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11],
    ]  # fmt: skip
