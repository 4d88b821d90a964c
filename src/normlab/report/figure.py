"""A chart: a figure whose marks can be told, and how it comes onto the page and into files."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normlab.report.colours import INKS, themed

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
    "xtick.color": INKS["muted"][0],
    "ytick.color": INKS["muted"][0],
    "xtick.labelcolor": INKS["ink"][0],
    "ytick.labelcolor": INKS["ink"][0],
    "legend.frameon": False,
    "path.simplify": True,
}


@dataclass
class Chart:
    """A figure with what its marks say.

    name     of its files and ids
    title    above it
    alt      what is to be seen, in words
    caption  below it, with its n
    marks    id → what a mark is: run, seed, value
    """

    name: str
    title: str
    alt: str
    caption: str
    figure: Figure
    marks: dict[str, str] = field(default_factory=dict)

    def mark(self, text: str) -> str:
        """The id of a new mark."""
        gid = f"m{len(self.marks)}"
        self.marks[gid] = text
        return gid

    def svg(self) -> str:
        """For the page: themed, small, with its marks told."""
        return _for_page(_saved(self.figure, "svg").decode(), self)

    def save(self, folder: Path) -> None:
        """As SVG and PDF, for papers."""
        for kind in ("svg", "pdf"):
            (folder / f"{self.name}.{kind}").write_bytes(_saved(self.figure, kind))


@contextmanager
def drawing() -> Iterator[None]:
    """The look of all charts, within the block alone."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def figure(height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    """An empty figure of the page's width and `height` inches, and its axes, row by row."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = made.subplots(rows, columns, squeeze=False, **options)
    return made, [ax for row in axes for ax in row]


def _saved(figure: Figure, kind: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if figure.canvas is None:
        FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"CreationDate": None}
    with drawing():
        figure.savefig(buffer, format=kind, transparent=True, metadata=metadata)
    return buffer.getvalue()


def _for_page(svg: str, chart: Chart) -> str:
    body = svg[svg.index("<svg") :]
    head, _, body = body.partition(">")
    box = re.search(r'viewBox="([^"]+)"', head)
    assert box is not None
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<defs>\s*</defs>", "", body)
    body = re.sub(r"<[^>]+>", _small, body)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{chart.name}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{chart.name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{chart.name}-\1)", body)
    body = body.replace("xlink:href", "href")
    for gid, text in chart.marks.items():
        body = body.replace(
            f'<g id="{chart.name}-{gid}">',
            f'<g id="{chart.name}-{gid}" class="mark" role="img"><title>{escape(text)}</title>',
        )
    referred = set(re.findall(r"#([\w.-]+)", body))
    body = re.sub(r'<g id="([^"]*)">', lambda m: m[0] if m[1] in referred else "<g>", body)
    body = re.sub(r"\n\s*", "\n", body)
    alt = escape(chart.alt)
    return themed(f'<svg class="chart" viewBox="{box[1]}" role="group" tabindex="0" aria-label="{alt}">{body}')


def _small(tag: re.Match[str]) -> str:
    """A tag with a tenth of a pixel, in the page's own font."""
    text = re.sub(r"font-family:[^;\"]*;? ?", "", tag[0])
    return re.sub(r"-?\d+\.\d\d+", lambda m: f"{float(m[0]):.1f}".removesuffix(".0"), text)
