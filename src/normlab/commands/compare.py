"""Compare two arms of the runs, paired by seed.

FIRST and SECOND are conditions in pandas' query syntax, each of which selects one run per seed:

    normlab compare "norm == 'layer'" "norm == 'batch'" --where "model=='lstm'"

The interval keeps its level for skewed differences too, and needs eight seeds. It is valid for one look: if you add
seeds until it decides, it doesn't keep its level. A comparison at a learning rate that wasn't tuned for both arms says
little about norms: where an arm has runs at several learning rates, it is compared at its best one, and what is left
out is listed.
"""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from statistics import fmean, stdev

from rich.console import Console

from normlab.command_line.columns import width_of
from normlab.commands.parser import Parser, real
from normlab.findings.wording import in_points, number, scale_of, score_words
from normlab.logs.tuned import at_chosen_rate
from normlab.runs.contrast import Contrast, contrast
from normlab.runs.table import read_runs
from normlab.stats import guarded
from normlab.stats.paired import Interval, sign_flip_test
from normlab.stats.power import MOST
from normlab.stats.sequential import seeds_needed

INDENT = 28  # characters of the labels


def main(arguments: Sequence[str]) -> None:
    """Read the arguments and print the comparison."""
    parser = Parser("compare", __doc__)
    parser.add_argument("first", help="condition of the first arm")
    parser.add_argument("second", help="condition of the second arm")
    parser.add_argument("--metric", default="validation/accuracy", help="default: validation/accuracy")
    parser.add_argument("--where", metavar="CONDITION", help="which runs to consider")
    parser.add_argument("--alpha", type=real(0, 1), default=0.05, help="1 minus the level of intervals (default 0.05)")
    parser.add_argument("--margin", type=real(0, inclusive=True), help="least difference that matters (0.01: a point)")
    parser.add_argument("--diverged", metavar="VALUE", type=real(), help="value to use for a run that diverged")
    parser.add_runs()
    asked = parser.parse_args(arguments)
    frame, said = read_runs(asked.runs, asked.where), []
    for condition in (asked.first, asked.second):
        frame, lines = at_chosen_rate(frame, condition, asked.metric)
        said += lines
    show(asked, contrast(frame, asked.first, asked.second, asked.metric, asked.diverged), said)


def show(asked: argparse.Namespace, pair: Contrast, said: Sequence[str]) -> None:
    d, metric = pair.differences, pair.metric
    n, unit = len(d), " points" * in_points(metric)
    found = guarded.interval(d, asked.alpha) if n >= guarded.LEAST else None
    row("metric", f"{metric}, {n} seeds: {', '.join(map(str, pair.seeds))}")
    for line in said:
        row("", line)
    row(asked.first, f"mean {score_words(fmean(pair.first), metric)}{diverged(pair.diverged[0])}")
    row(asked.second, f"mean {score_words(fmean(pair.second), metric)}{diverged(pair.diverged[1])}")
    row("difference", f"{signed(fmean(d), metric)}{unit}, {interval(found, metric)}")
    row("spread", f"sd {stdev(d) * scale_of(metric):.4g}{unit}")
    if asked.margin is None:  # a test against zero says nothing about a margin
        row("symmetry about 0", f"sign flips p = {sign_flip_test(d):.3g} (least possible {2 / 2**n:.2g})")
    row("each seed", " ".join(signed(difference, metric) for difference in d) + unit)
    if pair.alone:
        row("left out", f"seeds that only one arm has: {', '.join(map(str, pair.alone))}")
    if asked.margin is not None:
        margin = f"{asked.margin * scale_of(metric):.6g}"
        margin += (" point" if margin == "1" else " points") * in_points(metric)
        row("margin", against(asked.margin, found, margin) if found is not None else f"open: {interval(found, metric)}")
        with suppress(ValueError):  # equal differences, from which no number of seeds follows
            needed = seeds_needed(d, asked.margin, asked.alpha) if asked.margin > 0 else MOST
            row("", f"a true difference of {margin} is detected with 80 % probability by "
                f"{'more than ' * (needed >= MOST)}{needed} seeds, by an upper bound on the spread")  # fmt: skip


def signed(difference: float, metric: str) -> str:
    return number(difference, metric, ratio=False, digits=4)


def row(label: str, text: str) -> None:
    """A label and its text, which is wrapped on a terminal."""
    width = width_of(Console()) or 10_000
    lines = textwrap.wrap(text, max(width - INDENT - 1, 20), break_long_words=False) or [""]
    for place, line in enumerate(lines):
        print(f"{label if place == 0 else '':{INDENT}} {line}")


def diverged(count: int) -> str:
    return f", {count} diverged" if count else ""


def interval(found: Interval | None, metric: str) -> str:
    if found is None:
        return f"no interval, which needs {guarded.LEAST} seeds"
    if math.isinf(found.low):
        return "no interval, as all differences are equal"
    return f"{100 * found.level:.4g} % interval {signed(found.low, metric)} to {signed(found.high, metric)}"


def against(margin: float, found: Interval, shown: str) -> str:
    """What the interval says about ±margin, which is shown in the metric's unit."""
    if found.low > margin or found.high < -margin:
        return f"the difference is larger than {shown}"
    if -margin < found.low and found.high < margin:
        return f"the difference is smaller than {shown}, either way"
    return f"undecided: the interval includes {shown} or \N{MINUS SIGN}{shown}"
