"""Images shifted and flipped at random, as in He et al. 2016 (arXiv:1512.03385) on CIFAR-10."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SHIFT = 4  # pixels, in each direction


def draw(count: int, generator: torch.Generator) -> Tensor:
    """Random changes for each of `count` images: int64 [count, 3], rows and columns cut off, and whether mirrored."""
    cuts = torch.randint(2 * SHIFT + 1, (count, 2), generator=generator)
    return torch.cat([cuts, torch.randint(2, (count, 1), generator=generator)], 1)


def shift_flip(images: Tensor, draws: Tensor, fill: int = 0) -> Tensor:
    """Pad standardised images [B, C, H, W] by `SHIFT` pixels, crop them to their size, and mirror some.

    Args:
        images: standardised, so that 0 is the mean pixel; or masks [B, 1, H, W].
        draws: as `draw` gives them; (4, 4, 0) leaves an image as it is.
        fill: value of the added pixels.
    """
    height, width = images.shape[-2:]
    draws = draws.to(images.device)
    rows = draws[:, :1] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(len(images), width)
    columns = draws[:, 1:2] + torch.where(draws[:, 2:] == 1, columns.flip(1), columns)
    wide = functional.pad(images, (SHIFT,) * 4, value=fill)
    each = torch.arange(len(images), device=images.device)[:, None, None]
    return wide.movedim(1, -1)[each, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
