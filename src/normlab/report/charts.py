"""The charts of a finding: what decides, how it was tuned, how it trained, and what happened inside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from normlab.findings.finding import Finding
from normlab.findings.formula import Cell, Formula, parse
from normlab.findings.verdict import Estimate, margin_of
from normlab.report.colours import INKS, OTHER, colour_of
from normlab.report.figure import Chart, figure
from normlab.report.sources import Look
from normlab.report.words import (
    compact,
    is_ratio,
    metric_words,
    norm_of,
    number,
    run_phrase,
    shown_formula,
    with_unit,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, BAND = INKS["ink"][0], INKS["muted"][0], INKS["band"][0]
MOST_SEEDS = 12  # a condition has at most that many seed lines a cell
_DASHES = ["-", "--", ":", "-."]
_MARKERS = ["o", "s", "^", "D", "v", "P"]
_INSIDE = ("gradient", "activation", "tid_mean", "tid_var", "cosine", "stable_rank", "gain_drift", "dead")
_BY_CHANCE = {"inside/tid_mean": "inside/tid_mean_iid", "inside/tid_var": "inside/tid_var_iid"}


def charts_of(finding: Finding, looks: Sequence[Look], committed: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """All that there are data for.

    Args:
        looks: the one that the section is about, then the other to compare with.
        committed: tuning rows of the reference, for a study that took its rates from there.
    """
    look = looks[0]
    made = [
        deciding(finding, looks),
        rates(finding, look, committed),
        curves(finding, look),
        inside(finding, look),
    ]
    return [chart for chart in made if chart is not None]


def deciding(finding: Finding, looks: Sequence[Look]) -> Chart | None:
    """Each contrast: its seeds, its mean and interval, and the margin; the other study's interval beneath."""
    verdict = looks[0].verdict
    if verdict is None or not verdict.estimates:
        return None
    estimates = verdict.estimates
    fig, (ax,) = figure(1.15 + 0.5 * len(estimates) + 0.2 * (len(looks) > 1))
    level = f"{100 * estimates[0].interval.level:.1f}".removesuffix(".0")
    chart = Chart(
        name=f"{finding.name}-contrasts",
        title="What decides",
        alt="",
        caption=f"Dots: one seed each. Diamond and bar: mean and {level} % interval, paired by seed; "
        + f"{run_phrase(looks[0])}. {_margin_caption(finding)}"
        + (f" Hollow square and thin bar: {looks[1].source.name}." if len(looks) > 1 else ""),
        figure=fig,
    )
    others = {e.name: e for e in looks[1].verdict.estimates} if len(looks) > 1 and looks[1].verdict else {}
    _margins(ax, finding)
    for row, estimate in enumerate(estimates):
        _contrast(ax, finding, looks[0], estimate, len(estimates) - 1 - row, chart)
        if estimate.name in others:
            _other(ax, finding, looks[1], others[estimate.name], len(estimates) - 1 - row, chart)
    ax.set_yticks(range(len(estimates)), [_wrapped(e.name) for e in reversed(estimates)])
    ax.set_ylim(-0.6, len(estimates) - 0.4)
    ax.grid(axis="y", visible=False)
    ratio = finding.rule == "ratio"
    unit = "factor" if ratio else "difference"
    ax.set_xlabel(_wrapped(f"{with_unit(finding.metric)}: {unit}, in favour of the claim →", 70))
    if ratio:
        _factor_ticks(ax)
    chart.alt = "Contrasts of the finding. " + "; ".join(f"{e.name}: {number(finding, e)}" for e in estimates) + "."
    return chart


