"""Images are what their files mean: converted by rule, said once, refused by name."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import images, parquet
from PIL import Image, ImageCms

from normlab.config.schema import InputError
from normlab.data.load import load
from normlab.data.store import prepare
from normlab.files.pictures import CONVERTED, DEEP, FIRST, TURNED, WHITE, PictureError, is_encoded, read_picture

RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey(value: np.ndarray, mode: str | None = None) -> Image.Image:
    image = Image.fromarray(value)
    return image.convert(mode) if mode else image


def test_plain_grey_and_colour_are_as_they_are() -> None:
    for kind in ("PNG", "BMP", "TIFF", "PPM", "GIF"):
        picture = read_picture(encoded(grey(RAMP), kind))
        assert (picture.pixels[0] == RAMP).all()
        assert picture.done == ()
    colour = np.stack([RAMP, RAMP[::-1], 255 - RAMP], -1)
    for kind in ("PNG", "BMP", "TIFF", "PPM"):
        picture = read_picture(encoded(Image.fromarray(colour), kind))
        assert (picture.pixels == colour.transpose(2, 0, 1)).all()
        assert picture.done == ()


def test_one_bit_is_black_and_white() -> None:
    picture = read_picture(encoded(grey((RAMP > 100).astype(np.uint8) * 255).convert("1")))
    assert (picture.pixels[0] == (RAMP > 100) * 255).all()


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "L with a key"])
def test_transparency_is_laid_over_white(mode: str) -> None:
    opacity = np.full((3, 4), 255, np.uint8)
    opacity[0, 0], opacity[0, 1] = 0, 128
    if mode == "P":
        image = grey(RAMP).convert("P")
        data = encoded(image, transparency=int(np.asarray(image)[0, 0]))
    elif mode == "L with a key":
        data = encoded(grey(RAMP), transparency=int(RAMP[0, 0]))
    else:
        image = grey(RAMP).convert(mode)
        image.putalpha(Image.fromarray(opacity))
        data = encoded(image)
    picture = read_picture(data)
    assert picture.done == (WHITE,)
    assert len(picture.pixels) == (3 if mode in ("RGBA", "P") else 1)
    assert picture.pixels[0, 0, 0] == 255  # not the black or other colour underneath
    assert picture.pixels[0, 2, 3] == RAMP[2, 3]
    if mode in ("LA", "RGBA"):
        assert picture.pixels[0, 0, 1] == round((20 * 128 + 255 * 127) / 255)


def test_an_opaque_alpha_changes_nothing() -> None:
    picture = read_picture(encoded(grey(RAMP).convert("RGBA")))
    assert (picture.pixels == RAMP).all()
    assert picture.done == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        stored = grey(RAMP).convert("RGB" if kind == "WEBP" else "L")
        picture = read_picture(encoded(stored, kind, exif=exif, **options))
        upright = {
            **{1: RAMP, 2: RAMP[:, ::-1], 3: RAMP[::-1, ::-1], 4: RAMP[::-1]},
            **{5: RAMP.T, 6: np.rot90(RAMP, -1), 7: np.rot90(RAMP, 2).T, 8: np.rot90(RAMP)},
        }[orientation]
        assert picture.pixels.shape[1:] == upright.shape
        assert (picture.pixels[0] == upright).all()
        assert picture.done == (() if orientation == 1 else (TURNED,))


def loaded(path: Path, values: list[np.ndarray], kind: str = "TIFF") -> np.ndarray:
    data = [encoded(Image.fromarray(value), kind) for value in values]
    parquet(path / "in" / "train.parquet", image=data, label=[i % 2 for i in range(len(data))])
    parquet(path / "in" / "validation.parquet", image=data[:2], label=[0, 1])
    made = prepare(images(path / "in"), path / "cache")
    assert any(DEEP in note for note in made.notes)
    return made.material.arrays["train.inputs"][:, 0]


@pytest.mark.parametrize(("top", "kind"), [(65535, "PNG"), (4095, "PNG"), (255, "PNG"), (60000, "TIFF")])
def test_deep_images_are_scaled_by_their_bits(tmp_path: Path, top: int, kind: str) -> None:
    levels = np.linspace(0, top, 64).astype(np.uint16).reshape(8, 8)
    made = loaded(tmp_path, [levels, levels // 2], kind)
    bits = {65535: 65535, 4095: 4095, 255: 255, 60000: 65535}[top]
    assert (made[0] == np.rint(levels / bits * 255)).all()
    assert (made[1] == np.rint((levels // 2) / bits * 255)).all()  # one scale for all


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (-1000, 3000), (0, 1e6)])
def test_float_images_are_scaled_by_the_range_of_training(tmp_path: Path, low: float, high: float) -> None:
    levels = np.linspace(low, high, 16).astype(np.float32).reshape(4, 4)
    made = loaded(tmp_path, [levels, levels])
    assert abs(made[0] - np.linspace(0, 255, 16).reshape(4, 4)).max() <= 0.51


def test_values_beyond_the_training_range_are_clipped_and_said(tmp_path: Path) -> None:
    data = [encoded(Image.fromarray(np.full((4, 4), value, np.float32)), "TIFF") for value in (0, 1, 3)]
    parquet(tmp_path / "in" / "train.parquet", image=data[:2], label=[0, 1])
    parquet(tmp_path / "in" / "validation.parquet", image=data[1:], label=[0, 1])
    made = prepare(images(tmp_path / "in"), tmp_path / "cache")
    assert made.material.arrays["validation.inputs"].ravel().tolist() == [255] * 32
    assert "data: 1 image with values beyond those of the training images: clipped" in made.notes


def test_pixels_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(PictureError, match="not finite"):
        read_picture(encoded(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF"))


def test_other_colour_spaces_become_rgb() -> None:
    cmyk = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    for kind in ("TIFF", "JPEG"):
        picture = read_picture(encoded(cmyk, kind))
        assert picture.pixels[:, 0, 0].tolist() == pytest.approx([255, 0, 0], abs=3)
        assert picture.done == (CONVERTED,)
    lab = ImageCms.applyTransform(
        Image.new("RGB", (4, 4), (250, 250, 250)),
        ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"),
    )
    assert lab is not None
    picture = read_picture(encoded(lab, "TIFF"))
    assert picture.pixels[:, 0, 0].tolist() == pytest.approx([250] * 3, abs=3)
    assert picture.done == (CONVERTED,)


def test_the_first_frame_counts_and_that_is_said() -> None:
    frames = [grey(RAMP), grey(RAMP[::-1].copy())]
    for kind in ("GIF", "TIFF", "PNG"):
        picture = read_picture(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
        assert (picture.pixels[0] == RAMP).all()
        assert picture.done == (FIRST,)


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (10, 5):  # which the library only warns of, or raises at
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(PictureError, match=f"the image has more than {limit} pixels"):
            read_picture(encoded(grey(RAMP)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_damaged_image_is_refused(kind: str) -> None:
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)), kind)
    with pytest.raises(PictureError, match=r"the image is damaged|this is not an image"):
        read_picture(whole[: len(whole) // 2])


def test_a_file_that_runs_other_programs_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(PictureError, match="this is not an image"):
        read_picture(tmp_path / "x.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_an_encoded_image_is_known_whatever_its_length(kind: str) -> None:
    assert is_encoded(encoded(grey(RAMP), kind))
    assert not is_encoded(bytes(16))


def test_the_file_is_named(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "in" / name).mkdir(parents=True)
        grey(RAMP).save(tmp_path / "in" / name / "0.png")
    (tmp_path / "in" / "dog" / "1.png").write_bytes(encoded(grey(RAMP))[:50])
    with pytest.raises(InputError, match=r"row 3, column 'image': .*dog/1\.png: the image is damaged"):
        load(images(tmp_path / "in", validation=0.01), tmp_path / "cache")
