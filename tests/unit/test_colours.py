"""Every norm has a colour of its own."""

from __future__ import annotations

from itertools import combinations

import pytest

from norm_sites import OURS
from normlab.charts.colours import NORMS


def rgb(colour: str) -> list[float]:
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def luminance(colour: str) -> float:
    """Relative luminance, as in WCAG 2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb(colour)]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_every_norm_has_a_colour():
    assert set(NORMS) == set(OURS)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_differ_and_can_be_seen(theme):
    colours = [pair[theme] for pair in NORMS.values()]
    for one, other in combinations(colours, 2):
        assert sum((a - b) ** 2 for a, b in zip(rgb(one), rgb(other), strict=True)) ** 0.5 > 0.08, (one, other)
    background = (1.0, 0.01)[theme]
    for colour in colours:
        light, dark = sorted((luminance(colour), background), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3, colour