def rates(finding: Finding, look: Look, committed: Sequence[Mapping[str, Any]]) -> Chart | None:
    """The score of each cell at each learning rate, and the rate that was taken."""
    if finding.tune is None:
        return None
    tuned = look.tuned or _committed(finding, look, committed)
    tuned = [row for row in tuned if isinstance(row.get("point"), int | float)]
    cells = [cell for cell in finding.cells if _of(tuned, cell)]
    if not cells:
        return None
    panels = _panels(cells)
    chart, axes = _small_multiples(f"{finding.name}-rates", "How it was tuned", panels)
    metric, lost, seeds = finding.tune.by, 0, set()
    for ax, group in zip(axes, panels.values(), strict=True):
        for cell in group:
            style = _style(finding, cell)
            means = {}
            for point in sorted({float(row["point"]) for row in _of(tuned, cell)}):
                rows = [row for row in _of(tuned, cell) if float(row["point"]) == point]
                seeds |= {row["seed"] for row in rows}
                values = [v for row in rows if (v := _value(row, metric)) is not None]
                lost += len(rows) - len(values)
                if values and len(values) == len(rows):
                    means[point] = float(np.mean(values))
                for row in rows:
                    score = _value(row, metric)
                    if score is not None:
                        text = f"{cell}, rate {point:g}, seed {row['seed']}: {compact(score)}; run {row['id']}"
                        ax.plot([point], [score], style["marker"], color=style["color"], ms=4, gid=chart.mark(text))
            ax.plot(list(means), list(means.values()), style["dash"], color=style["color"], lw=1.6, label=str(cell.arm))
            taken = {float(row["point"]) for row in _of(look.rows, cell) if _value(row, "point") is not None}
            for chosen in taken & set(means):
                text = f"{cell}: rate {chosen:g} was taken, mean {compact(means[chosen])}"
                ax.plot([chosen], [means[chosen]], "o", mfc="none", mec=INK, ms=11, mew=1.4, gid=chart.mark(text))
        ax.set_xscale("log")
        ax.set_xlabel("learning rate" if finding.tune.option == "optim.lr" else finding.tune.option)
    axes[0].set_ylabel(_wrapped(with_unit(metric), 24))
    _legend(chart, axes)
    chart.caption = (
        f"Dots: one tuning seed each, n = {len(seeds)}, never a reporting seed. Ring: the rate that was taken."
        + (f" {lost} tuning runs diverged and are not drawn; a rate at which one did has no mean." if lost else "")
    )
    chart.alt = f"{with_unit(metric)} against learning rate, for {', '.join(map(str, cells))}."
    return chart


