"""Masks of a segmentation: an index or a colour for each pixel, to class numbers. Imports no torch."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from normlab.config.schema import InputError
from normlab.files import decode as files
from normlab.files.pictures import FORMATS
from normlab.views.columns import Column

IGNORE = 255  # in a stored mask: a pixel that doesn't count
MOST = 255  # classes
RARE = 0.001  # share of the pixels
_LOSSY = ("JPEG", "WEBP", "JPEG2000")


@dataclass(frozen=True)
class Mask:
    """Values [H, W]: indices, or colours as 0xrrggbb; and the colours of a palette, by index."""

    values: NDArray[np.int64]
    colours: bool
    palette: dict[int, str]


def decode(masks: Column, palette: dict[int, str] | None = None) -> list[Mask]:
    """The masks as they are in their files, upright.

    Args:
        masks: their files.
        palette: the colours that masks read before gave to indices; those of these masks are added.

    Raises:
        InputError: one is not a single image, its format does not keep values exactly, or two palettes give an index
            different colours, as programs do that write only the colours which an image has.
    """
    read = [_decode_one(masks, i) for i in range(len(masks))]
    mixed = next((i for i, mask in enumerate(read) if mask.colours != read[0].colours), None)
    if mixed is not None:
        refuse(masks, mixed, f"it has {_kind(read[mixed])}, and the first has {_kind(read[0])}")
    known = {} if palette is None else palette
    for i, mask in enumerate(read):
        for index in np.unique(mask.values).tolist() if mask.palette else ():
            colour = mask.palette.get(index)
            if colour is not None and known.setdefault(index, colour) != colour:
                refuse(
                    masks,
                    i,
                    f"its palette gives index {index} the colour {colour}, and a mask before it {known[index]}, so it "
                    "is unclear which is which class: save all masks with one palette, or as colours (RGB)",
                )
    return read


def refuse(masks: Column, index: int, reason: str) -> NoReturn:
    """Report which mask is wrong, by its path if it has one.

    Raises:
        InputError: always.
    """
    value = masks.values[index]
    path = value.get("path") if isinstance(value, dict) else None
    if path:
        raise InputError(f"mask {path}: {reason}")
    masks.refuse(index, f"the mask is wrong: {reason}")


def classes_of(masks: list[Mask], ignore: int | None, column: Column) -> tuple[str, ...]:
    """The names of the classes: every value in the training masks but `ignore`, in order; colours as #rrggbb.

    Raises:
        InputError: there is only one, or too many, as in a mask that was saved with a lossy format.
    """
    seen = np.unique(np.concatenate([np.unique(mask.values) for mask in masks]))
    values = [int(value) for value in seen if value != ignore]
    if len(values) < 2 or len(values) > MOST:
        few = f"the training masks have the single class {values[0]}" if values else "the training masks have no class"
        many = f"the training masks have {len(values)} different values, more than {MOST} classes"
        column.refuse(0, few if len(values) < 2 else many)
    return tuple(_name(value, masks[0].colours) for value in values)


def encode(masks: list[Mask], classes: tuple[str, ...], ignore: int | None, column: Column) -> list[NDArray[np.uint8]]:
    """Values → class numbers, and `IGNORE`.

    Raises:
        InputError: a value is not a class of the training masks.
    """
    names = {int(name[1:], 16) if name.startswith("#") else int(name): i for i, name in enumerate(classes)}
    known = names | ({} if ignore is None else {ignore: IGNORE})
    found = []
    for i, mask in enumerate(masks):
        values, places = np.unique(mask.values, return_inverse=True)
        for value in values.tolist():
            if value not in known or mask.colours != classes[0].startswith("#"):
                listed = ", ".join(classes[:10]) + ", …" * (len(classes) > 10)
                refuse(column, i, f"{_kind_of(mask)} {_name(value, mask.colours)} is not a class of training: {listed}")
        table = np.array([known[value] for value in values.tolist()], np.uint8)
        found.append(table[places].reshape(mask.values.shape))
    return found


def said(masks: list[Mask], classes: tuple[str, ...], ignore: int | None, numbers: list[NDArray[np.uint8]]) -> str:
    """The classes of the training masks in words, with their colours and their share of the pixels."""
    palette: dict[int, str] = {}
    for mask in masks:
        palette = mask.palette | palette
    counts = Counter[int]()
    for each in numbers:
        counts.update({i: int(count) for i, count in enumerate(np.bincount(each.ravel(), minlength=256))})
    total = sum(counts.values()) or 1
    parts = []
    for i, name in enumerate(classes[:20]):
        colour = "" if name.startswith("#") or int(name) not in palette else f" {palette[int(name)]}"
        parts.append(f"{name}{colour} {counts[i] / total:.1%}")
    text = f"classes by their share of the pixels of training: {', '.join(parts)}{', …' * (len(classes) > 20)}"
    if counts[IGNORE]:
        text += f"; {counts[IGNORE] / total:.1%} ignored ({ignore})"
    elif ignore is not None:
        text += f"; no pixel has the value {ignore} of task.ignore"
    if ignore is None and "255" in classes and len(classes) > 2:
        text += "; 255 often marks pixels that don't count: task.ignore=255 leaves them out"
    rare = sum(counts[i] < RARE * total for i in range(len(classes)))
    if len(classes) > 20 and 2 * rare > len(classes):
        text += (
            f"; {rare} of the {len(classes)} are on less than {RARE:.1%} of the pixels each, as in masks that were "
            "smoothed or resized: values between two classes are none"
        )
    return text


def resized(mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The mask at another height and width; each pixel has the class of the nearest."""
    from PIL import Image

    if mask.shape == size:
        return mask
    return np.asarray(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST))


