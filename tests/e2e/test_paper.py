"""The papers' recipes: every cell of every finding composes, and each task trains on rows that look like the hub's."""

import io
import re
from pathlib import Path

import datasets
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from rich.console import Console

from normlab.checks.config import checked
from normlab.data import hub
from normlab.findings.judge import judge
from normlab.findings.read import read_finding
from normlab.folder.jsonfile import read_json
from normlab.study.choices import to_run
from normlab.study.logged import check_metrics, check_tuning
from normlab.study.printed import print_finding
from normlab.study.scale import read_scale, read_study
from normlab.study.stages import reporting_trials
from normlab.sweep.compose import Composer
from slowly import some

CONF = Path(__file__).parents[2] / "conf"
FINDINGS = sorted(path.stem for path in (CONF / "finding").glob("paper_*.yaml"))
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("paper_*.yaml"))
# what makes a step of a recipe affordable on a CPU; nothing of what it is made of
SMALL = {
    "paper_resnet20": ["task.batch_size=16"],
    "paper_resnet56": ["task.batch_size=8"],
    "paper_sequential_mnist": ["task.batch_size=8"],
    "paper_permuted_mnist": ["task.batch_size=8"],
    "paper_ptb_char": ["task.batch_size=4", "model.width=128"],
    "paper_wikitext2": ["task.batch_size=4"],
    "paper_wikitext103": ["task.batch_size=2", "model.width=128"],
}


def load(overrides):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=list(overrides), return_hydra_config=True)


def recipe(*overrides):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return checked(compose("train", overrides=list(overrides)))


@pytest.fixture(scope="module")
def scale():
    return read_scale(load(["scale=paper"]))


def test_the_study_runs_every_paper_finding_at_its_scale_alone(scale):
    _, findings = read_study(CONF, "paper")
    assert sorted(f.name for f in findings) == FINDINGS
    assert all(set(f.scales) == {"paper"} and not f.primary for f in findings)
    assert to_run(findings, scale) == (findings, [])


@pytest.mark.parametrize("name", some(FINDINGS, every=6))
def test_every_cell_passes_the_checks_and_logs_what_is_looked_at(name, scale, tmp_path):
    finding = read_finding(CONF / "finding" / f"{name}.yaml")
    base = load([f"finding={name}", "scale=paper", f"output={tmp_path / 'out'}"])
    trials = reporting_trials(finding, scale, dict.fromkeys(finding.cells, scale.grid(finding)[0]), [])
    assert {trial.seed for trial in trials} == set(range(5))
    first = {trial.cell: trial for trial in reversed(trials)}
    configs = dict(
        zip(first, Composer(load, base)([t.choices for t in first.values()], tmp_path / "cache"), strict=True)
    )
    check_metrics(finding, configs)
    if finding.tune is not None:
        check_tuning(finding.tune.by, configs)
    for cell, config in configs.items():
        (norm,) = [choice[5:] for choice in finding.arms[cell.arm] if choice.startswith("norm=")]
        assert config.norm_name == norm
        assert config.optim.lr == scale.grid(finding)[0]
        assert config.test


@pytest.mark.parametrize("name", FINDINGS)
def test_rates_are_half_decades_around_the_recipes(name):
    finding = read_finding(CONF / "finding" / f"{name}.yaml")
    (experiment,) = finding.common
    points = finding.tune.points
    assert len(points) >= 5
    ratios = np.diff(np.log10(points))
    assert ratios == pytest.approx(0.5, abs=0.03)
    assert points[0] < recipe(experiment).optim.lr < points[-1]


@pytest.mark.parametrize("name", FINDINGS)
def test_published_numbers_name_their_source(name):
    finding = read_finding(CONF / "finding" / f"{name}.yaml")
    for cell, number in finding.published.items():
        assert re.search(r"\d\.\d|\d\d", number), cell
        assert "et al." in number, cell