def _committed(finding: Finding, look: Look, committed: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The reference's tuning of the same choices, by this finding if it did it, as cells of this finding."""
    cells = {row.get("cell"): _cell_of(row) for row in look.rows}
    found = [row for row in committed if row.get("cell") in cells]
    found = [row for row in found if row["finding"] == finding.name] or found
    return [{**row, "arm": cells[row["cell"]].arm, "condition": cells[row["cell"]].condition} for row in found]


def curves(finding: Finding, look: Look) -> Chart | None:
    """Validation over training: the mean of the seeds and the band from the lowest to the highest."""
    metric = _curve_metric(finding, look.curves)
    cells = [cell for cell in finding.cells if any(_value(row, metric) is not None for row in _of(look.curves, cell))]
    if not metric or not cells:
        return None
    panels = _panels(cells)
    chart, axes = _small_multiples(f"{finding.name}-curves", "How it trained", panels)
    seeds: set[int] = set()
    for ax, group in zip(axes, panels.values(), strict=True):
        for cell in group:
            style = _style(finding, cell)
            by_step: dict[int, list[float]] = {}
            for row in _of(look.curves, cell):
                value = _value(row, metric)
                if value is not None:
                    by_step.setdefault(int(row["step"]), []).append(value)
                    seeds.add(int(row["seed"]))
            steps = sorted(by_step)
            low, high, mean = ([float(f(by_step[step])) for step in steps] for f in (min, max, np.mean))
            ax.fill_between(steps, low, high, color=style["color"], alpha=0.14, lw=0)
            ax.plot(steps, mean, style["dash"], color=style["color"], lw=1.6, label=str(cell.arm))
            for step, value in zip(steps, mean, strict=True):
                n = len(by_step[step])
                span = f", from {compact(min(by_step[step]))} to {compact(max(by_step[step]))}"
                text = f"{cell}, step {step:,}: mean {compact(value)}{span}, n = {n}"
                ax.plot([step], [value], style["marker"], color=style["color"], ms=3.5, gid=chart.mark(text))
            _seed_lines(ax, chart, look, cell, metric, style)
        ax.set_xlabel("training step")
    axes[0].set_ylabel(_wrapped(with_unit(metric), 24))
    _legend(chart, axes)
    chart.caption = (
        f"Line: mean of n = {len(seeds)} seeds. Thin lines: one seed each. Band: from the lowest to the highest. "
        "A mean takes the seeds that have the step."
    )
    chart.alt = f"{with_unit(metric)} over training steps, for {', '.join(map(str, cells))}."
    return chart


def inside(finding: Finding, look: Look) -> Chart | None:
    """What the probes saw at the checkpoint that was reported: a panel a quantity, a dot a seed."""
    names = [f"inside/{name}" for name in _INSIDE]
    found = [name for name in names if any(_value(row, name) is not None for row in look.rows)]
    cells = [
        cell for cell in finding.cells if any(_value(row, n) is not None for row in _of(look.rows, cell) for n in found)
    ]
    if not found:
        return None
    columns = 2
    height = 0.75 + 0.24 * len(cells)
    fig, axes = figure(height * math.ceil(len(found) / columns), math.ceil(len(found) / columns), columns, sharey=True)
    chart = Chart(f"{finding.name}-inside", "Why: what happened inside", "", "", fig)
    for ax, name in zip(axes, found, strict=False):
        for row_number, cell in enumerate(reversed(cells)):
            style = _style(finding, cell)
            values = []
            for row in _of(look.rows, cell):
                value = _value(row, name)
                if value is None:
                    continue
                values.append(value)
                text = f"{metric_words(name)}, {cell}, seed {row['seed']}: {compact(value)}; run {row['id']}"
                ax.plot(
                    [value],
                    [row_number],
                    style["marker"],
                    color=style["color"],
                    ms=4.5,
                    alpha=0.8,
                    gid=chart.mark(text),
                )
            by_chance = [v for row in _of(look.rows, cell) if (v := _value(row, _BY_CHANCE.get(name, ""))) is not None]
            if by_chance:
                mean = float(np.mean(by_chance))
                text = f"{metric_words(name)}, {cell}: {compact(mean)} would be chance alone, n = {len(by_chance)}"
                ax.plot([mean], [row_number], "D", mfc="none", mec=INK, ms=5, mew=1.2, gid=chart.mark(text))
            if values:
                ax.plot([float(np.mean(values))] * 2, [row_number - 0.3, row_number + 0.3], color=style["color"], lw=2)
        ax.set_title(metric_words(name), fontsize=9)
        shown = [v for row in look.rows if (v := _value(row, name)) is not None]
        if min(shown) > 0 and max(shown) / min(shown) > 30:
            ax.set_xscale("log")
        ax.set_ylim(-0.7, len(cells) - 0.3)
        ax.grid(axis="y", visible=False)
    for ax in axes[len(found) :]:
        ax.remove()
    axes[0].set_yticks(range(len(cells)), [str(cell) for cell in reversed(cells)])
    chance = " Hollow diamond: what chance alone would give." if set(found) & set(_BY_CHANCE) else ""
    chart.caption = (
        f"Dots: one seed each, {_counted(look, cells)}. Bar: their mean.{chance} "
        "Exploratory: it tells what goes with what, not why."
    )
    seen = ", ".join(metric_words(name) for name in found)
    chart.alt = f"Probes inside the networks: {seen}, for {', '.join(map(str, cells))}."
    return chart


def _contrast(ax: Axes, finding: Finding, look: Look, estimate: Estimate, y: float, chart: Chart) -> None:
    colour = _plus_colour(finding, estimate)
    seeds = estimate.seeds
    for index, (seed, value) in enumerate(zip(seeds, estimate.values, strict=True)):
        jitter = 0.17 + 0.05 * (index % 3)
        runs = ", ".join(
            str(row["id"])
            for row in look.rows
            if row["seed"] == seed and _cell_of(row) in parse(estimate.formula).weights
        )
        shown = f"{math.exp(value):.4g} times" if is_ratio(finding, estimate) else f"{value:+.4g}"
        text = f"{estimate.name}, seed {seed}: {shown}; runs {runs}"
        ax.plot([value], [y + jitter], "o", color=colour, ms=4.5, alpha=0.75, mew=0, gid=chart.mark(text))
    low, high = estimate.interval.low, estimate.interval.high
    text = f"{estimate.name}: {shown_formula(finding, estimate)} = {number(finding, estimate)}, n = {len(seeds)}"
    ax.plot([low, high], [y, y], color=INK, lw=3, solid_capstyle="butt")
    ax.plot([estimate.mean], [y], "D", color=INK, ms=6.5, gid=chart.mark(text))


def _other(ax: Axes, finding: Finding, look: Look, estimate: Estimate, y: float, chart: Chart) -> None:
    text = f"{look.source.name}, {estimate.name}: {number(finding, estimate)}, n = {len(estimate.seeds)}"
    ax.plot([estimate.interval.low, estimate.interval.high], [y - 0.24] * 2, color=MUTED, lw=1.4)
    ax.plot([estimate.mean], [y - 0.24], "s", mfc="none", mec=MUTED, ms=5.5, mew=1.4, gid=chart.mark(text))


def _margins(ax: Axes, finding: Finding) -> None:
    margin = margin_of(finding)
    ax.axvline(0, color=MUTED, lw=1)
    ax.axvspan(-margin, margin, color=BAND, lw=0, zorder=0)
    ax.axvline(margin, color=MUTED, lw=1, ls=(0, (4, 3)))
    ax.axvline(-margin, color=MUTED, lw=1, ls=(0, (4, 3)))


def _margin_caption(finding: Finding) -> str:
    if finding.rule == "equivalence":
        return f"Shaded: ±{finding.margin:g}, within which the arms count as equal."
    if finding.rule == "ratio":
        return f"Shaded: differences too small to matter, a factor below {finding.margin:g} either way."
    return f"Shaded: differences too small to matter, within ±{finding.margin:g}."


def _factor_ticks(ax: Axes) -> None:
    """Round factors on an axis of logarithms."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    low, high = (math.exp(min(max(bound, -300), 300)) for bound in ax.get_xlim())
    ticks = (
        LogLocator(numticks=7).tick_values(low, high)
        if high / low > 20
        else MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    )
    shown = [float(tick) for tick in ticks if low <= tick <= high and tick > 0]
    limits = ax.get_xlim()
    ax.set_xticks([math.log(tick) for tick in shown], [f"{tick:g}\N{MULTIPLICATION SIGN}" for tick in shown])
    ax.set_xlim(*limits)


def _plus_colour(finding: Finding, estimate: Estimate) -> str:
    """Of the norm that the contrast favours if it is positive; ink where that is no single norm."""
    formula = parse(estimate.formula)
    sign = -1 if finding.better == "lower" else 1
    norms = {norm_of(finding, cell) for cell in _cells(formula, sign) if cell.arm in finding.arms}
    return colour_of(next(iter(norms))) if len(norms) == 1 else OTHER


def _cells(formula: Formula, sign: int) -> list[Cell]:
    return [cell for cell, weight in formula.weights.items() if weight == sign]


def _cell_of(row: Mapping[str, Any]) -> Cell:
    return Cell(row["arm"], row["condition"])


def _of(rows: Sequence[Mapping[str, Any]], cell: Cell) -> list[Mapping[str, Any]]:
    return [row for row in rows if _cell_of(row) == cell]


def _value(row: Mapping[str, Any], metric: str) -> float | None:
    value = row.get(metric)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _panels(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """One panel a condition."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.condition, []).append(cell)
    return found


def _small_multiples(name: str, title: str, panels: Mapping[str, Sequence[Cell]]) -> tuple[Chart, list[Axes]]:
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    fig, axes = figure(2.9 * rows if columns == 1 else 2.5 * rows, rows, columns, sharey=True)
    for ax, condition in zip(axes, panels, strict=False):
        ax.set_title(condition)
    for ax in axes[len(panels) :]:
        ax.remove()
    return Chart(name, title, "", "", fig), axes[: len(panels)]


def _style(finding: Finding, cell: Cell) -> dict[str, str]:
    """Colour by norm; arms that share a norm differ by dash and marker."""
    arms = list(finding.arms)
    norm = norm_of(finding, cell)
    same = [arm for arm in arms if norm_of(finding, Cell(arm, cell.condition)) == norm]
    index = same.index(cell.arm)
    return {
        "color": colour_of(norm),
        "dash": _DASHES[index % len(_DASHES)],
        "marker": _MARKERS[index % len(_MARKERS)],
    }


def _legend(chart: Chart, axes: Sequence[Axes]) -> None:
    named: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    chart.figure.legend(
        list(named.values()), list(named), loc="outside upper left", ncols=min(len(named), 6), fontsize=9
    )


def _curve_metric(finding: Finding, rows: Sequence[Mapping[str, Any]]) -> str:
    """Of what the finding looks at or is tuned by, else the loss."""
    wanted = [finding.metric.rpartition("/")[2], finding.tune.by.rpartition("/")[2] if finding.tune else "", "loss"]
    for name in wanted:
        if any(_value(row, f"validation/{name}") is not None for row in rows):
            return f"validation/{name}"
    return ""


def _seed_lines(ax: Axes, chart: Chart, look: Look, cell: Cell, metric: str, style: Mapping[str, str]) -> None:
    for seed in sorted({row["seed"] for row in _of(look.curves, cell)})[:MOST_SEEDS]:
        own = sorted((r for r in _of(look.curves, cell) if r["seed"] == seed), key=lambda r: r["step"])
        points = [(int(row["step"]), v) for row in own if (v := _value(row, metric)) is not None]
        if points:
            text = (
                f"{cell}, seed {seed}: {compact(points[-1][1])} at step {points[-1][0]:,}; run {own[0].get('id', '')}"
            )
            ax.plot(
                *zip(*points, strict=True),
                style["dash"],
                color=style["color"],
                lw=0.7,
                alpha=0.45,
                gid=chart.mark(text),
            )


def _counted(look: Look, cells: Sequence[Cell]) -> str:
    counts = {len(_of(look.rows, cell)) for cell in cells}
    return f"n = {min(counts)}" if len(counts) == 1 else f"n = {min(counts)} to {max(counts)}"


def _wrapped(text: str, width: int = 28) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))
