"""The pixels of one image file, by fixed rules: upright, without transparency, grey or colour. Imports no torch."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000")  # none of these runs other programs
TURNED = "rotated as their EXIF orientation says"
WHITE = "transparent: blended with white"
FIRST = "with several frames or pages: only the first is read"
DEEP = "with more than 8 bits: scaled to 8"
CONVERTED = "CMYK or another colour space: converted to RGB"
CLIPPED = "with values beyond those of the training images: clipped"
_ORIENTATION = 0x0112
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")


class PictureError(ValueError):
    """What is wrong with an image file."""


@dataclass(frozen=True)
class Picture:
    """Pixels [C, H, W], uint8 or a wider type if the file has more than 8 bits; and the rules that were applied."""

    pixels: NDArray[Any]
    done: tuple[str, ...] = ()


def is_encoded(value: bytes) -> bool:
    """Is it an image file, which must not be read as raw pixels even if its length fits?"""
    bitmap = value[:2] == b"BM" and int.from_bytes(value[2:6], "little") == len(value)
    return value.startswith(_MAGIC) or bitmap or (value[:4] == b"RIFF" and value[8:12] == b"WEBP")


def read_picture(source: bytes | Path) -> Picture:
    """The pixels of an image file.

    Raises:
        PictureError: it is not an image, damaged, too large, or has pixels that are not finite.
    """
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
                return _converted(image)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise PictureError(f"the image has more than {Image.MAX_IMAGE_PIXELS} pixels") from None
        except PictureError:
            raise
        except (UnidentifiedImageError, SyntaxError):
            raise PictureError("this is not an image (PNG, JPEG, …, or raw square pixels)") from None
        except Exception as error:  # decoders raise errors of any type for damaged files
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise PictureError(f"the image is damaged or can't be read: {reason:.100}") from None


def _converted(image: Any) -> Picture:
    from PIL import ImageOps

    done = [FIRST] if getattr(image, "n_frames", 1) > 1 and image.format != "MPO" else []
    image.seek(0)
    done += [TURNED] if image.getexif().get(_ORIENTATION, 1) in range(2, 9) else []
    image.load()  # exif_transpose handles a TIFF's orientation, and removes the tag
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise PictureError("some pixels are not finite")
        return Picture(values.astype(np.float32)[None], (*done, DEEP))
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        pixels, transparent = _over_white(image)
        done += [WHITE] if transparent else []
        return Picture(pixels[:1] if grey else pixels, tuple(done))
    if grey:
        return Picture(np.asarray(image.convert("L"))[None], tuple(done))
    done += [CONVERTED] if image.mode not in ("RGB", "P") else []
    return Picture(np.asarray(image.convert("RGB")).transpose(2, 0, 1), tuple(done))


def _over_white(image: Any) -> tuple[NDArray[np.uint8], bool]:
    """The colours [3, H, W] blended with white, and whether anything was transparent."""
    straight = image.convert({"La": "LA"}.get(image.mode, "RGBA")).convert("RGBA")
    pixels = np.asarray(straight).astype(np.uint32).transpose(2, 0, 1)
    colours, opacity = pixels[:3], pixels[3]
    return ((colours * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8), bool((opacity < 255).any())
