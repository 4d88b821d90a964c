"""The charts of a finding: the deciding contrasts, tuning, training, and the probes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from normlab.charts.colours import INKS
from normlab.charts.contrasts import deciding
from normlab.charts.figure import Chart, figure, wrapped
from normlab.charts.marks import dot, key, legend, panels_of, rows_in, runs_named, small_multiples, style_of, value_in
from normlab.findings.finding import Finding
from normlab.findings.formula import Cell
from normlab.findings.labels import label
from normlab.findings.wording import in_points
from normlab.results.sources import StudyResult, cell_of
from normlab.results.words import INSIDE, compact, metric_words, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED = INKS["ink"][0], INKS["muted"][0]
MOST_SEEDS = 8  # at most so many seed lines per condition and cell
MOST_POINTS = 80  # of the curves of one finding that have a dot and a description, or the page gets large
MOST_DOTS = 144  # of the probes of one finding
MOST_LINES = 48  # of single seeds in the curves of one finding
_BY_CHANCE = {"inside/tid_mean": "inside/tid_mean_iid", "inside/tid_var": "inside/tid_var_iid"}


def charts_of(finding: Finding, results: Sequence[StudyResult], committed: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """All charts for which there are data.

    Args:
        results: the one that the section is about, then the one to compare with.
        committed: tuning rows of the reference, for a study that took its rates from there.
    """
    result = results[0]
    made = [
        deciding(finding, results),
        rates(finding, result, committed),
        curves(finding, result),
        inside(finding, result),
    ]
    return [chart for chart in made if chart is not None]


def rates(finding: Finding, result: StudyResult, committed: Sequence[Mapping[str, Any]]) -> Chart | None:
    """The score of each cell at each learning rate, and the chosen rate."""
    if finding.tune is None:
        return None
    tuned = result.tuned or _committed(finding, result, committed)
    tuned = [row for row in tuned if isinstance(row.get("point"), int | float)]
    cells = [cell for cell in finding.cells if rows_in(tuned, cell)]
    tried = sorted({float(row["point"]) for row in tuned})
    if not cells or len(tried) < 2:  # a single rate is not tuning
        return None
    panels = panels_of(finding, cells)
    chart, axes = small_multiples(f"{finding.name}-rates", "How it was tuned", panels)
    metric, lost, ended, seeds = finding.tune.by, 0, 0, set()
    for ax, group in zip(axes, panels.values(), strict=True):
        for cell in group:
            style = style_of(finding, cell)
            means = {}
            for point in sorted({float(row["point"]) for row in rows_in(tuned, cell)}):
                rows = [row for row in rows_in(tuned, cell) if float(row["point"]) == point]
                seeds |= {row["seed"] for row in rows}
                values = [v for row in rows if (v := value_in(row, metric)) is not None]
                lost += len(rows) - len(values)
                ended += sum(map(bool, map(_ended, rows)))
                if values and len(values) == len(rows) and not any(map(_ended, rows)):
                    means[point] = float(np.mean(values))
                for row in rows:
                    score = value_in(row, metric)
                    if score is not None:
                        shown = f"{compact(score, metric)}{_ended(row)}{runs_named(result, [row['id']])}"
                        text = f"{label(finding, cell)}, rate {point:g}, seed {row['seed']}: {shown}"
                        dot(ax, point, score, style, gid=chart.mark(text))
            ax.plot(list(means), list(means.values()), ls=style["dash"], color=style["color"], lw=1.6)
            key(ax, label(finding, Cell(cell.arm)), style)
            taken = {float(row["point"]) for row in rows_in(result.rows, cell) if value_in(row, "point") is not None}
            for chosen in taken & set(means):
                text = f"{label(finding, cell)}: rate {chosen:g} was chosen, mean {compact(means[chosen], metric)}"
                ax.plot([chosen], [means[chosen]], "o", mfc="none", mec=INK, ms=11, mew=1.4, gid=chart.mark(text))
        ax.set_xscale("log")
        every = 1 if len(axes) == 1 or len(tried) < 5 else 2
        ax.set_xticks(tried, [f"{point:g}" if n % every == 0 else "" for n, point in enumerate(tried)])
        ax.minorticks_off()
        ax.margins(x=0.1)  # so that the labels of neighbours don't touch
        ax.set_xlabel("learning rate" if finding.tune.option == "optim.lr" else finding.tune.option)
    _scored(axes, metric, finding)
    legend(chart, axes)
    chart.caption = (
        f"Dots: one tuning seed each, n = {len(seeds)}; none is a reporting seed. Ring: the chosen rate."
        + (f" {lost} tuning runs diverged and are not drawn; a rate with a diverged run has no mean." if lost else "")
        + (f" {ended} were ended early: their dots are what they had reached." if ended else "")
    )
    chart.alt = f"{with_unit(metric, finding)} against learning rate, for {_listed(finding, cells)}."
    return chart


def _ended(row: Mapping[str, Any]) -> str:
    """Where a tuning run was ended early; empty if it wasn't."""
    return f", ended early at step {row.get('steps')}" if row.get("outcome") == "paused" else ""


