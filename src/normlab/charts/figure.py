"""A chart: a figure whose marks have descriptions, drawn on the page and into files."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from xml.etree import ElementTree

import numpy as np

from normlab.charts.colours import INKS, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.4  # inches; the page is as wide
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "normlab",  # the same ids each time
    "pdf.fonttype": 42,
    "font.size": 9.5,
    "font.family": "DejaVu Sans",
    "text.color": INKS["ink"][0],
    "axes.labelcolor": INKS["ink"][0],
    "axes.edgecolor": INKS["muted"][0],
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": INKS["grid"][0],
    "grid.linewidth": 0.8,
    # no tick marks: the grid shows where ticks are, and marks are a twentieth of the page
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.major.pad": 5,
    "ytick.major.pad": 5,
    "xtick.color": INKS["muted"][0],
    "ytick.color": INKS["muted"][0],
    "xtick.labelcolor": INKS["ink"][0],
    "ytick.labelcolor": INKS["ink"][0],
    "legend.frameon": False,
    "path.simplify": True,
    "text.parse_math": False,  # names may contain anything, even $
}


@dataclass
class Shared:
    """What the charts of a page share, so that it stays small; each chart adds its own.

    classes  style → class: marks by the hundred share a style
    symbols  attributes → id: dots of one shape are drawn from one definition, in the chart that needs it first
    ids      how many there are in the page, numbered from 0
    """

    classes: dict[str, str] = field(default_factory=dict)
    symbols: dict[tuple[tuple[str, str], ...], str] = field(default_factory=dict)
    ids: int = 0

    def new_id(self) -> str:
        """An id that no other element of the page has."""
        self.ids += 1
        return f"c{self.ids - 1:x}"


@dataclass
class Chart:
    """A figure with descriptions of its marks.

    name     of its files
    title    above it
    alt      the content, in words
    caption  below it, with its n
    figure   as long as the chart isn't rendered
    marks    id → description of a mark: run, seed, value
    svg      as matplotlib writes it; empty until the chart is rendered
    """

    name: str
    title: str
    alt: str
    caption: str
    figure: Figure
    marks: dict[str, str] = field(default_factory=dict)
    svg: bytes = b""

    def mark(self, text: str) -> str:
        """The id of a new mark."""
        gid = f"m{len(self.marks)}"
        self.marks[gid] = text
        return gid

    def render(self, folder: Path | None) -> None:
        """Make the SVG; and SVG and PDF in `folder`, for papers. After this, the chart can be sent to another process.

        Args:
            folder: None writes no files.
        """
        figure = self.figure
        del self.figure  # drawn once, and dozens of them are large; `clear` takes as long as a tenth of the drawing
        engine = figure.get_layout_engine()
        if engine is not None:
            engine.execute(figure)
            figure.set_layout_engine("none")  # done once, because it is slow
        _unclip(figure)
        self.svg = _saved(figure, "svg")
        if folder is not None:
            as_svg, as_pdf = (folder / f"{self.name}.{kind}" for kind in ("svg", "pdf"))
            if not (as_svg.exists() and as_pdf.exists() and as_svg.read_bytes() == self.svg):  # a PDF is slow
                as_pdf.write_bytes(_saved(figure, "pdf"))
                as_svg.write_bytes(self.svg)

    def picture(self, shared: Shared) -> str:
        """A rendered chart's SVG for the page: themed, small, with its marks described."""
        return _Page(self, shared).written()


@contextmanager
def drawing() -> Iterator[None]:
    """Apply the style of all charts within the block."""
    import matplotlib

    with matplotlib.rc_context(cast("Any", _STYLE)):
        yield