def test_recipes_are_the_papers():
    resnet = recipe("experiment=paper_resnet20", "norm=layer")
    assert (resnet.norm_name, resnet.model["width"], resnet.model["stages"]) == ("layer", 16, 3)
    depths = [recipe(f"experiment=paper_resnet{n}").model["depth"] for n in (20, 56)]
    assert [6 * depth + 2 for depth in depths] == [20, 56]
    optim, trainer = resnet.optim, resnet.trainer
    assert (optim.name, optim.momentum, optim.weight_decay, resnet.task.batch_size) == ("sgd", 0.9, 1e-4, 128)
    assert (optim.schedule, optim.milestones, optim.drop, resnet.task.augment) == ("step", (0.5, 0.75), 0.1, True)
    assert trainer.steps == 64000 <= trainer.epochs * (45000 // 128)
    noise = [recipe(f"experiment=paper_{o}_mnist").model["state_noise"] for o in ("sequential", "permuted")]
    assert noise == [0.1, 0.0]
    pixels = recipe("experiment=paper_sequential_mnist").optim
    assert (pixels.name, pixels.lr, pixels.momentum, pixels.schedule) == ("rmsprop", 1e-3, 0.9, "constant")
    words = recipe("experiment=paper_wikitext103")
    assert words.trainer.steps == 30000 <= words.trainer.epochs * (103_000_000 // (16 * 256))


def rows(name: str, count: int = 80) -> datasets.Dataset:
    """Rows with the columns and types that the hub's data set of that name has."""
    rng = np.random.default_rng(0)
    if name in ("uoft-cs/cifar10", "ylecun/mnist"):
        column, shape = ("img", (32, 32, 3)) if "cifar" in name else ("image", (28, 28))
        features = datasets.Features({column: datasets.Image(), "label": datasets.ClassLabel(num_classes=10)})
        images = list(rng.integers(0, 256, (count, *shape), np.uint8))
        return datasets.Dataset.from_dict({column: images, "label": [i % 10 for i in range(count)]}, features)
    words = [" ".join(rng.choice(["the", "<unk>", "of", "N", "shares", "traded", "."], 12)) for _ in range(4 * count)]
    if name == "ptb-text-only/ptb_text_only":
        return datasets.Dataset.from_dict({"sentence": words})
    assert name == "Salesforce/wikitext"
    return datasets.Dataset.from_dict({"text": ["", " = A title = \n", *(f" {line} \n" for line in words)]})


@pytest.fixture
def cache(tmp_path):
    """One of its own: no other test must find these rows under the names of the real ones."""
    return tmp_path / "cache"


@pytest.fixture
def look_alike(monkeypatch):
    """A hub that holds such rows; the data sets that it was asked for."""
    asked = []

    def load_dataset(name, config, **options):
        asked.append(name)
        names = ("train", "test") if name in ("uoft-cs/cifar10", "ylecun/mnist") else ("train", "validation", "test")
        return datasets.DatasetDict({split: rows(name) for split in names})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub, "_reachable", lambda _: True)
    return asked


@pytest.mark.parametrize("experiment", some(EXPERIMENTS))
def test_each_recipe_trains_and_is_tested_on_look_alike_rows(experiment, train, tmp_path, look_alike):
    answer = train(
        f"experiment={experiment}", *SMALL[experiment], "trainer.steps=2", "trainer.batches=2",
        "trainer.validations=2", "trainer.threads=1", "trainer.progress=false", "logger=none",
        "task.eval_batch_size=4", "test=true",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    assert len(look_alike) == 1
    (folder,) = (tmp_path / "outputs" / "runs").iterdir()
    summary = read_json(folder / "summary.json")
    assert not summary["diverged"]
    finding = read_finding(CONF / "finding" / f"{experiment}.yaml")
    for metric in (finding.metric, *finding.also.values(), finding.tune.by):
        assert np.isfinite(summary[metric]), metric


def test_published_numbers_stand_beside_the_verdict():
    finding = read_finding(CONF / "finding" / "paper_permuted_mnist.yaml")
    shared = {"condition": "", "point": 0.001, "diverged": False}
    metrics = dict.fromkeys((finding.metric, *finding.also.values()), 0.9)
    rows = [
        {"arm": cell.arm, "seed": seed, "id": f"{cell}-{seed}", **shared, **metrics}
        for cell in finding.cells
        for seed in range(5)
    ]
    shown = io.StringIO()
    verdict = judge(finding, rows, 5, "paper", {})
    print_finding(Console(file=shown, width=160), verdict, finding, 1.0)
    assert "estimate" in shown.getvalue()
    assert "published of batch: 0.954, Cooijmans et al. 2017" in shown.getvalue()