def _scored(axes: Sequence[Axes], metric: str, finding: Finding) -> None:
    """The vertical axes: the metric's name, and accuracies in per cent."""
    axes[0].set_ylabel(wrapped(with_unit(metric, finding), 24))
    for ax in axes if in_points(metric) else []:
        ax.yaxis.set_major_formatter(lambda value, _: compact(value, metric).replace("-", "\N{MINUS SIGN}"))


def _committed(
    finding: Finding, result: StudyResult, committed: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The reference's tuning of the same cells, by this finding if possible, otherwise by another."""
    cells = {row.get("cell"): cell_of(row) for row in result.rows}
    found = [row for row in committed if row.get("cell") in cells]
    found = [row for row in found if row["finding"] == finding.name] or found
    return [{**row, "arm": cells[row["cell"]].arm, "condition": cells[row["cell"]].condition} for row in found]


def curves(finding: Finding, result: StudyResult) -> Chart | None:
    """Validation over training: the mean of the seeds and the band from the lowest to the highest."""
    metric = _curve_metric(finding, result.curves)
    cells = [cell for cell in finding.cells if _has(result.curves, cell, metric)]
    shown = (row for cell in cells for row in rows_in(result.curves, cell))
    validated = {int(row["step"]) for row in shown if value_in(row, metric) is not None}
    if len(validated) < 2:  # a single validation is no curve
        return None
    panels = panels_of(finding, cells)
    chart, axes = small_multiples(f"{finding.name}-curves", "How it trained", panels)
    seeds: set[int] = set()
    lines = min(max(MOST_LINES // len(cells), 2), MOST_SEEDS)
    for ax, group in zip(axes, panels.values(), strict=True):
        for cell in group:
            style = style_of(finding, cell)
            by_step: dict[int, list[float]] = {}
            for row in rows_in(result.curves, cell):
                value = value_in(row, metric)
                if value is not None:
                    by_step.setdefault(int(row["step"]), []).append(value)
                    seeds.add(int(row["seed"]))
            steps = sorted(by_step)
            low, high, mean = ([float(f(by_step[step])) for step in steps] for f in (min, max, np.mean))
            ax.fill_between(steps, low, high, color=style["color"], alpha=0.14, lw=0)
            ax.plot(steps, mean, ls=style["dash"], color=style["color"], lw=1.6)
            key(ax, label(finding, Cell(cell.arm)), style)
            for at in _spread(len(steps), MOST_POINTS // len(cells)):
                step, value = steps[at], mean[at]
                n = len(by_step[step])
                span = f", from {compact(min(by_step[step]), metric)} to {compact(max(by_step[step]), metric)}"
                text = f"{label(finding, cell)}, step {step:,}: mean {compact(value, metric)}{span}, n = {n}"
                dot(ax, step, value, style, ms=3.5, gid=chart.mark(text))
            _seed_lines(ax, chart, _Drawn(result, cell, label(finding, cell), style), metric, most=lines)
        ax.set_xlabel("training step")
    _scored(axes, metric, finding)
    legend(chart, axes)
    chart.caption = (
        f"Line: mean of n = {len(seeds)} seeds. Thin lines: one seed each, at most {lines} per cell. "
        "Band: from the lowest to the highest. "
        "The mean at a step is over the seeds logged there. Dots: steps whose numbers are shown."
    )
    chart.alt = f"{with_unit(metric, finding)} over training steps, for {_listed(finding, cells)}."
    return chart


def _spread(n: int, most: int) -> list[int]:
    """At most `most`, and at least two, of n positions, as far apart as possible, with the first and the last."""
    return sorted({round(at) for at in np.linspace(0, n - 1, min(n, max(2, most)))})


def inside(finding: Finding, result: StudyResult) -> Chart | None:
    """The probes' values at the reported checkpoint: one panel per quantity, one dot per seed."""
    names = [f"inside/{name}" for name in INSIDE]
    found = [name for name in names if any(value_in(row, name) is not None for row in result.rows)]
    cells = [cell for cell in finding.cells if any(_has(result.rows, cell, name) for name in found)]
    if not found:
        return None
    columns = 2
    lines = [wrapped(label(finding, cell), 24) for cell in reversed(cells)]
    height = 0.75 + (0.32 if any("\n" in line for line in lines) else 0.24) * len(cells)
    fig, axes = figure(height * math.ceil(len(found) / columns), math.ceil(len(found) / columns), columns, sharey=True)
    chart = Chart(f"{finding.name}-inside", "Why: what happened inside", "", "", fig)
    seeds = min(max(MOST_DOTS // (len(found) * len(cells)), 3), MOST_SEEDS)
    for ax, name in zip(axes, found, strict=False):
        for place, cell in enumerate(reversed(cells)):
            _seen(
                ax, chart, _Drawn(result, cell, label(finding, cell), style_of(finding, cell)), name, place, most=seeds
            )
        ax.set_title(metric_words(name), fontsize=9)
        _few_ticks(ax, [v for row in result.rows if (v := value_in(row, name)) is not None])
        ax.set_ylim(-0.7, len(cells) - 0.3)
        ax.grid(axis="y", visible=False)
    for ax in axes[len(found) :]:
        ax.remove()
    axes[0].set_yticks(range(len(cells)), lines)
    chance = " Hollow diamond: the value expected by chance alone." if set(found) & set(_BY_CHANCE) else ""
    lacking = any(
        all(value_in(row, name) is None for row in rows_in(result.rows, cell)) for cell in cells for name in found
    )
    chart.caption = (
        f"Dots: one seed each, at most {seeds} of {_counted(result, cells)}. Bar: the median of all.{chance}"
        f"{' Dash: no value.' * lacking} "
        "Exploratory: it shows what accompanies the result, not necessarily its cause."
    )
    seen = ", ".join(metric_words(name) for name in found)
    chart.alt = f"Probes inside the networks: {seen}, for {_listed(finding, cells)}."
    return chart


class _Drawn(NamedTuple):
    """A cell of a study and how it is drawn."""

    result: StudyResult
    cell: Cell
    name: str
    style: Mapping[str, Any]


def _seen(ax: Axes, chart: Chart, drawn: _Drawn, name: str, place: float, *, most: int) -> None:
    """A probe's values in a cell's runs, on one line: of at most so many seeds, and the median of all."""
    result, cell, _, style = drawn
    rows = rows_in(result.rows, cell)
    values = [v for row in rows if (v := value_in(row, name)) is not None]
    ax.plot(values[:most], [place] * len(values[:most]), style["marker"], color=style["color"], ms=4.5, alpha=0.8)
    by_chance = [v for row in rows if (v := value_in(row, _BY_CHANCE.get(name, ""))) is not None]
    if by_chance:
        middle = float(np.median(by_chance))
        text = f"{metric_words(name)}, {drawn.name}: {compact(middle)} expected by chance alone, n = {len(by_chance)}"
        ax.plot([middle], [place], "D", mfc="none", mec=INK, ms=5, mew=1.2, gid=chart.mark(text))
    if values:
        middle = float(np.median(values))
        span = f"from {compact(min(values))} to {compact(max(values))}, n = {len(values)}"
        text = f"{metric_words(name)}, {drawn.name}: median {compact(middle)}, {span}"
        ax.plot([middle] * 2, [place - 0.3, place + 0.3], color=style["color"], lw=2, gid=chart.mark(text))
    else:
        ax.text(0.02, place, "\N{EN DASH}", transform=ax.get_yaxis_transform(), color=MUTED, va="center")


def _few_ticks(ax: Axes, values: Sequence[float]) -> None:
    """Are the labels few and short enough not to overlap in half the page's width?"""
    from matplotlib.ticker import LogLocator, NullFormatter

    if min(values) > 0 and max(values) / min(values) > 30:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(numticks=5))
        ax.xaxis.set_minor_formatter(NullFormatter())  # its own writes formulas, which are shown as they are written
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "\N{MINUS SIGN}"))
    elif min(values) == max(values):
        ax.set_xticks([values[0]], [f"{values[0]:g}"])
    else:
        ax.locator_params(axis="x", nbins=4)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:.4g}".replace("-", "\N{MINUS SIGN}"))


def _curve_metric(finding: Finding, rows: Sequence[Mapping[str, Any]]) -> str:
    """The curve of the finding's metric, or of the one it is tuned by, or of the loss."""
    wanted = [finding.metric.rpartition("/")[2], finding.tune.by.rpartition("/")[2] if finding.tune else "", "loss"]
    for name in wanted:
        if any(value_in(row, f"validation/{name}") is not None for row in rows):
            return f"validation/{name}"
    return ""


def _seed_lines(ax: Axes, chart: Chart, drawn: _Drawn, metric: str, *, most: int) -> None:
    result, cell, _, style = drawn
    for seed in sorted({row["seed"] for row in rows_in(result.curves, cell)})[:most]:
        own = sorted((r for r in rows_in(result.curves, cell) if r["seed"] == seed), key=lambda r: r["step"])
        points = [(int(row["step"]), v) for row in own if (v := value_in(row, metric)) is not None]
        if len(points) > 1:
            step, value = points[-1]
            run = runs_named(result, [str(own[0].get("id", ""))])
            text = f"{drawn.name}, seed {seed}: {compact(value, metric)} at step {step:,}{run}"
            look = {"ls": style["dash"], "color": style["color"], "lw": 0.7, "alpha": 0.45}
            ax.plot(*zip(*points, strict=True), **look, gid=chart.mark(text))


def _has(rows: Sequence[Mapping[str, Any]], cell: Cell, metric: str) -> bool:
    return any(value_in(row, metric) is not None for row in rows_in(rows, cell))


def _counted(result: StudyResult, cells: Sequence[Cell]) -> str:
    counts = {len(rows_in(result.rows, cell)) for cell in cells}
    return f"n = {min(counts)}" if len(counts) == 1 else f"n = {min(counts)} to {max(counts)}"


def _listed(finding: Finding, cells: Sequence[Cell]) -> str:
    return ", ".join(label(finding, cell) for cell in cells)
