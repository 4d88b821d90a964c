"""Encoded or raw images to one uint8 array. Imports no torch."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normlab.data.columns import Column

Pixels = NDArray[np.uint8]
ENCODED = (b"\x89PNG", b"\xff\xd8\xff")  # PNG, JPEG: never raw pixels, whatever their length
PERMUTATION_SEED = 0  # permuted_pixels: one order for all runs, as in Le et al. 2015, arXiv 1504.00941


def decode(images: Column, shape: tuple[int, ...] | None = None) -> Pixels:
    """Images [N, C, H, W] from PNG, JPEG, …, or from the raw bytes of square images, grey or by colour planes.

    `shape` (C, H, W) is the training split's. Without it the first image sets the size, and one colour image
    makes all of them colour.

    Raises:
        InputError: a value is no image, or not of that size.
    """
    decoded = [_decode_one(images, i) for i in range(len(images))]
    if shape is None:
        shape = (max(len(image) for image in decoded), *decoded[0].shape[1:])
    out = np.empty((len(decoded), *shape), np.uint8)
    for i, image in enumerate(decoded):
        if image.shape[1:] != shape[1:] or len(image) > shape[0]:
            found, wanted = (f"{w} x {h} pixels, {'colour' if c == 3 else 'grey'}" for c, h, w in (image.shape, shape))
            images.refuse(i, f"the image has {found}; the first training image sets {wanted}: resize or convert it")
        out[i] = image  # grey repeats over the colours
    return out


def _decode_one(images: Column, index: int) -> Pixels:
    value: Any = images.values[index]
    if isinstance(value, dict):
        encoded = value.get("bytes") or _content(images, index, value["path"])
        return _decode_file(images, index, encoded, value["path"] or f"{len(encoded)} bytes")
    if not isinstance(value, bytes):
        images.refuse(index, f"an image expected, found {type(value).__name__} {value!r:.50}")
    for planes in (1, 3):
        side = math.isqrt(len(value) // planes)
        if side and planes * side * side == len(value) and not value.startswith(ENCODED):
            return np.frombuffer(value, np.uint8).reshape(planes, side, side)
    return _decode_file(images, index, value, f"{len(value)} bytes")


def _content(images: Column, index: int, path: str | None) -> bytes:
    try:
        return Path(str(path)).read_bytes()
    except OSError as error:
        images.refuse(index, f"{path} can't be read: {error.strerror}")


def _decode_file(images: Column, index: int, value: bytes, name: str) -> Pixels:
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(value))
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        images.refuse(index, f"{name}: this is no image (PNG, JPEG, …, or raw square pixels)")
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))[None]
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def moments(images: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each channel [C], over pixels from 0 to 255; exact, from counts."""
    levels = np.arange(256)
    counts = np.stack([np.bincount(channel.ravel(), minlength=256) for channel in images.transpose(1, 0, 2, 3)])
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ levels
    std = np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(1))
    return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def permutation(pixels: int) -> NDArray[np.int64]:
    """The order in which permuted_pixels shows the pixels: a permutation, the same for every data set of that size."""
    return np.random.default_rng(PERMUTATION_SEED).permutation(pixels)
