"""Charts for a paper's single column: 3.3 inches wide, type of 8 points, as SVG and PDF.

Each row has its words above and its interval below, so that long names don't take width from the numbers.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from normlab.charts.colours import INKS
from normlab.charts.figure import Chart
from normlab.charts.forest import STATES, deciding_findings, forest
from normlab.findings.estimates import margin_of
from normlab.findings.finding import Finding
from normlab.findings.labels import contrast_label
from normlab.findings.verdict import Estimate, Verdict
from normlab.findings.wording import estimate_words, level_words, margin_words, scale_of, unit_of
from normlab.results.words import MARKS, metric_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 3.3  # inches
SIZE = 8  # points
LINE = SIZE * 1.3 / 72  # inches of a line of text
PLOT = 0.18  # inches of an interval
GAP = 0.09  # inches between rows
LETTERS = 51  # characters of a line
INK, MUTED, BAND = INKS["ink"][0], INKS["muted"][0], INKS["band"][0]
_MOST_DOTS = 40
_HARD = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Row:
    """A line of words and the intervals below it: low, mean, high, each on the axis's scale, and seeds."""

    words: list[str]
    bars: list[tuple[float, float, float]]
    dots: list[float]
    colour: str


def columns_of(found: Iterable[tuple[Finding, Verdict | None]]) -> list[Chart]:
    """All claims in one chart, and one for each finding that decides a claim by a number."""
    pairs = list(found)
    charts = [claims(pairs)] if any(v is not None and v.primary for _, v in pairs) else []
    for finding, verdict in deciding_findings(pairs):
        if verdict is not None and any(_is_finite(e) for e in verdict.estimates):
            charts.append(contrasts(finding, verdict))
    return charts


def claims(found: Sequence[tuple[Finding, Verdict | None]]) -> Chart:
    """The six claims in multiples of their margins, compressed like a logarithm."""
    shown = forest(found)
    rows = []
    for claim in shown.claims:
        words = textwrap.wrap(f"{claim.number} {claim.mark} {claim.said}", LETTERS, subsequent_indent="    ")
        bars = [(bar.low, bar.mean, bar.high) for bar in claim.bars]
        words += [] if bars else ["    (exact: no interval)" if claim.state != "none" else "    (not run)"]
        rows.append(Row(words, bars, [], STATES.get(claim.state, (MUTED, MUTED))[0]))
    below = "in multiples of each claim's margin (shaded: too small to matter), compressed like a logarithm"
    chart, ax = _chart(("claims-column", "The claims"), rows, (*shown.band, shown.zero), [below])
    ax.set_xlim(0, 100)
    ax.set_xticks([shown.band[0], shown.zero, shown.band[1]], ["\N{MINUS SIGN}margin", "0", "+margin"])
    return chart


def contrasts(finding: Finding, verdict: Verdict) -> Chart:
    """The deciding contrasts in the metric's unit: seeds, mean, interval, and the margin shaded."""
    rows = []
    finite = [e for e in verdict.estimates if _is_finite(e)]
    for estimate in finite:
        mark = MARKS.get(estimate.state, "")
        numbers = estimate_words(estimate).replace(", ", f",{_HARD}")
        words = f"{mark} {contrast_label(finding, estimate.name)}: {numbers}, n{_HARD}={_HARD}{len(estimate.seeds)}"
        assert estimate.interval is not None
        ends = (estimate.interval.low, estimate.mean, estimate.interval.high)
        low, mean, high = (_shown(value, estimate) for value in ends)
        dots = [_shown(value, estimate) for value in estimate.values[:_MOST_DOTS]]
        rows.append(
            Row(textwrap.wrap(words, LETTERS), [(low, mean, high)], dots, STATES.get(estimate.state, (INK,))[0])
        )
    margin, first = margin_of(finding), finite[0]
    band = (_shown(-margin, first), _shown(margin, first), _shown(0.0, first))
    unit = unit_of(finding.metric, ratio=first.ratio)
    level, least = level_words(verdict.level), margin_words(verdict, finding.metric)
    below = [
        f"{metric_words(finding.metric)}{f', {unit}' if unit else ''}",
        f"{level} intervals, shaded margin: {least}",
    ]
    return _chart((f"{finding.name}-column", finding.title), rows, band, below)[0]


def _is_finite(estimate: Estimate) -> bool:
    return estimate.interval is not None and math.isfinite(estimate.interval.low)


def _shown(value: float, estimate: Estimate) -> float:
    return math.exp(value) if estimate.ratio else value * scale_of(estimate.metric)


def _chart(
    named: tuple[str, str], rows: Sequence[Row], band: tuple[float, float, float], below: Sequence[str]
) -> tuple[Chart, Axes]:
    """The rows from top to bottom, on an axis of inches.

    Args:
        named: name and title.
        band: the ends of the shaded margin, and zero; behind the intervals only, so that nothing crosses the words.
        below: paragraphs below the axis.
    """
    from matplotlib.figure import Figure

    body = sum(LINE * len(row.words) + PLOT * len(row.bars) + GAP for row in rows)
    label = [line for text in below for line in textwrap.wrap(text, LETTERS)]
    foot = (len(label) + 1.5) * LINE + 0.12
    fig = Figure(figsize=(WIDTH, body + foot))
    ax = fig.add_axes((0.03, foot / (body + foot), 0.94, body / (body + foot)))
    y = 0.0
    for row in rows:
        for line in row.words:
            ax.text(0, y + LINE * 0.8, line, fontsize=SIZE, color=INK, transform=ax.get_yaxis_transform())
            y += LINE
        if row.bars:
            ax.fill_betweenx([y, y + PLOT * len(row.bars)], band[0], band[1], color=BAND, lw=0)
            ax.plot([band[2], band[2]], [y, y + PLOT * len(row.bars)], color=MUTED, lw=0.6)
        for low, mean, high in row.bars:
            at = y + PLOT * (0.7 if row.dots else 0.5)  # the seeds' dots above their interval
            ax.plot(row.dots, [y + PLOT * 0.25] * len(row.dots), "o", ms=2.2, color=INK, alpha=0.5, mew=0)
            ax.plot([low, high], [at, at], color=row.colour, lw=1.6, solid_capstyle="butt")
            ax.plot([mean], [at], "D", ms=3.6, color=row.colour)
            y += PLOT
        y += GAP
    ax.set_ylim(body, 0)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.grid(False)
    ax.tick_params(labelsize=SIZE)
    ax.set_xlabel("\n".join(label), fontsize=SIZE)
    return Chart(*named, named[1], "", fig), ax
