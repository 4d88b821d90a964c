"""Images with a class for each pixel. Imports no torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from normlab.config.schema import Sizes
from normlab.data import source
from normlab.data.convert import fit_pixels, read_images
from normlab.data.fitted import Fitted
from normlab.data.held_out import check_groups, held_out
from normlab.data.material import Builder, Material
from normlab.files.folders import SPLITS
from normlab.files.pictures import TURNED
from normlab.views import columns, masks
from normlab.views.columns import Column
from normlab.views.images import Size
from normlab.views.masks import Mask
from normlab.views.sequences import Arrays


def segmentation(builder: Builder, read: source.Read, origin: str) -> Material:
    """Images [N, C, H, W] and masks uint8 [N, H, W], both at one size."""
    task, known = builder.task, builder.known
    images: dict[str, Column] = {}
    answers: dict[str, Column] = {}
    groups: dict[str, Column] = {}
    for split in builder.wanted(read):
        with builder.of(split):
            parts = read[split]()
            found, answer = columns.column(parts, str(task.input)), columns.column(parts, str(task.target))
            if task.groups is not None:
                groups[split] = columns.groups(parts, task.groups)
            images[split], answers[split] = found, answer
    check_groups(groups, images, builder)
    if "validation" not in images and "train" in images:
        kept, held = held_out(len(images["train"]), task.validation, groups.get("train"), builder)
        for each in (images, answers):
            each |= {"train": each["train"].take(kept), "validation": each["train"].take(held)}
        builder.held_out = True
    if known is not None:
        images.pop("train", None)
    ordered = {split: images[split] for split in SPLITS if split in images}
    fitted, pixels, sizes = read_images(builder, ordered, known or Fitted())
    palette: dict[int, str] = {}
    arrays: Arrays = {f"{split}.inputs": found for split, found in pixels.items()}
    for split in pixels:
        with builder.of(split):
            decoded = masks.decode(answers[split], palette)
            _check_sizes(answers[split], decoded, sizes[split])
            if fitted.classes is None:
                fitted = replace(fitted, classes=masks.classes_of(decoded, task.ignore, answers[split]))
            numbers = masks.encode(decoded, fitted.classes or (), task.ignore, answers[split])
            if known is None and split == "train":
                builder.said.append(masks.said(decoded, fitted.classes or (), task.ignore, numbers))
            assert fitted.shape is not None
            size = fitted.shape[1:]
            arrays[f"{split}.targets"] = np.stack([masks.resized(each, (size[0], size[1])) for each in numbers])
    if builder.done[TURNED]:
        builder.said.append("a mask is rotated only by an EXIF orientation of its own: it must fit its rotated image")
    if known is None:
        fitted = fit_pixels(task, fitted, pixels["train"])
    assert fitted.shape is not None
    return builder.finish(Sizes("images", fitted.shape, fitted.outputs, dense=True), fitted, arrays, origin)


def _check_sizes(column: Column, decoded: list[Mask], sizes: list[Size]) -> None:
    """Has each mask the size of its image?"""
    for i, (mask, size) in enumerate(zip(decoded, sizes, strict=True)):
        if mask.values.shape != size:
            of_mask, of_image = (f"{width} x {height}" for height, width in (mask.values.shape, size))
            masks.refuse(column, i, f"it has {of_mask} pixels, and its image has {of_image}")
