"""The picture in docs/norms.md: which values share a norm's statistics, from the norms' own declarations."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from normlab.commands.norms import names, signature_of

EXAMPLES, CHANNELS, PLACES = 3, 4, 4
LAYOUTS = {"BC": 1, "BTC": PLACES, "BCHW": PLACES}  # places of an example
CELL, GAP, LEFT, ROW = 9, 7, 240, 62
NAMES = 3  # in one line
WIDTHS = {layout: EXAMPLES * (places * CELL + GAP) + 34 for layout, places in LAYOUTS.items()}
SHARED, OTHER, LINE = "#2f6fb5", "#d9d6cf", "#8a8780"

Axes = tuple[str | None, ...]  # of each layout; None: the norm is refused there


def patterns() -> dict[tuple[Axes, bool], list[str]]:
    """The norms by the axes of their statistics, and whether they split the channels into groups."""
    found: dict[tuple[Axes, bool], list[str]] = {}
    for name in names():
        signature = signature_of(name)
        constants = signature.constants
        axes = tuple(constants.get("axes", {}).get(x, "") if x in constants["layouts"] else None for x in LAYOUTS)
        found.setdefault((axes, "groups" in signature.options), []).append(name)
    return found


def shared(layout: str, axes: str, groups: bool) -> set[tuple[int, int, int]]:
    """Cells (example, channel, place) whose values are pooled with those of the first cell."""
    places = LAYOUTS[layout]
    channels = CHANNELS // 2 if groups else CHANNELS
    return {
        (b, c, p)
        for b in range(EXAMPLES if "B" in axes else 1)
        for c in range(channels if "C" in axes else 1)
        for p in range(places if set(axes) & set("HWT") else 1)
    }


def picture() -> str:
    """The picture as SVG, with light and dark backgrounds in mind."""
    rows = list(patterns().items())
    width, height = LEFT + sum(WIDTHS.values()), 46 + ROW * len(rows) + 6
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="DejaVu Sans, sans-serif" font-size="11" role="img">',
        "<title>Which values share their statistics</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *_heads(),
    ]
    for number, ((axes, groups), norms) in enumerate(rows):
        lines += _row(46 + ROW * number, axes, groups, norms)
    return "\n".join([*lines, "</svg>", ""])


def _heads() -> Iterator[str]:
    x = LEFT
    for layout, width in WIDTHS.items():
        inner = {"BC": "C", "BTC": "C by T", "BCHW": "C by (H, W)"}[layout]
        yield f'<text x="{x}" y="18" font-weight="bold">{layout}</text>'
        if layout != "BC":
            yield f'<text x="{x}" y="34" fill="{LINE}">{EXAMPLES} examples, {inner}</text>'
        x += width


def _row(top: int, axes: Axes, groups: bool, norms: list[str]) -> Iterator[str]:
    for line, first in enumerate(range(0, len(norms), NAMES)):
        text = escape(", ".join(norms[first : first + NAMES])) + ("," if first + NAMES < len(norms) else "")
        yield f'<text x="8" y="{top + 14 + 15 * line}">{text}</text>'
    x = LEFT
    for layout, own in zip(LAYOUTS, axes, strict=True):
        yield from _block(x, top, layout, own, groups)
        x += WIDTHS[layout]


def _block(left: int, top: int, layout: str, axes: str | None, groups: bool) -> Iterator[str]:
    if not axes:
        yield f'<text x="{left}" y="{top + 22}" fill="{LINE}">{"refused" if axes is None else "no statistics"}</text>'
        return
    pooled = shared(layout, axes, groups)
    for b in range(EXAMPLES):
        for c in range(CHANNELS):
            for p in range(LAYOUTS[layout]):
                x, y = left + b * (LAYOUTS[layout] * CELL + GAP) + p * CELL, top + c * CELL
                fill = SHARED if (b, c, p) in pooled else OTHER
                yield f'<rect x="{x}" y="{y}" width="{CELL - 1}" height="{CELL - 1}" fill="{fill}"/>'
    yield f'<text x="{left}" y="{top + 50}" fill="{LINE}">{_said(axes, groups)}</text>'


def _said(axes: str, groups: bool) -> str:
    return ", ".join("C/G" if letter == "C" and groups else letter for letter in axes)
