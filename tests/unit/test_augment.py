"""Images that are shifted and mirrored: how, and that it depends on nothing but seed, epoch and place."""

from itertools import islice

import pytest
import torch
from torch.nn import functional

from normlab.data.augment import SHIFT, draw, shift_flip
from normlab.data.loader import loader
from normlab.data.splits import Examples

IMAGES = torch.randn(6, 3, 8, 5, generator=torch.Generator().manual_seed(0))


def split(count=40):
    images = torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return Examples(images, torch.arange(count), None, torch.tensor(127.0), torch.tensor(64.0))


def test_each_image_is_cut_from_its_border_and_mirrored_by_hand():
    draws = draw(6, torch.Generator().manual_seed(2))
    given = shift_flip(IMAGES, draws)
    for image, (rows, columns, mirrored), found in zip(IMAGES, draws.tolist(), given, strict=True):
        cut = functional.pad(image, (SHIFT,) * 4)[:, rows : rows + 8, columns : columns + 5]
        assert torch.equal(found, cut.flip(-1) if mirrored else cut)


def test_the_middle_unmirrored_is_the_image_itself():
    assert torch.equal(shift_flip(IMAGES, torch.tensor([[SHIFT, SHIFT, 0]] * 6)), IMAGES)


def test_every_shift_and_both_sides_occur():
    draws = draw(2000, torch.Generator().manual_seed(0))
    assert [set(column.tolist()) for column in draws.T] == [set(range(9)), set(range(9)), {0, 1}]


def batches(epoch=0, **options):
    made = loader(split(), 8, seed=3, augment=True, **options)
    made.batch_sampler.sampler.set_epoch(epoch)
    return made


def test_images_differ_between_epochs_and_not_between_passes():
    plain = split().gather(torch.arange(40)).inputs  # whose targets are their numbers
    seen = {}
    for epoch in (0, 0, 1):
        for batch in batches(epoch):
            for target, image in zip(batch.targets, batch.inputs, strict=True):
                seen.setdefault(int(target), []).append(image)
    assert all(torch.equal(first, again) for first, again, _ in seen.values())
    assert sum(torch.equal(first, later) for first, _, later in seen.values()) < 4
    assert sum(torch.equal(first, plain[target]) for target, (first, *_) in seen.items()) < 4


@pytest.mark.parametrize("world_size", [2, 4])
def test_they_are_the_same_for_any_number_of_processes(world_size):
    shares = [list(batches(rank=rank, world_size=world_size)) for rank in range(world_size)]
    for whole, *parts in zip(batches(), *shares, strict=True):
        assert torch.equal(whole.inputs, torch.cat([part.inputs for part in parts]))


def test_an_epoch_that_goes_on_shows_what_it_would_have_shown():
    whole, rest = list(batches()), batches()
    rest.batch_sampler.skip = 3
    for one, other in zip(islice(whole, 3, None), rest, strict=True):
        assert torch.equal(one.inputs, other.inputs)


def test_evaluation_shows_images_as_they_are():
    shown = torch.cat([batch.inputs for batch in loader(split(), 8, augment=True)])
    assert torch.equal(shown, split().gather(torch.arange(40)).inputs)
