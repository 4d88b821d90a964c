"""Encoded or raw images to one uint8 array, of one size. Imports no torch."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normlab.files import decode as files
from normlab.files.pictures import CLIPPED, Picture, PictureError, is_encoded, read_picture
from normlab.views.columns import Column

Pixels = NDArray[np.uint8]
Size = tuple[int, int]  # height and width
Range = tuple[float, float]  # the values that become 0 and 255, for images of more than 8 bits
PERMUTATION_SEED = 0  # for permuted_pixels, one order for all runs, as in Le et al. 2015, arXiv 1504.00941
_TOPS = (255.0, 4095.0, 65535.0)  # of 8, 12 and 16 bits


def read(images: Column, done: Counter[str]) -> list[NDArray[Any]]:
    """Pixels [C, H, W] of each image: PNG, JPEG, …, or the raw bytes of square images, grey or by colour planes.

    Args:
        images: encoded images, paths of them, or raw pixels.
        done: counts the images that a rule has changed.

    Raises:
        InputError: a value is not an image.
    """
    decoded = [_decode_one(images, i) for i in range(len(images))]
    done.update(rule for picture in decoded for rule in picture.done)
    return [picture.pixels for picture in decoded]


def common_size(decoded: list[NDArray[Any]], size: int | Size | None) -> tuple[Size, str | None]:
    """Height and width for all images, and how all are resized to it, in words; None: they have that size.

    Args:
        decoded: the training images.
        size: as the user wants it; None: that of the images, or their median if they differ.
    """
    if size is not None:
        wanted = (size, size) if isinstance(size, int) else size
        return wanted, f"task.size={_by(wanted)}: all images are resized to it"
    found = {pixels.shape[1:] for pixels in decoded}
    if len(found) == 1:
        height, width = found.pop()
        return (height, width), None
    heights, widths = (sorted(pixels.shape[axis] for pixels in decoded) for axis in (1, 2))
    median = (heights[len(heights) // 2], widths[len(widths) // 2])
    extent = f"{heights[0]} to {heights[-1]} pixels high and {widths[0]} to {widths[-1]} wide"
    return median, (
        f"the training images are {extent}: all images are resized to {_by(median)}, the median (height x width); "
        "task.size sets another"
    )


def packed(
    images: Column, decoded: list[NDArray[Any]], shape: tuple[int, ...], values: Range | None, done: Counter[str]
) -> Pixels:
    """One array [N, C, H, W] of images that have one size.

    Args:
        images: their column, for messages.
        decoded: as `read` gives them.
        shape: (C, H, W) of the training split; grey images repeat over the colours.
        values: the range of the training split's values, for images of more than 8 bits.
        done: counts the images that a rule has changed.

    Raises:
        InputError: an image has another size, or colours and the training images have none.
    """
    out = np.empty((len(decoded), *shape), np.uint8)
    for i, pixels in enumerate(decoded):
        if pixels.shape[1:] != shape[1:] or len(pixels) > shape[0]:
            found, wanted = (f"{w} x {h} pixels, {'colour' if c == 3 else 'grey'}" for c, h, w in (pixels.shape, shape))
            images.refuse(
                i,
                f"the image has {found}; the training images have {wanted}: resize or convert it, or train with "
                "task.size=HEIGHT, which resizes all images",
            )
        out[i] = pixels if pixels.dtype == np.uint8 else _scaled(pixels, values, done)
    return out


def resized(decoded: list[NDArray[Any]], size: Size, done: Counter[str]) -> list[NDArray[Any]]:
    """All images at one height and width, stretched if need be, antialiased."""
    from PIL import Image

    def one(pixels: NDArray[Any]) -> NDArray[Any]:
        if pixels.shape[1:] == size:
            return pixels
        done[f"resized to {_by(size)}"] += 1
        planes = [Image.fromarray(plane).resize((size[1], size[0]), Image.Resampling.BILINEAR) for plane in pixels]
        return np.stack([np.asarray(plane) for plane in planes])

    return [one(pixels) for pixels in decoded]


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


def value_range(decoded: list[NDArray[Any]]) -> Range | None:
    """The range of the images of more than 8 bits; None if there are none."""
    return _range([pixels for pixels in decoded if pixels.dtype != np.uint8])


def _range(deep: list[NDArray[Any]]) -> Range | None:
    """One range for all images of more than 8 bits: the smallest usual one that includes all values, or their own."""
    if not deep:
        return None
    low, high = float(min(pixels.min() for pixels in deep)), float(max(pixels.max() for pixels in deep))
    if low < 0:
        return low, max(high, low + 1)
    if 0 < high <= 1:
        return 0.0, 1.0
    return 0.0, next((top for top in _TOPS if high <= top), high)


def _scaled(pixels: NDArray[Any], values: Range | None, done: Counter[str]) -> Pixels:
    low, high = values or _range([pixels]) or (0.0, 255.0)
    if pixels.min() < low or pixels.max() > high:
        done[CLIPPED] += 1
    shares = (np.clip(pixels.astype(np.float64), low, high) - low) / (high - low)
    return np.rint(shares * 255).astype(np.uint8)


def _decode_one(images: Column, index: int) -> Picture:
    value: Any = images.values[index]
    if isinstance(value, dict):
        encoded, path = value.get("bytes"), value.get("path")
        if encoded:
            return _read(images, index, encoded, path or f"{len(encoded)} bytes")
        file = Path(str(path))
        if not file.exists():
            images.refuse(index, f"{path} can't be read: No such file or directory")
        files.check_file(file)
        return _read(images, index, file, str(path))
    if not isinstance(value, bytes):
        images.refuse(index, f"an image expected, found {type(value).__name__} {value!r:.50}")
    for planes in (1, 3):
        side = math.isqrt(len(value) // planes)
        if side and planes * side * side == len(value) and not is_encoded(value):
            return Picture(np.frombuffer(value, np.uint8).reshape(planes, side, side))
    return _read(images, index, value, f"{len(value)} bytes")


def _read(images: Column, index: int, source: bytes | Path, name: str) -> Picture:
    try:
        return read_picture(source)
    except PictureError as error:
        images.refuse(index, f"{name}: {error}")


def moments(images: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each channel [C], over pixels from 0 to 255; exact, from counts."""
    levels = np.arange(256)
    counts = np.stack([np.bincount(channel.ravel(), minlength=256) for channel in images.transpose(1, 0, 2, 3)])
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ levels
    std = np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(1))
    return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def permutation(pixels: int) -> NDArray[np.int64]:
    """The order of the pixels in permuted_pixels: a permutation, the same for every data set of that size."""
    return np.random.default_rng(PERMUTATION_SEED).permutation(pixels)