def _decode_one(masks: Column, index: int) -> Mask:
    from PIL import Image, ImageOps

    value: Any = masks.values[index]
    source = value
    if isinstance(value, dict):
        source = value.get("bytes")
        if not source:
            path = Path(str(value.get("path")))
            files.check_file(path)
            source = path.read_bytes()
    if not isinstance(source, bytes):
        masks.refuse(index, f"a mask expected, found {type(value).__name__} {value!r:.50}")
    try:
        with Image.open(io.BytesIO(source), formats=FORMATS) as image:
            if image.format in _LOSSY:
                refuse(masks, index, f"{image.format} does not keep the classes exactly: save masks as PNG")
            if (frames := getattr(image, "n_frames", 1)) > 1:
                refuse(masks, index, f"it has {frames} frames or pages, and a mask is one image")
            image.load()
            return _values(masks, index, ImageOps.exif_transpose(image))
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        refuse(masks, index, f"it is damaged or can't be read: {error!s:.100}")


def _values(masks: Column, index: int, image: Any) -> Mask:
    if image.mode == "P":
        colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        palette = {i: "#" + bytes(colour).hex() for i, colour in enumerate(colours)}
        return Mask(np.asarray(image).astype(np.int64), False, palette)
    if image.mode in ("1", "L", "I") or image.mode.startswith("I;16"):
        return Mask(np.asarray(image).astype(np.int64), False, {})
    if image.mode in ("RGBA", "LA"):
        if image.getchannel("A").getextrema() != (255, 255):
            refuse(masks, index, "it has transparent pixels; save it without transparency")
        image = image.convert(image.mode[:-1])
        return _values(masks, index, image)
    if image.mode != "RGB":
        refuse(masks, index, f"masks of mode {image.mode} can't be read; save indices or colours as PNG")
    planes = np.asarray(image).astype(np.int64)
    return Mask(planes[..., 0] << 16 | planes[..., 1] << 8 | planes[..., 2], True, {})


def _name(value: int, colours: bool) -> str:
    return f"#{value:06x}" if colours else str(value)


def _kind(mask: Mask) -> str:
    return "colours" if mask.colours else "indices"


def _kind_of(mask: Mask) -> str:
    return "colour" if mask.colours else "index"
