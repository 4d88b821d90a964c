"""Two arms of the runs, paired by seed.

FIRST and SECOND are conditions in pandas' query syntax that leave one run a seed:

    normlab compare "norm == 'layer'" "norm == 'batch'" --where "model == 'lstm'" --metric validation/accuracy

The paired t interval is what decides; the rest is for reading. One comparison of a learning rate that was tuned for
neither arm, or for one, says little about norms.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from statistics import fmean

from normlab.commands.parser import Parser, real
from normlab.findings.contrast import Contrast, contrast
from normlab.runs.table import read_runs
from normlab.stats.paired import Comparison, Interval, compare
from normlab.stats.power import MOST, seeds_needed


def main(arguments: Sequence[str]) -> None:
    """Read the arguments and do it."""
    parser = Parser("compare", __doc__)
    parser.add_argument("first", help="condition of the first arm")
    parser.add_argument("second", help="condition of the second arm")
    parser.add_argument("--metric", default="validation/accuracy", help="default: validation/accuracy")
    parser.add_argument("--where", metavar="CONDITION", help="which runs to consider")
    parser.add_argument(
        "--alpha", type=real(0, 1), default=0.05, help="1 minus the level of the intervals (default: 0.05)"
    )
    parser.add_argument(
        "--margin", type=real(0, inclusive=True), help="the smallest difference that matters, in the metric's unit"
    )
    parser.add_argument("--diverged", metavar="VALUE", type=real(), help="value to use for a run that diverged")
    parser.add_runs()
    asked = parser.parse_args(arguments)
    pair = contrast(read_runs(asked.runs, asked.where), asked.first, asked.second, asked.metric, asked.diverged)
    show(asked, pair, compare(pair.differences, asked.alpha))


def show(asked: argparse.Namespace, pair: Contrast, found: Comparison) -> None:
    row("metric", f"{pair.metric}, {found.n} seeds: {', '.join(map(str, pair.seeds))}")
    row(asked.first, f"mean {fmean(pair.first):.4f}{diverged(pair.diverged[0])}")
    row(asked.second, f"mean {fmean(pair.second):.4f}{diverged(pair.diverged[1])}")
    row("difference", f"{found.mean:+.4f}, {interval(found.interval)} (paired t, p = {found.p:.3g})")
    row("other tests", f"sign flips p = {found.sign_flip_p:.3g} (smallest possible {2 / 2**found.n:.2g}), "
        f"bootstrap {interval(found.bootstrap)}, effect {found.effect:+.2f} sd")  # fmt: skip
    row("each seed", " ".join(f"{difference:+.4f}" for difference in pair.differences))
    if pair.alone:
        row("left out", f"seeds that only one arm has: {', '.join(map(str, pair.alone))}")
    if asked.margin is not None:
        row("margin", against(asked.margin, found.interval))
        if found.sd > 0:
            needed = seeds_needed(asked.margin, found.sd, asked.alpha)
            row("", f"a true difference of {asked.margin:g} is detected with 80 % probability by "
                f"{'more than ' * (needed >= MOST)}{needed} seeds at this spread (sd {found.sd:.4f})")  # fmt: skip


def row(label: str, text: str) -> None:
    print(f"{label:28} {text}")


def diverged(count: int) -> str:
    return f", {count} diverged" if count else ""


def interval(found: Interval) -> str:
    return f"{100 * found.level:.4g} % interval {found.low:+.4f} to {found.high:+.4f}"


def against(margin: float, found: Interval) -> str:
    """Where the interval lies, seen from ±margin."""
    if found.low > margin or found.high < -margin:
        return f"the difference is larger than {margin:g}"
    if -margin < found.low and found.high < margin:
        return f"the difference is smaller than {margin:g}, either way"
    return f"undecided: the interval includes {margin:g} or {-margin:g}"
