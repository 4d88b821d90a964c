"""The chart of the deciding contrasts: each one's seeds, mean and interval, compared with the margin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from normlab.charts.colours import INKS, OTHER, colour_of
from normlab.charts.figure import Chart, figure, wrapped
from normlab.charts.marks import runs_named
from normlab.findings.estimates import margin_of
from normlab.findings.finding import Finding
from normlab.findings.formula import parse
from normlab.findings.labels import contrast_label
from normlab.findings.verdict import Estimate
from normlab.findings.wording import (
    estimate_words,
    formula_words,
    in_points,
    level_words,
    margin_words,
    scale_of,
    value_words,
)
from normlab.results.sources import StudyResult, cell_of
from normlab.results.words import metric_words, norm_of, run_phrase, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, BAND = INKS["ink"][0], INKS["muted"][0], INKS["band"][0]
MOST_TICKS = 7
_LEADING = ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,))  # digits of factors, from many to few


def deciding(finding: Finding, results: Sequence[StudyResult]) -> Chart | None:
    """Each contrast: its seeds, its mean and interval, and the margin; the other study's interval beneath."""
    verdict = results[0].verdict
    if verdict is None or not verdict.estimates:
        return None
    estimates = verdict.estimates
    fig, (ax,) = figure(1.15 + 0.5 * len(estimates) + 0.2 * (len(results) > 1))
    level = level_words(verdict.level)
    chart = Chart(
        name=f"{finding.name}-contrasts",
        title="What decides",
        alt="",
        caption=f"Dots: one seed each. Diamond and bar: mean and {level} interval, paired by seed; "
        + f"{run_phrase(results[0])}. {_margin_caption(finding)}"
        + (f" Hollow square and thin bar, cut at the edges: {results[1].source.name}." if len(results) > 1 else ""),
        figure=fig,
    )
    others = {e.name: e for e in results[1].verdict.estimates} if len(results) > 1 and results[1].verdict else {}
    _margins(ax, finding)
    for row, estimate in enumerate(estimates):
        y = len(estimates) - 1 - row
        _contrast(ax, chart, y, _Shown(finding, results[0], estimate))
        if estimate.name in others:
            _other(ax, chart, y, _Shown(finding, results[1], others[estimate.name]))
    ax.set_xlim(*_within(ax.get_xlim(), finding, estimates, [e.mean for e in others.values()]))
    ax.set_yticks(range(len(estimates)), [wrapped(contrast_label(finding, e.name)) for e in reversed(estimates)])
    ax.set_ylim(-0.6, len(estimates) - 0.4)
    ax.grid(axis="y", visible=False)
    kind = "factor" if finding.rule == "ratio" else "difference"
    points = in_points(finding.metric) and finding.rule != "ratio"
    name = f"{metric_words(finding.metric)} (points)" if points else with_unit(finding.metric, finding)
    ax.set_xlabel(f"{wrapped(name, 70)}\n{kind}, in favour of the claim →")
    if points:
        scale = scale_of(finding.metric)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value * scale:.4g}".replace("-", "\N{MINUS SIGN}"))
    if finding.rule == "ratio":
        low, high = ax.get_xlim()
        ticks = round_factors(*(math.exp(min(max(bound, -300), 300)) for bound in (low, high)))
        ax.set_xticks([math.log(tick) for tick in ticks], [f"{tick:g}\N{MULTIPLICATION SIGN}" for tick in ticks])
        ax.set_xlim(low, high)
    chart.alt = (
        "Contrasts of the finding. "
        + "; ".join(f"{contrast_label(finding, e.name)}: {estimate_words(e)}" for e in estimates)
        + "."
    )
    return chart


class _Shown(NamedTuple):
    """A contrast of a study."""

    finding: Finding
    result: StudyResult
    estimate: Estimate


