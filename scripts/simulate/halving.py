"""Halving against tuning in full, on the tuning runs that are recorded for whole grids.

Run by python scripts/simulate/halving.py (a second). The runs are those of results/reference/tuning.csv (two seeds) and
of scripts/simulate/tuning_runs.csv (further seeds of sorted_batches). Every order of a cell's seeds is replayed: the
rounds see the first seeds of that order, tuning in full sees all.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise, permutations
from pathlib import Path

from page import table, write

from normlab.config.shipped import CONF, REFERENCE
from normlab.findings.read import read_finding
from normlab.findings.tuning import TuningScores
from normlab.folder.study_table import read_rows
from normlab.study.reference import reference_rates

MORE = Path(__file__).with_name("tuning_runs.csv")
Scores = dict[float, dict[int, float]]  # point → seed → score


def recorded() -> dict[tuple[str, str], Scores]:
    """Of each finding's tuned arm, the scores with the seeds that every point has."""
    cells: dict[tuple[str, str], Scores] = defaultdict(lambda: defaultdict(dict))
    for row in [*reference_rates(REFERENCE), *read_rows(MORE)]:
        cells[row["finding"], row["arm"]][row["point"]][row["seed"]] = row["validation/accuracy"]
    for scores in cells.values():
        whole = set.intersection(*(set(seeds) for seeds in scores.values()))
        for point, seeds in scores.items():
            scores[point] = {seed: seeds[seed] for seed in sorted(whole)}
    return cells


def halved(scores: Scores, order: tuple[int, ...], rounds: list[int]) -> float:
    """The point that the rounds choose."""
    points, known = sorted(scores), TuningScores({}, "max")
    for before, upto in pairwise([0, *rounds]):
        points = known.better_half(points, before) if before else points
        if not points:
            break
        more = {point: [scores[point][seed] for seed in order[:upto]] for point in points}
        known = TuningScores({**known.scores, **more}, "max")
    return known.chosen


def main() -> None:
    rows = []
    for (name, arm), scores in recorded().items():
        seeds = tuple(next(iter(scores.values())))
        full = TuningScores({point: list(values.values()) for point, values in scores.items()}, "max").chosen
        means = {point: sum(values.values()) / len(seeds) for point, values in scores.items()}
        cells: list[str] = []
        for rounds in ([1], [1, 2], [1, 3]):
            if rounds[-1] > len(seeds):
                cells.append("–")
                continue
            chosen = [halved(scores, order, rounds) for order in permutations(seeds)]
            losses = [100 * (means[full] - means[point]) for point in chosen]
            same = sum(point == full for point in chosen)
            cells.append(f"{same / len(chosen):.0%}, {sum(losses) / len(losses):.2f}, {max(losses):.2f}")
        margin = read_finding(CONF / "finding" / f"{name}.yaml").margin or 0.0
        rows.append([name, arm, len(seeds), f"{full:g}", *cells, f"{100 * margin / 10:g}"])
    head = ["finding", "arm", "seeds", "full", "one round, 1 seed", "halving [1, 2]", "halving [1, 3]", "margin / 10"]
    write(
        "halving",
        f"""
`python scripts/simulate/halving.py`, all orders of the seeds. Each cell: how often the choice is that of tuning
in full (all points with all seeds), then the mean and the largest loss, in points of validation accuracy.

{table(head, rows)}
""",
    )


if __name__ == "__main__":
    main()
