"""How charts draw a cell: rows, panel, colour, dash and marker."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from normlab.charts.colours import colour_of
from normlab.charts.figure import Chart, figure
from normlab.findings.finding import Finding
from normlab.findings.formula import Cell
from normlab.findings.labels import condition_words
from normlab.results.sources import StudyResult, cell_of
from normlab.results.words import norm_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DASHES = ["-", "--", ":", "-.", (0, (7, 2, 1, 2, 1, 2)), (0, (9, 3))]
_MARKERS = ["o", "s", "^", "D", "v", "P"]


def rows_in(rows: Sequence[Mapping[str, Any]], cell: Cell) -> list[Mapping[str, Any]]:
    """The rows of one cell."""
    return [row for row in rows if cell_of(row) == cell]


def value_in(row: Mapping[str, Any], metric: str) -> float | None:
    """A finite number of a row, or None."""
    value = row.get(metric)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def panels_of(finding: Finding, cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """One panel per condition, by its name."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(condition_words(finding, cell.condition), []).append(cell)
    return found


def small_multiples(name: str, title: str, panels: Mapping[str, Sequence[Cell]]) -> tuple[Chart, list[Axes]]:
    """A chart with one panel per condition, in two columns."""
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    fig, axes = figure(2.9 * rows if columns == 1 else 2.5 * rows, rows, columns, sharey=True)
    for ax, condition in zip(axes, panels, strict=False):
        ax.set_title(condition)
    for ax in axes[len(panels) :]:
        ax.remove()
    return Chart(name, title, "", "", fig), axes[: len(panels)]


def style_of(finding: Finding, cell: Cell) -> dict[str, Any]:
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


def dot(ax: Axes, x: float, y: float, style: Mapping[str, Any], ms: float = 4, **options: Any) -> None:
    """One mark in a cell's style."""
    ax.plot([x], [y], style["marker"], color=style["color"], ms=ms, **options)


def runs_named(result: StudyResult, ids: Sequence[str]) -> str:
    """`; run a` for the description of a mark. Not of the reference's, whose table has them, as no folder is there."""
    return f"; {'run' if len(ids) == 1 else 'runs'} {', '.join(ids)}" if result.source.own else ""


def key(ax: Axes, arm: str, style: Mapping[str, Any]) -> None:
    """The legend's entry for an arm: line and marker, which are drawn separately."""
    ax.plot([], [], style["marker"], ls=style["dash"], color=style["color"], lw=1.6, ms=4, label=arm)


def legend(chart: Chart, axes: Sequence[Axes]) -> None:
    """One legend for all panels."""
    named: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    chart.figure.legend(
        list(named.values()),
        list(named),
        loc="outside upper left",
        ncols=min(len(named), 5),
        handlelength=3,
        fontsize=9,
    )