def _contrast(ax: Axes, chart: Chart, y: float, shown: _Shown) -> None:
    finding, result, estimate = shown
    colour = favoured_colour(finding, estimate)
    seeds = estimate.seeds
    for index, (seed, value) in enumerate(zip(seeds, estimate.values, strict=True)):
        jitter = 0.17 + 0.05 * (index % 3)
        cells = parse(estimate.formula).weights
        ids = [str(row.get("id", "")) for row in result.rows if row["seed"] == seed and cell_of(row) in cells]
        run = runs_named(result, ids)
        text = f"{contrast_label(finding, estimate.name)}, seed {seed}: {value_words(estimate, value)}{run}"
        ax.plot([value], [y + jitter], "o", color=colour, ms=4.5, alpha=0.75, mew=0, gid=chart.mark(text))
    named = contrast_label(finding, estimate.name)
    text = f"{named}: {formula_words(finding, estimate)} = {estimate_words(estimate)}, n = {len(seeds)}"
    if _ends(estimate):
        ax.plot(_ends(estimate), [y, y], color=INK, lw=3, solid_capstyle="butt")
    ax.plot([estimate.mean], [y], "D", color=INK, ms=6.5, gid=chart.mark(text))


def _other(ax: Axes, chart: Chart, y: float, shown: _Shown) -> None:
    _, result, estimate = shown
    named = contrast_label(shown.finding, estimate.name)
    text = f"{result.source.name}, {named}: {estimate_words(estimate)}, n = {len(estimate.seeds)}"
    if _ends(estimate):
        ax.plot(_ends(estimate), [y - 0.24] * 2, color=MUTED, lw=1.4)
    ax.plot([estimate.mean], [y - 0.24], "s", mfc="none", mec=MUTED, ms=5.5, mew=1.4, gid=chart.mark(text))


def _ends(estimate: Estimate) -> list[float]:
    """The limits of the interval, if they are finite."""
    found = [] if estimate.interval is None else [estimate.interval.low, estimate.interval.high]
    return found if all(map(math.isfinite, found)) else []


def _within(
    limits: tuple[float, float], finding: Finding, estimates: Sequence[Estimate], others: Sequence[float]
) -> tuple[float, float]:
    """Axis limits at which this study is readable, even if the other's intervals are wide."""
    margin = margin_of(finding)
    shown = [bound for e in estimates for bound in (*e.values, *_ends(e))]
    low, high = min(*shown, *others, -margin), max(*shown, *others, margin)
    beside = 0.25 * (high - low)
    return max(limits[0], low - beside), min(limits[1], high + beside)


def _margins(ax: Axes, finding: Finding) -> None:
    margin = margin_of(finding)
    ax.axvline(0, color=MUTED, lw=1)
    ax.axvspan(-margin, margin, color=BAND, lw=0, zorder=0)
    ax.axvline(margin, color=MUTED, lw=1, ls=(0, (4, 3)))
    ax.axvline(-margin, color=MUTED, lw=1, ls=(0, (4, 3)))


def _margin_caption(finding: Finding) -> str:
    margin = margin_words(finding, finding.metric)
    if finding.rule == "equivalence":
        return f"Shaded: ±{margin}, within which the arms are considered equal."
    if finding.rule == "ratio":
        return f"Shaded: differences too small to matter, at most {margin} in either direction."
    return f"Shaded: differences too small to matter, within ±{margin}."


def round_factors(low: float, high: float) -> list[float]:
    """Round factors between two bounds, at most seven, including 1 if it is between them."""
    from matplotlib.ticker import MaxNLocator

    if high / low < 2.5:
        near = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        return [float(tick) for tick in near if low <= tick <= high]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for leading in _LEADING:
        ticks = [digit * 10.0**power for power in powers for digit in leading]
        shown = [tick for tick in ticks if low <= tick <= high]
        if len(shown) <= MOST_TICKS:
            return shown
    step = math.ceil(len(powers) / MOST_TICKS)
    return [10.0**power for power in powers if power % step == 0 and low <= 10.0**power <= high]


def favoured_colour(finding: Finding, estimate: Estimate) -> str:
    """The colour of the norm that the contrast favours if positive; ink if that is not a single norm."""
    favoured = [cell for cell, weight in parse(estimate.formula).weights.items() if weight == 1]
    norms = {norm_of(finding, cell) for cell in favoured if cell.arm in finding.arms}
    return colour_of(next(iter(norms))) if len(norms) == 1 else OTHER
