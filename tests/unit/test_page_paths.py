"""Lines of charts take fewer bytes on the page, and are the same lines."""

from __future__ import annotations

import re
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from normlab.charts.figure import _shorter

TENTHS = st.integers(-9999, 9999)


def drawn(d: str) -> list[tuple[int, int]]:
    """The points of a relative path, in tenths; `h` and `v` are lines along one axis."""
    d = re.sub(r"v(-?[\d.]+)", r"l0 \1", re.sub(r"h(-?[\d.]+)", r"l\1 0", d))
    numbers = [round(10 * float(number)) for number in re.findall(r"-?\d*\.?\d+", d)]
    return list(zip(accumulate(numbers[::2]), accumulate(numbers[1::2]), strict=True))


@given(st.lists(st.tuples(TENTHS, TENTHS), min_size=2, max_size=20), st.booleans())
def test_a_shorter_path_has_the_same_points(points: list[tuple[int, int]], closed: bool):
    written = "M " + " L ".join(f"{x / 10:g} {y / 10:g}" for x, y in points) + (" z" if closed else "")
    short = _shorter(written)
    assert drawn(short) == points
    assert short.endswith("z") == closed


def test_two_lines_stay_two():
    assert _shorter("M 1 2 L 3 2.5 M 1 4 L 0.5 3 L 0 4 z") == "M1 2l2 .5 M1 4l-.5-1-.5 1 z"


def test_a_line_of_the_grid_is_horizontal_or_vertical():
    assert _shorter("M 1 2 L 1 4.5") == "M1 2v2.5"
    assert _shorter("M 5 2 L 1 2") == "M5 2h-4"


def test_a_circle_becomes_two_arcs():
    curve = "M 0 2 C 0.5 2 1 1.8 1.4 1.4 C 1.8 1 2 0.5 2 0 C 2 -0.5 1.8 -1 1.4 -1.4 C 1 -1.8 0.5 -2 0 -2"
    rest = " C -0.5 -2 -1 -1.8 -1.4 -1.4 C -1.8 -1 -2 -0.5 -2 0 C -2 0.5 -1.8 1 -1.4 1.4 C -1 1.8 -0.5 2 0 2 z"
    assert _shorter(curve + rest) == "M0 2A2 2 0 0 0 0-2 2 2 0 0 0 0 2"