def figure(height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    """An empty figure of the page's width and `height` inches, and its axes, row by row."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = made.subplots(rows, columns, squeeze=False, **options)
    return made, [ax for row in axes for ax in row]


def wrapped(text: str, width: int = 28) -> str:
    """The text in at most four lines of at most so many characters; the rest is cut."""
    return "\n".join(textwrap.wrap(text, width, max_lines=4, placeholder=" …"))


def _unclip(figure: Figure) -> None:
    """Take the clip path, a sixth of its bytes, from every mark that lies within its axes, and from the grid."""
    for ax in figure.axes:
        for grid in (*ax.get_xgridlines(), *ax.get_ygridlines()):  # drawn at ticks within the axes only
            grid.set_clip_on(False)
        (left, right), (low, high) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
        for line in ax.lines:
            points = np.asarray(line.get_xydata(), dtype=float)
            placed = line.get_transform() == ax.transData and len(points) > 0
            if placed and (points >= (left, low)).all() and (points <= (right, high)).all():
                line.set_clip_on(False)


def _saved(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"CreationDate": None}
    figure.savefig(buffer, format=kind, transparent=True, metadata=metadata)
    return buffer.getvalue()


class _Page:
    """Writes a chart's SVG as a part of the page: without what browsers don't need, with ids of its own."""

    def __init__(self, chart: Chart, shared: Shared) -> None:
        self.chart = chart
        self.ids: dict[str, str] = {}
        self.shared = shared
        self.defined: set[str] = set()  # symbols with a definition in the page already

    def written(self) -> str:
        root = ElementTree.fromstring(self.chart.svg)
        text = self.chart.svg.decode()
        own = set(re.findall(r'\bid="([^"]+)"', text))  # not everything after a # is an id: colours aren't
        self._share_symbols(root)
        for name in sorted(own & set(re.findall(r"#([\w.-]+)", text)) - set(self.ids)):
            self.ids[name] = self.shared.new_id()
        body = "".join(map(self._element, root))
        alt = escape(self.chart.alt)
        box = root.get("viewBox", "")
        _, _, width, height = box.split()
        svg_tag = f'<svg class="chart" viewBox="{box}" role="group" tabindex="0" aria-label="{alt}">{body}</svg>'
        return f'<div class="drawing" style="aspect-ratio: {width} / {height}">{svg_tag}</div>'

    def _share_symbols(self, root: ElementTree.Element) -> None:
        symbols = self.shared.symbols
        for symbol in root.iterfind(".//{*}defs/{*}path"):
            name, drawn = symbol.get("id", ""), tuple(self._attributes(symbol))
            if drawn in symbols:
                self.defined.add(name)
            else:
                symbols[drawn] = self.shared.new_id()
            self.ids[name] = symbols[drawn]

    def _element(self, node: ElementTree.Element) -> str:
        tag = node.tag.rpartition("}")[2]
        if tag in ("metadata", "style") or node.get("id") in self.defined:
            return ""
        inner = escape(node.text or "", quote=False).strip() + "".join(map(self._element, node))
        attributes = "".join(f' {k}="{escape(v)}"' for k, v in self._attributes(node))
        if tag == "defs" and not inner:
            return ""
        if tag == "g":
            if node.get("id", "").startswith("matplotlib.axis"):
                inner = _joined(inner)
            told = self.chart.marks.get(node.get("id", ""))
            alone = re.fullmatch(r"<(\w+)([^<>]*)/>", inner)
            # hundreds of marks: no group around a single element; page.js gives them their role
            if told is not None and alone is not None:
                name, own = alone[1], alone[2].replace(' class="', ' class="mark ')
                return f"<{name}{own}><title>{escape(told, quote=False)}</title></{name}>"
            if told is not None:
                return f'<g class="mark" role="img"{attributes}><title>{escape(told, quote=False)}</title>{inner}</g>'
            if not attributes:
                return inner
        return f"<{tag}{attributes}>{inner}</{tag}>" if inner else f"<{tag}{attributes}/>"

    def _attributes(self, node: ElementTree.Element) -> Iterator[tuple[str, str]]:
        for name, value in node.attrib.items():
            key = name.rpartition("}")[2]
            if key == "id":
                if value in self.ids:
                    yield key, self.ids[value]
                continue
            short = re.sub(r"-?\d+\.\d\d+", lambda m: f"{float(m[0]):.1f}".removesuffix(".0"), " ".join(value.split()))
            short = re.sub(r"#([\w.-]+)", lambda m: "#" + self.ids[m[1]] if m[1] in self.ids else m[0], short)
            if key == "style":
                short = themed(re.sub(r"font-family:[^;]*;? ?", "", short)).replace(": ", ":").replace("; ", ";")
                classes = self.shared.classes
                key, short = "class", classes.setdefault(short, f"s{len(classes)}")
            if key == "d":
                short = _shorter(short)
            if key != "transform" or not short.startswith("rotate(-0 "):
                yield key, short


_LINE = re.compile(r'<path d="([^"]+)" class="(\w+)"/>')


def _joined(axis: str) -> str:
    """The same axis with its grid as one path, in the place of the first line."""
    lines: dict[str, list[str]] = {}
    for d, look in _LINE.findall(axis):
        lines.setdefault(look, []).append(d)

    def whole(line: re.Match[str]) -> str:
        return f'<path d="{"".join(lines.pop(line[2]))}" class="{line[2]}"/>' if line[2] in lines else ""

    return _LINE.sub(whole, axis)


def _shorter(d: str) -> str:
    """The same path in fewer bytes: a circle as two arcs, and a line's points relative to the one before."""
    if circle := re.fullmatch(r"M 0 ([\d.]+)(?: C(?: -?[\d.]+){6}){8} z", d):  # as matplotlib draws one
        r = circle[1]
        return f"M0 {r}A{r} {r} 0 0 0 0-{r} {r} {r} 0 0 0 0 {r}"
    pairs = re.sub(r"(?<=\d) L (?=[\d-])", " ", d)  # that follow one another on a line need no letter
    return re.sub(r"M((?: -?[\d.]+ -?[\d.]+){2,})(?= ?[Mz]|$)", lambda line: _relative(line[1].split()), pairs)


def _relative(numbers: list[str]) -> str:
    points = [(round(10 * float(x)), round(10 * float(y))) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
    steps = [_tenths(b - a) for before, here in pairwise(points) for a, b in zip(before, here, strict=True)]
    if len(points) == 2 and "0" in steps:  # a line of the grid
        along, letter = (steps[1], "v") if steps[0] == "0" else (steps[0], "h")
        return f"M{numbers[0]} {numbers[1]}{letter}{along}"
    return f"M{numbers[0]} {numbers[1]}l" + " ".join(steps).replace(" -", "-")


def _tenths(number: int) -> str:
    whole = f"{number / 10:.1f}".removesuffix(".0")
    return re.sub(r"^(-?)0\.", r"\1.", whole)
