"""The page of `normlab judge`: one contrast of anybody's runs, with every run in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from normlab.charts.colours import INKS, NORMS
from normlab.charts.figure import Chart, Shared, drawing, figure, wrapped
from normlab.findings.verdict import Estimate
from normlab.findings.wording import level_words, number
from normlab.logs.own_runs import Arms
from normlab.report.page import write_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, BAND = INKS["ink"][0], INKS["muted"][0], INKS["band"][0]
COLOURS = (NORMS["layer"][0], NORMS["batch"][0])
MOST = 300  # runs of an arm that have a dot each; of more, bars say how many lie where
BINS = 80


def write_judged(path: Path, arms: Arms, estimate: Estimate, margin: float, lines: Sequence[str]) -> None:
    """The page.

    Args:
        path: of the file.
        arms: the runs.
        estimate: signed so that positive favours the first arm.
        margin: the least difference that matters.
        lines: the verdict as it is printed; the first is the heading.
    """
    with drawing():
        chart = _chart(arms, estimate, margin)
        shared = Shared()
        chart.render(None)
        svg = chart.picture(shared)
    context = {"lines": lines, "chart": chart, "svg": svg, "classes": shared.classes, "state": estimate.state}
    write_page(path, context, "judged.html")


def _chart(arms: Arms, estimate: Estimate, margin: float) -> Chart:
    fig, (above, below) = figure(3.6, 2, 1, height_ratios=[1, 1.5])
    how = "paired by seed" if arms.paired else "unpaired"
    level = f"{level_words(estimate.interval.level)} interval" if estimate.interval is not None else "no interval"
    many = max(map(len, arms.runs)) > MOST
    dots = f"{'Bars' if many else 'Dots'} above: {'how many seeds lie there' if many else 'one seed each'}. "
    below_it = "bars say how many of an arm's runs lie where, with its" if many else "one dot per run, with the arm's"
    chart = Chart(
        name="judged",
        title="What decides",
        alt=f"{arms.names[0]} against {arms.names[1]}: difference of {arms.metric}, and every run.",
        caption=f"{dots if arms.paired else ''}Diamond and line: mean difference and its {level}, {how}. Shaded: "
        f"differences too small to matter. Below: {below_it} mean.",
        figure=fig,
    )
    _difference(above, chart, estimate, margin)
    _runs(below, chart, arms)
    return chart


def _difference(ax: Axes, chart: Chart, estimate: Estimate, margin: float) -> None:
    ax.axvspan(-margin, margin, color=BAND, lw=0, zorder=0)
    ax.axvline(0, color=MUTED, lw=1)
    for edge in (-margin, margin):
        ax.axvline(edge, color=MUTED, lw=1, ls=(0, (4, 3)))
    few = len(estimate.values) <= MOST
    if not few:
        _bars(ax, chart, "seeds", estimate.values, base=0.12, colour=INK)
    for index, (seed, value) in enumerate(list(zip(estimate.seeds, estimate.values, strict=True)) if few else []):
        gid = chart.mark(f"seed {seed}: {_number(value)}")
        ax.plot([value], [0.17 + 0.05 * (index % 3)], "o", color=INK, ms=4.5, alpha=0.6, mew=0, gid=gid)
    if estimate.interval is not None and math.isfinite(estimate.interval.low):
        ends = [estimate.interval.low, estimate.interval.high]
        ax.plot(ends, [0, 0], color=INK, lw=3, solid_capstyle="butt")
    ax.plot([estimate.mean], [0], "D", color=INK, ms=6.5, gid=chart.mark(f"mean difference {_number(estimate.mean)}"))
    ax.set_ylim(-0.4, 0.5)
    ax.set_yticks([])
    ax.set_xlabel(f"difference of {wrapped(estimate.metric, 60)}, in favour of {wrapped(estimate.sides[0], 40)} →")


def _runs(ax: Axes, chart: Chart, arms: Arms) -> None:
    for row, (name, runs, colour) in enumerate(zip(arms.names, arms.runs, COLOURS, strict=True)):
        values = {seed: value for seed, value in runs.items() if math.isfinite(value)}
        few = len(values) <= MOST
        if not few:
            _bars(ax, chart, f"{name}: runs", list(values.values()), base=1 - row - 0.05, colour=colour)
        for index, (seed, value) in enumerate(values.items() if few else []):
            gid = chart.mark(f"{name}, {f'seed {seed}' if arms.paired else f'run {index + 1}'}: {value:.6g}")
            ax.plot([value], [1 - row + 0.1 * (index % 3)], "o", color=colour, ms=4.5, alpha=0.75, mew=0, gid=gid)
        if values:
            mean = sum(values.values()) / len(values)
            ax.plot([mean], [1 - row - 0.2], "D", color=colour, ms=6.5, gid=chart.mark(f"{name}: mean {mean:.6g}"))
    ax.set_ylim(-0.5, 1.6)
    ax.set_yticks([1, 0], [wrapped(name) for name in arms.names])
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(wrapped(arms.metric, 70))


def _bars(ax: Axes, chart: Chart, what: str, values: Sequence[float], *, base: float, colour: str) -> None:
    """How many of the values lie where: a bar for each of some intervals of equal width."""
    counts, edges = np.histogram(values, bins=BINS)
    for count, low, high in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if count:
            gid = chart.mark(f"{count:,} {what} from {low:.4g} to {high:.4g}")
            height = 0.3 * count / counts.max()
            ax.bar(low, height, high - low, base, align="edge", color=colour, alpha=0.6, lw=0, gid=gid)


def _number(value: float) -> str:
    return number(value, "", ratio=False, digits=4)
