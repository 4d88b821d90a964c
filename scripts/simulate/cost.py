"""What the textbook study costs at full: the earlier fixed design against looks and halving.

Run by python scripts/simulate/cost.py (a minute). Each run costs what the committed tables of results/reference have
measured for its cell, per step of training; a run that several findings share counts once, in the first of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from page import table, write

from normlab.config.shipped import CONF, REFERENCE
from normlab.findings.finding import Finding
from normlab.folder.study_folder import StudyFolder
from normlab.study.budget import chances
from normlab.study.halving import expected_trials
from normlab.study.scale import Scale, read_scale, read_study
from normlab.study.stages import Trial, reporting_trials
from normlab.sweep.compose import Composer
from normlab.sweep.estimate import share_of_run, steps_of
from normlab.sweep.plan import Job, furthest, planned

# before there were looks: every point with three seeds, ten seeds for every finding and twenty processes
FIXED = (
    "scale.tuning_seeds=[3]",
    "scale.early_ends=[]",
    "scale.seeds={training: 10, init: 10, process: 20, exact: 2}",
    "scale.looks={training: null, process: null}",
)


class Measured:
    """Seconds of a run by its cell, from the committed tables."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
        for study in ("quick", "reduced", "reduced_2"):
            for row in StudyFolder(REFERENCE / study).read_runs():
                if "seconds" in row:
                    self._rows[row["finding"], row["arm"], row["condition"]].append(row)

    def seconds(self, trial: Trial, job: Job) -> float:
        """Of a training what isn't training, and its steps at the measured pace; of another measure all as it was.

        A run that pauses costs its share of both.

        Of a cell's runs the fastest counts: most of the tables were made on a busy machine.
        """
        rows = self._rows[trial.finding, trial.cell.arm, trial.cell.condition]
        steps = steps_of(job.config)
        return share_of_run(job) * min(
            row["seconds"] + row["train_seconds"] * (steps / row["steps"] - 1)
            if steps and "train_seconds" in row
            else row["seconds"]
            for row in rows
        )


@contextmanager
def composer() -> Iterator[tuple[Composer, DictConfig]]:
    """From choices to configs."""
    with initialize_config_dir(str(CONF), version_base="1.3"):

        def load(overrides: Sequence[str]) -> DictConfig:
            return compose("train", overrides=list(overrides), return_hydra_config=True)

        base = load(["scale=full"])
        yield Composer(load, base), base


def costs(
    findings: Sequence[Finding], scale: Scale, composed: Composer, cache: Path, measured: Measured
) -> dict[str, tuple[int, float, float]]:
    """Finding → its runs, hours at most, and hours expected."""
    trials: list[Trial] = []
    for finding in findings:
        if finding.tune is not None:
            trials += expected_trials(finding, scale, [])
        point = finding.tune.points[2] if finding.tune is not None else None
        trials += reporting_trials(finding, scale, dict.fromkeys(finding.cells, point), [])
    combinations = [trial.choices for trial in trials]
    jobs = [
        replace(job, pause=trial.pause)
        for trial, job in zip(trials, planned(combinations, composed(combinations, cache)), strict=True)
    ]
    far = {job.id: job for job in furthest(jobs)}
    likely = chances(findings, scale, trials, jobs)
    found = dict.fromkeys((finding.name for finding in findings), (0, 0.0, 0.0))
    seen: set[str] = set()
    for trial, job in zip(trials, jobs, strict=True):
        if job.id in seen:
            continue
        seen.add(job.id)
        hours = measured.seconds(trial, far[job.id]) / 3600
        runs, most, expected = found[trial.finding]
        found[trial.finding] = (runs + 1, most + hours, expected + hours * likely[job.number])
    return found


def main() -> None:
    measured = Measured()
    _, findings = read_study(CONF, "textbook")
    with composer() as (composed, base):
        cache = Path(str(base.cache))
        now = costs(findings, read_scale(base), composed, cache, measured)
        fixed_base = compose("train", overrides=["scale=full", *FIXED], return_hydra_config=True)
        was = costs(findings, read_scale(fixed_base), composed, cache, measured)
    rows = [
        [name, was[name][0], f"{was[name][1]:.2f}", now[name][0], f"{now[name][1]:.2f}", f"{now[name][2]:.2f}"]
        for name in now
    ]
    sums = [[sum(cost[i] for cost in design.values()) for i in range(3)] for design in (was, now)]
    total = ["**all**", sums[0][0], f"{sums[0][1]:.2f}", sums[1][0], f"{sums[1][1]:.2f}", f"{sums[1][2]:.2f}"]
    head = ["finding", "fixed: runs", "hours", "planned: runs at most", "hours at most", "hours expected"]
    write(
        "cost",
        f"""
`python scripts/simulate/cost.py`: CPU hours of `study=textbook scale=full` on one core. **Planned costs
{sums[1][2] / sums[0][1]:.0%} of the fixed design as expected, {sums[1][1] / sums[0][1]:.0%} at most** (grids that are
widened not counted, in either).

{table(head, [*rows, total])}
""",
    )


if __name__ == "__main__":
    main()
