"""Batches of few classes: their content, and that no example is lost."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from normlab.config.schema import InputError
from normlab.data.batch import Batch
from normlab.data.few_classes import FewClasses
from normlab.data.loader import Share, loader
from normlab.data.splits import Examples


def labelled(counts: list[int], seed: int = 0) -> Examples:
    """Example i has token i + 1; its class is random, with so many examples of each."""
    targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    targets = targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))]
    return Examples(torch.arange(1, len(targets) + 1)[:, None], targets)


def epoch(split: Examples, batch_size: int, classes: int | None, number: int = 0, **options: int) -> list[Tensor]:
    return [share.index for share in shares(split, batch_size, classes, number, **options)]


def shares(split: Examples, batch_size: int, classes: int | None, number: int = 0, **options: int) -> list[Share]:
    made = loader(split, batch_size, seed=0, classes_per_batch=classes, **options)
    made.batch_sampler.sampler.set_epoch(number)  # type: ignore[union-attr]
    found: list[Share] = list(made.batch_sampler)  # type: ignore[arg-type]
    assert len(found) == len(made)
    return found


@pytest.mark.parametrize("classes", [1, 2, 3, 5, 10])
def test_a_batch_holds_so_many_classes_in_equal_shares(classes: int) -> None:
    split = labelled([160] * 10)
    batches = epoch(split, 32, classes)
    assert torch.equal(torch.cat(batches).sort().values, torch.arange(1600))
    for batch in batches:
        counts = split.targets[batch].bincount(minlength=10)
        assert (counts > 0).sum() == classes
        assert counts.max() - counts[counts > 0].min() <= 2
        assert 32 <= len(batch) <= 32 + 2 * classes


def test_where_all_divides_batches_are_exact() -> None:
    batches = epoch(labelled([64] * 10), 32, 2)
    assert [len(batch) for batch in batches] == [32] * 20


@pytest.mark.slow
@given(
    counts=st.lists(st.integers(0, 60), min_size=1, max_size=8),
    share=st.integers(1, 8),
    classes=st.integers(1, 6),
    world_size=st.integers(1, 3),
    number=st.integers(0, 3),
)
@settings(max_examples=200, deadline=None)
def test_no_example_of_a_class_that_can_be_shared_is_lost(counts, share, classes, world_size, number) -> None:
    batch_size, smallest = share * world_size, world_size * min(2, share)
    kept = [count for count in counts if count >= smallest]
    if not kept or classes > sum(count > 0 for count in counts) or classes > batch_size:
        return
    split = labelled(counts)
    ranks = [shares(split, batch_size, classes, number, rank=r, world_size=world_size) for r in range(world_size)]
    batches = [share.whole for share in ranks[0]]
    seen = torch.cat(batches)
    assert len(seen.unique()) == len(seen) == sum(kept)
    assert len(batches) == len(epoch(split, batch_size, classes, number + 1, world_size=world_size))
    for batch, *parts in zip(batches, *ranks, strict=True):
        assert len(split.targets[batch].unique()) <= classes
        assert torch.equal(torch.cat([part.index for part in parts]), batch)
        assert min(len(part.index) for part in parts) >= min(2, share)


def test_one_large_class_fills_places_that_no_other_could() -> None:
    split = labelled([900, 30, 30, 30])
    batches = epoch(split, 30, 3)
    assert torch.cat(batches).sort().values.tolist() == list(range(990))
    assert all(30 <= len(batch) <= 33 for batch in batches)
    assert all((split.targets[batch] == 0).any() for batch in batches)


def test_batches_are_a_function_of_seed_and_epoch() -> None:
    split = labelled([50] * 4)
    first = epoch(split, 10, 2, 3)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again = epoch(split, 10, 2, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    drawn = [[split.targets[batch].unique().tolist() for batch in epoch(split, 10, 2, number)] for number in (3, 4)]
    assert drawn[0] != drawn[1]


def test_classes_are_drawn_anew_for_each_batch_and_evenly() -> None:
    """Every pair of classes meets about equally often."""
    split = labelled([400] * 5)
    pairs = torch.zeros(5, 5)
    for number in range(10):
        for batch in epoch(split, 20, 2, number):
            one, other = split.targets[batch].unique().tolist()
            pairs[one, other] += 1
    counts = pairs[pairs > 0]
    assert len(counts) == 10
    # 1,000 batches: 100 a pair, and 9.5 the standard deviation of as many independent draws
    assert counts.min() > 60
    assert counts.max() < 140
    order = [int(split.targets[batch].min()) for batch in epoch(split, 20, 1)]
    assert any(one == other for one, other in itertools.pairwise(order))


def test_chunks_of_a_batch_mix_its_classes() -> None:
    """`norm.nbs` cuts a batch into consecutive chunks, processes take contiguous shares."""
    split = labelled([64] * 4)
    halves = [half for batch in epoch(split, 32, 2) for half in batch.chunk(2)]
    assert sum(len(split.targets[half].unique()) == 2 for half in halves) == len(halves)


@pytest.mark.parametrize("skip", [1, 7, 19])
def test_an_interrupted_epoch_goes_on(skip: int) -> None:
    split = labelled([64] * 10)
    made = loader(split, 32, seed=0, classes_per_batch=2)
    whole: list[Batch] = list(made)
    made.batch_sampler.skip = skip  # type: ignore[union-attr]
    rest: list[Batch] = list(made)
    assert len(rest) == len(whole) - skip
    for one, other in zip(rest, whole[skip:], strict=True):
        assert torch.equal(one.inputs, other.inputs)


def test_evaluation_and_shuffled_training_know_nothing_of_it() -> None:
    split = labelled([20] * 3)
    evaluated = list(loader(split, 8, classes_per_batch=1).batch_sampler)  # type: ignore[arg-type]
    assert torch.cat([share.index for share in evaluated]).tolist() == list(range(60))
    shuffled = torch.cat(epoch(split, 8, None))
    order = loader(split, 8, seed=0).batch_sampler.sampler.index()  # type: ignore[union-attr]
    assert torch.equal(shuffled, order)
    assert shuffled[:6].tolist() == [51, 17, 50, 56, 59, 9]  # as it was before there were batches of few classes


def test_more_classes_than_there_are_are_refused() -> None:
    with pytest.raises(InputError, match=r"task.classes_per_batch=4: the training split has only 3 classes"):
        loader(labelled([5, 5, 5, 0]), 8, seed=0, classes_per_batch=4)


def test_a_split_of_single_examples_is_refused() -> None:
    with pytest.raises(InputError, match="no class has two training examples"):
        FewClasses(torch.arange(6), 4, 2, 1)
