"""Images with masks: found in pairs, at one size, with the classes of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_files import images, task
from PIL import Image
from torch import nn
from torch.nn import functional as F

from normlab.config.schema import InputError, OptimConfig, Sizes, TaskConfig
from normlab.data.batch import IGNORE, Batch
from normlab.data.fitted import Fitted
from normlab.data.load import load
from normlab.data.loader import loader
from normlab.data.splits import Examples
from normlab.data.store import prepare
from normlab.models.cnn import CNN
from normlab.norms.layer import LayerNorm
from normlab.tasks.segmentation import Segmentation


def segmented(path: Path, **options: Any) -> TaskConfig:
    return task(path, **{"goal": "segmentation", "view": "images", "input": "images", "target": "masks", **options})


def save(path: Path, pixels: np.ndarray[Any, Any], palette: list[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette is not None:
        image = Image.fromarray(pixels, mode="P")
        image.putpalette(palette + [0] * (768 - len(palette)))
    image.save(path)


def pairs(
    folder: Path, count: int = 10, size: tuple[int, int] = (6, 8), values: tuple[int, ...] = (0, 1, 2), **how: Any
) -> Path:
    """Noise, and masks of stripes: row r has the value number r."""
    random = np.random.default_rng(0)
    for i in range(count):
        save(folder / "images" / f"{i:02}.png", random.integers(0, 256, (*size, 3), np.uint8))
        rows = np.array([values[r % len(values)] for r in range(size[0])], np.uint8)
        save(folder / "masks" / f"{i:02}.png", np.repeat(rows[:, None], size[1], 1), **how)
    return folder


def targets(config: TaskConfig, tmp_path: Path) -> Any:
    split = load(config, tmp_path / "cache").split("train")
    assert isinstance(split, Examples)
    return split.targets.numpy()


def refused(config: TaskConfig, tmp_path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        load(config, tmp_path / "cache")
    assert [word for word in words if word not in str(caught.value)] == []


def test_images_and_masks_are_matched_by_name(tmp_path: Path) -> None:
    data = load(segmented(pairs(tmp_path / "in")), tmp_path / "cache")
    assert data.sizes == Sizes("images", (3, 6, 8), 3, examples=9, dense=True)
    split = data.split("train")
    assert isinstance(split, Examples)
    assert split.targets.dtype == torch.uint8
    assert split.targets[0, :, 0].tolist() == [0, 1, 2, 0, 1, 2]
    batch = split.gather(torch.tensor([0, 1]))
    assert (batch.targets.dtype, batch.targets.shape, batch.total) == (torch.int64, (2, 6, 8), 96)


@pytest.mark.parametrize("inner", [True, False])
def test_splits_are_folders_above_or_within(tmp_path: Path, inner: bool) -> None:
    for split, count in (("train", 6), ("val", 2), ("test", 3)):
        pairs(tmp_path / split, count)
        for kind in ("images", "masks"):
            place = (kind, split) if inner else (split, kind)
            (tmp_path / "in").joinpath(*place).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / split / kind).rename((tmp_path / "in").joinpath(*place))
    data = load(segmented(tmp_path / "in"), tmp_path / "cache")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 6, "validation": 2, "test": 3}


def test_a_pattern_says_which_mask_belongs_to_an_image(tmp_path: Path) -> None:
    pairs(tmp_path / "in")
    for path in (tmp_path / "in" / "masks").iterdir():
        path.rename(tmp_path / "in" / "images" / f"{path.stem}_mask.png")
    config = segmented(tmp_path / "in", target="images/*_mask")
    assert len(targets(config, tmp_path)) == 9


def test_an_image_without_mask_and_a_mask_without_image_are_named(tmp_path: Path) -> None:
    folder = pairs(tmp_path / "in")
    (folder / "masks" / "03.png").rename(folder / "masks" / "x.png")
    refused(segmented(folder), tmp_path, "images/03.png has no mask")
    (folder / "images" / "03.png").unlink()
    refused(segmented(folder), tmp_path, "masks/x.png has no image")
    refused(segmented(folder, target="labels"), tmp_path, "has no folder 'labels'; its folders: images, masks")


def test_a_mask_of_another_size_than_its_image_is_named(tmp_path: Path) -> None:
    folder = pairs(tmp_path / "in")
    save(folder / "masks" / "04.png", np.zeros((6, 7), np.uint8))
    refused(segmented(folder), tmp_path, "masks/04.png: it has 7 x 6 pixels, and its image has 8 x 6")


def test_a_class_that_training_lacks_is_refused(tmp_path: Path) -> None:
    pairs(tmp_path / "in" / "train")
    pairs(tmp_path / "in" / "validation", 2, values=(0, 1, 7))
    refused(segmented(tmp_path / "in"), tmp_path, "index 7 is not a class of training: 0, 1, 2", "masks/00.png")


def test_classes_are_the_values_of_the_training_masks(tmp_path: Path) -> None:
    found = prepare(segmented(pairs(tmp_path / "in", values=(0, 255))), tmp_path / "cache")
    assert found.material.fitted.classes == ("0", "255")
    assert any("0 50.0%, 255 50.0%" in note for note in found.notes)
    palette = prepare(segmented(pairs(tmp_path / "p", palette=[0, 0, 0, 200, 0, 0, 0, 0, 9])), tmp_path / "cache")
    assert any("0 #000000 33.3%, 1 #c80000 33.3%, 2 #000009 33.3%" in note for note in palette.notes)
    folder = pairs(tmp_path / "rgb")
    for path in (folder / "masks").iterdir():
        Image.open(path).point(lambda value: value * 90).convert("RGB").save(path)
    assert load(segmented(folder), tmp_path / "cache").classes == ("#000000", "#5a5a5a", "#b4b4b4")
    refused(segmented(pairs(tmp_path / "one", values=(4,))), tmp_path, "have the single class 4")


def test_masks_that_were_compressed_with_loss_are_refused(tmp_path: Path) -> None:
    folder = pairs(tmp_path / "in")
    Image.open(folder / "masks" / "00.png").save(folder / "masks" / "00.jpg")
    (folder / "masks" / "00.png").unlink()
    refused(segmented(folder), tmp_path, "masks/00.jpg", "JPEG does not keep the classes exactly")


def test_values_between_classes_are_said(tmp_path: Path) -> None:
    folder = pairs(tmp_path / "in", size=(64, 64), values=(0, 0, 0, 255, 255, 255))
    for path in (folder / "masks").iterdir():
        mask = np.array(Image.open(path))
        mask[2, :40] = np.arange(100, 140)  # an edge between the two
        save(path, mask)
    assert any(
        "40 of the 42 are on less than 0.1% of the pixels" in n
        for n in prepare(segmented(folder), tmp_path / "cache").notes
    )
    many = pairs(tmp_path / "many", size=(64, 64), values=tuple(range(42)))
    assert not any("on less than" in note for note in prepare(segmented(many), tmp_path / "cache").notes)


def test_pixels_to_ignore_count_nowhere(tmp_path: Path) -> None:
    folder = pairs(tmp_path / "in", values=(0, 1, 255))
    notes = prepare(segmented(folder), tmp_path / "cache").notes
    assert any("task.ignore=255 leaves them out" in note for note in notes)
    config = segmented(folder, ignore=255)
    data = load(config, tmp_path / "cache")
    assert data.classes == ("0", "1")
    split = data.split("train")
    assert isinstance(split, Examples)
    assert split.targets[0, :, 0].tolist() == [0, 1, IGNORE] * 2
    assert split.gather(torch.tensor([0])).total == 32
    first, second = (split.gather(torch.tensor([i]), torch.tensor([0, 1])) for i in (0, 1))
    assert first.total == second.total == 64  # of the whole batch, in each process
    assert any("33.3% ignored (255)" in note for note in prepare(config, tmp_path / "cache").notes)


def test_masks_are_resized_to_the_nearest_class(tmp_path: Path) -> None:
    folder = pairs(tmp_path / "in", size=(6, 8))
    config = segmented(folder, size=(12, 4))
    found = targets(config, tmp_path)
    assert found.shape == (9, 12, 4)
    assert found[0, :, 0].tolist() == [0, 0, 1, 1, 2, 2] * 2


def test_augmentation_moves_a_mask_with_its_image(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for i in range(20):  # the image is its mask
        grey = np.random.default_rng(i).integers(0, 2, (10, 10), np.uint8)
        save(folder / "images" / f"{i}.png", grey * 255)
        save(folder / "masks" / f"{i}.png", grey)
    split = load(segmented(folder), tmp_path / "cache").split("train")
    assert isinstance(split, Examples)
    assert split.mean is not None
    assert split.std is not None
    counted, totals = [], []
    for rank in (0, 1):
        batches = list(loader(split, 8, seed=0, augment=True, rank=rank, world_size=2))
        for batch in batches:
            shown = (batch.inputs * split.std + split.mean).round()[:, 0] / 255
            real = batch.targets != IGNORE
            assert not real.all()
            assert torch.equal(shown[real], batch.targets[real].float())
        counted.append([int((batch.targets != IGNORE).sum()) for batch in batches])
        totals.append([batch.total for batch in batches])
    assert totals[0] == totals[1] == [sum(each) for each in zip(*counted, strict=True)]
    assert [batch.total for batch in loader(split, 8, seed=0, augment=True)] == totals[0]


def test_metrics_of_a_segmentation_pool_all_pixels() -> None:
    random = np.random.default_rng(0)
    actual, logits = random.integers(0, 3, (6, 5, 4)), random.normal(size=(6, 4, 5, 4))
    logits[:, 3] = -9  # the fourth class is nowhere
    void = random.random(actual.shape) < 0.2
    optim = OptimConfig(name="adamw", lr=0.1, weight_decay=0)
    sizes = Sizes("images", (1, 5, 4), 4, dense=True)
    own = Segmentation(nn.Linear(1, 1), sizes, optim, {}, classes=("0", "1", "2", "#ff00ff"))
    for part in (slice(0, 4), slice(4, 6)):
        outputs = torch.tensor(logits[part]).float()
        batch = Batch(outputs, torch.tensor(np.where(void, IGNORE, actual)[part]), None, 1)
        own.collect(outputs, batch, own.losses(outputs, batch))
    found = {name: float(value) for name, value in own.metrics("validation").items()}
    guess, real = logits.argmax(1)[~void], actual[~void]
    both = np.array([((guess == k) & (real == k)).sum() for k in range(3)])
    sums = np.array([(guess == k).sum() + (real == k).sum() for k in range(3)])
    assert found["mean_iou"] == pytest.approx((both / (sums - both)).mean(), rel=1e-5)
    assert found["mean_dice"] == pytest.approx((2 * both / sums).mean(), rel=1e-5)
    assert found["iou_2"] == pytest.approx((both / (sums - both))[2], rel=1e-5)
    assert found["dice_0"] == pytest.approx((2 * both / sums)[0], rel=1e-5)
    assert found["pixel_accuracy"] == pytest.approx((guess == real).mean(), rel=1e-5)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    chosen = np.take_along_axis(shares, actual[:, None], 1)[:, 0][~void]
    assert found["loss"] == pytest.approx(-np.log(chosen).mean(), rel=1e-5)
    assert np.isnan(found["iou_ff00ff"])


def test_other_images_are_read_with_the_classes_of_training(tmp_path: Path) -> None:
    config = segmented(pairs(tmp_path / "in", values=(0, 4, 9)), size=6)
    data = load(config, tmp_path / "cache")
    known = Fitted.read(json.loads(json.dumps(data.record["fitted"])))
    known.check(config, data.sizes)
    pairs(tmp_path / "other" / "test", 2, size=(30, 20), values=(9, 4))
    test = load(segmented(tmp_path / "other", size=6), tmp_path / "cache", known).split("test")
    assert isinstance(test, Examples)
    assert test.inputs.shape == (2, 3, 6, 6)
    assert set(test.targets.unique().tolist()) == {1, 2}


def test_the_cnn_gives_logits_for_each_pixel() -> None:
    sizes = Sizes("images", (3, 10, 14), 5, dense=True)
    torch.manual_seed(0)
    model = CNN(lambda features, layout, **_: LayerNorm(features, layout), sizes, width=4, stages=2, depth=1)
    inputs = torch.randn(2, 3, 10, 14)
    logits = model(inputs)
    assert logits.shape == (2, 5, 10, 14)
    kept: list[torch.Tensor] = []
    model.head.register_forward_hook(lambda _m, _i, output: kept.append(output))
    model(inputs)
    expected = F.interpolate(kept[0].movedim(-1, 1), (10, 14), mode="bilinear", align_corners=False)
    torch.testing.assert_close(logits, expected)


def test_images_of_different_sizes_become_their_median(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    sizes = [(8, 10), (12, 6), (10, 9), (9, 30)]
    pixels = [random.integers(0, 256, (*size, 3), np.uint8) for size in sizes * 2]
    for i, each in enumerate(pixels):
        save(tmp_path / "in" / "ab"[i % 2] / f"{i}.png", each)
    config = images(tmp_path / "in", validation=0.2)
    found = prepare(config, tmp_path / "cache")
    assert any("8 to 12 pixels high and 6 to 30 wide: all images are resized to" in note for note in found.notes)
    height, width = found.material.sizes.shape[1:]
    assert height in {size[0] for size in sizes}
    assert width in {size[1] for size in sizes}
    asked = load(images(tmp_path / "in", validation=0.2, size=(5, 7)), tmp_path / "cache")
    train = asked.split("train")
    assert isinstance(train, Examples)
    resized = [np.asarray(Image.fromarray(each).resize((7, 5), Image.Resampling.BILINEAR)) for each in pixels]
    known = {each.transpose(2, 0, 1).tobytes() for each in resized}
    assert {each.numpy().tobytes() for each in train.inputs} <= known


def test_masks_whose_palettes_disagree_are_refused(tmp_path: Path) -> None:
    colours = [0, 0, 0, 200, 0, 0, 0, 0, 9]
    folder = pairs(tmp_path / "in", palette=colours)
    rows = np.array([[0], [1], [2]] * 2, np.uint8).repeat(8, 1)
    save(folder / "masks" / "09.png", rows, palette=[*colours, 7, 7, 7])  # of an index that no mask has
    prepare(segmented(folder), tmp_path / "cache")
    save(folder / "masks" / "09.png", rows, palette=[0, 0, 0, 0, 0, 9, 200, 0, 0])
    refused(segmented(folder), tmp_path, "masks/09.png", "index 1 the colour #000009, and a mask before it #c80000")
    saved = Image.fromarray(rows, mode="P")
    for i in range(9):
        saved.putpalette(colours)
        saved.save(folder / "masks" / f"{i:02}.gif")
        (folder / "masks" / f"{i:02}.png").unlink()
    few = Image.fromarray(np.where(rows == 1, np.uint8(2), rows), mode="P")
    few.putpalette(colours)
    few.save(folder / "masks" / "09.gif")  # with the two colours that it has, renumbered
    (folder / "masks" / "09.png").unlink()
    refused(segmented(folder), tmp_path, "masks/09.gif", "save all masks with one palette, or as colours")


def test_a_mask_is_turned_by_its_own_orientation(tmp_path: Path) -> None:
    folder = pairs(tmp_path / "in")
    upright = targets(segmented(folder), tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 3
    for path in folder.glob("*/*.png"):
        Image.open(path).rotate(180).save(path, exif=exif)
    assert np.array_equal(targets(segmented(folder), tmp_path), upright)
    said = prepare(segmented(folder), tmp_path / "cache").notes
    assert "data: a mask is rotated only by an EXIF orientation of its own: it must fit its rotated image" in said


def test_a_mask_of_several_pages_is_refused(tmp_path: Path) -> None:
    folder = pairs(tmp_path / "in")
    (folder / "masks" / "03.png").unlink()
    page = Image.fromarray(np.zeros((6, 8), np.uint8))
    page.save(folder / "masks" / "03.tif", save_all=True, append_images=[page])
    refused(segmented(folder), tmp_path, "masks/03.tif: it has 2 frames or pages, and a mask is one image")
