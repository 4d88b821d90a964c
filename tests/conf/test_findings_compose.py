"""Every finding of every study: each cell is valid, and logs the finding's metrics."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from normlab.checks.config import checked
from normlab.findings.read import read_finding
from normlab.study.logged import check_metrics, check_tuning
from normlab.study.scale import read_scale, read_study
from normlab.study.stages import reporting_trials, tuned_cells
from slowly import some

CONF = Path(__file__).parents[2] / "conf"
FINDINGS = sorted(path.stem for path in (CONF / "finding").glob("*.yaml") if not path.stem.startswith("paper_"))


@pytest.fixture(scope="module")
def composed():
    """`composed(overrides)`: the config; a module's tests share Hydra's start."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda overrides: compose("train", overrides=overrides)


@pytest.mark.parametrize("name", some(FINDINGS, every=6))
def test_every_cell_composes_and_logs_the_metrics(composed, name):
    finding = read_finding(CONF / "finding" / f"{name}.yaml")
    assert "full" in finding.scales
    assert not finding.primary or "smoke" in finding.scales
    assert finding.succeeded_by is None or "quick" in finding.scales  # quick decides those, with committed rates
    scale = read_scale(composed(["scale=full"]))
    point = finding.tune.points[2] if finding.tune is not None else None
    trials = reporting_trials(finding, scale, dict.fromkeys(finding.cells, point), [])
    first = {trial.cell: trial for trial in trials}
    configs = {cell: checked(composed(trial.choices), trial.choices) for cell, trial in first.items()}
    check_metrics(finding, configs)
    if finding.tune is not None:  # what only reporting runs have must not be needed
        tuned = reporting_trials(
            finding.model_copy(update={"report": []}), scale, dict.fromkeys(finding.cells, point), []
        )
        cell, choices = tuned[0].cell, tuned[0].choices
        check_tuning(finding.tune.by, {cell: checked(composed(choices), choices)})
    assert set(tuned_cells(finding)) <= set(finding.cells)
    keys = [trial.key for trial in first.values()]
    assert len(set(keys)) == len(keys), "two cells are the same"


def test_every_finding_stands_in_a_study():
    listed = [name for path in (CONF / "study").glob("*.yaml") for name in read_study(CONF, path.stem)[0].findings]
    assert sorted(listed) == sorted(path.stem for path in (CONF / "finding").glob("*.yaml"))


def test_primaries_come_first_and_one_decides_each_claim():
    _, findings = read_study(CONF, "textbook")
    for claim in range(1, 7):
        own = [finding for finding in findings if finding.claim == claim]
        primaries = [finding.primary for finding in own]
        assert primaries == sorted(primaries, reverse=True)
        deciding = [finding for finding in own if finding.primary and finding.succeeded_by is None]
        assert len(deciding) == 1
        assert [f.succeeded_by for f in own if f.primary and f is not deciding[0]] in ([], [deciding[0].name])
