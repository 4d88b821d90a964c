"""The packs of emoji: one vendor's drawings, and another's of the test emoji. From packages' files to rows."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pack_contents import Files, Splits, shuffled, split_by_hash

SIDE = 32  # pixels; the packages' drawings have twice as many
ALIKE = 15  # root mean square difference of two drawings, in grey levels, below which they stay together
LEFT_OUT = ("Flags", "Component")  # near copies of one another under other terms; skin tones without a drawing
PEOPLE = re.compile(r"\b(MAN|MEN|MALE|WOMAN|WOMEN|FEMALE|PERSON|PEOPLE|BOY|GIRL|CHILD|ADULT|MALES|FEMALES)\b|\W")

Pixels = NDArray[np.uint8]


def emoji(files: Files) -> Splits:
    """Google's drawings; emoji that differ little, in name or pixels, are in one split."""
    listed = [one for one in json.loads(files["package/emoji.json"]) if one["category"] not in LEFT_OUT]
    drawn = [drawing(files[f"package/img/google/64/{one['image']}"]) for one in listed]
    groups = _groups([_concept(one) for one in listed], drawn)
    rows = [
        {
            "image": pixels.tobytes(),
            "category": one["category"],
            "name": one["name"].lower(),
            "code": one["unified"],
            "group": listed[group]["unified"],
        }
        for one, pixels, group in zip(listed, drawn, groups, strict=True)
    ]
    return split_by_hash(shuffled(rows, "code"), lambda row: str(row["group"]), validation=(6, 7), test=(8, 9))


def emoji_twitter(files: Files) -> Splits:
    """Twitter's drawings of the test emoji."""
    file = {one["unified"]: one["image"] for one in json.loads(files["package/emoji.json"])}
    rows = emoji(files)["test"]
    return {
        "test": [
            row | {"image": drawing(files[f"package/img/twitter/64/{file[str(row['code'])]}"]).tobytes()}
            for row in rows
        ]
    }


def drawing(png: bytes) -> Pixels:
    """uint8 [3, 32, 32]: on white, each pixel the mean of four. In whole numbers, the same on every machine."""
    rgba = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"), np.int64)
    color, alpha = rgba[..., :3], rgba[..., 3:]
    on_white = color * alpha + 255 * (255 - alpha)
    total = on_white.reshape(SIDE, 2, SIDE, 2, 3).sum((1, 3))
    return np.ascontiguousarray(((total + 510) // 1020).astype(np.uint8).transpose(2, 0, 1))


def _concept(one: dict[str, Any]) -> str:
    """What is left of the name without who it shows: "MAN SHRUGGING" and "PERSON SHRUGGING" → "SHRUGGING"."""
    return one["subcategory"] if one["subcategory"] == "family" else PEOPLE.sub("", one["name"]) or one["name"]


def _groups(concepts: list[str], drawn: list[Pixels]) -> list[int]:
    """For each drawing the first of those that it is linked to by its concept or by its pixels, directly or not."""
    first = list(range(len(drawn)))

    def root(i: int) -> int:
        while first[i] != i:
            i = first[i]
        return i

    pixels = np.stack(drawn).reshape(len(drawn), -1).astype(np.int32)
    limit = ALIKE**2 * pixels.shape[1]
    for i, concept in enumerate(concepts):
        alike = ((pixels[:i] - pixels[i]) ** 2).sum(1, dtype=np.int64) < limit
        for j in range(i):
            if alike[j] or concepts[j] == concept:
                low, high = sorted((root(i), root(j)))
                first[high] = low
    return [root(i) for i in range(len(drawn))]
