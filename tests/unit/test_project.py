"""A Lightning project as it is: built, tried, its norms replaced, trained."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import normlab
from normlab.checks.config import checked
from normlab.command_line.arguments import for_hydra
from normlab.config.errors import InputError
from normlab.folder.jsonfile import read_json
from normlab.project.files import named
from normlab.project.options import direction_of, project_of
from normlab.project.order import Order
from normlab.project.trial import trial
from normlab.runs.code import code_hash
from normlab.runs.identity import run_id
from slowly import some

TESTS = Path(__file__).parents[1]
CONF = TESTS.parent / "conf"
SEGMENTER = (
    "project=lightning_project.training:LitSegmenter",
    "project.data=lightning_project.training:Photos",
    "project.data_arguments.count=32",
    "project.arguments.width=4",
    "metric=val_dice",
)
SHORT = ("trainer.epochs=2", "trainer.threads=1", "trainer.progress=false", "logger=none")


def variant(name: str, metric: str = "val/acc") -> tuple[str, ...]:
    return (f"project={TESTS / 'lightning_variants.py'}:{name}", f"metric={metric}")


def hydras(*choices: str) -> list[str]:
    """The command in Hydra's terms, flags first because the fixture adds options behind it."""
    return sorted(for_hydra(choices), key=lambda choice: choice != "-m")


def config_of(*choices: str):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return checked(compose("train", overrides=for_hydra([*choices, *SHORT])), choices)


@pytest.fixture
def project(train, tmp_path):
    """The folders and summaries of the runs of a command, by norm and seed."""

    def run(*choices: str) -> dict[str, dict]:
        answer = train(*hydras(*SHORT, *choices))
        assert answer.status == 0, answer.err
        folders = list((tmp_path / "outputs" / "runs").iterdir())
        found = {"-".join((path.name.split("-")[1], path.name.split("-")[-2])): path for path in folders}
        return {name: {**read_json(path / "summary.json"), "folder": path} for name, path in found.items()}

    return run


@pytest.mark.slow
def test_three_norms_share_initial_values_and_batches(project):
    runs = project("-m", *SEGMENTER, "norm=own,batch,rms", "seed=0,1", "optim.lr=1e-30")
    assert len(runs) == 6
    own, batch, rms, other = (runs[name] for name in ("own-0", "batch-0", "rms-0", "rms-1"))
    assert own["batches"] == batch["batches"] == rms["batches"] != other["batches"]
    assert all(run["repeatable"] for run in runs.values())
    assert (own.get("norms_replaced"), batch["norms_replaced"], rms["norms_replaced"]) == (None, 10, 10)
    assert batch["val_loss"] == pytest.approx(own["val_loss"], rel=1e-5)
    assert rms["val_loss"] != batch["val_loss"]
    weights = [
        torch.load(run["folder"] / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for run in (own, rms, other)
    ]
    convolutions = [name for name in weights[0] if name.endswith(".weight") and weights[0][name].ndim == 4]
    assert len(convolutions) == 13
    for name in convolutions:
        assert torch.equal(weights[0][name], weights[1][name]), name
        assert not torch.equal(weights[0][name], weights[2][name]), name


def test_a_run_is_stored_and_not_repeated(train, tmp_path):
    command = for_hydra(
        [*SEGMENTER, *SHORT, "norm=rms", "project.trainer.accumulate_grad_batches=2", "trainer.progress=true"]
    )
    answer = train(*command)
    assert answer.status == 0, answer.err
    assert "mode=max, by the name of metric=val_dice" in answer.out
    assert "val_dice  " in answer.out
    (folder,) = (tmp_path / "outputs" / "runs").iterdir()
    summary = read_json(folder / "summary.json")
    assert summary["best"] == summary["val_dice"]
    assert summary["steps"] == 4  # 24 examples in batches of 8, two batches a step, two epochs
    assert len([row for row in (folder / "metrics.jsonl").read_text().splitlines() if "val_dice" in row]) == 2
    assert "nothing was computed" in train(*command).out
    with pytest.raises(InputError, match="holds a Lightning project"):
        normlab.load_checkpoint(folder / "checkpoints" / "best.ckpt")


SOME = {"BuiltInConfigureModel": 1, "Lazy": 1, "Several": 1, "Gan": 2}
OTHERS = {
    "Plateau": 1,
    "OnEpochs": 1,
    "WithLoaders": 1,
    "BuiltInSetup": 1,
    "Forgetful": 1,
    "Streamed": 1,
    "Pictures": 1,
}


@pytest.mark.parametrize(
    ("name", "replaced"), [*SOME.items(), *(pytest.param(*kind, marks=pytest.mark.slow) for kind in OTHERS.items())]
)
def test_projects_of_many_kinds(name, replaced, project):
    ((_, summary),) = project(*variant(name, "distance" if name == "Gan" else "val/acc"), "norm=layer").items()
    assert summary["norms_replaced"] == replaced
    assert summary["repeatable"]
    assert summary["steps"] == (18 if name == "Gan" else 12)  # its critic steps each time, its generator every other


def test_a_projects_own_early_stopping_and_checkpoints(project):
    ((_, summary),) = project(*variant("OwnCallbacks"), "optim.lr=1e-30", "trainer.epochs=9").items()
    assert summary["steps"] == 18  # the first epoch is the best, and two without a better one are enough
    assert summary["best_step"] == 6
    assert (summary["folder"] / "project" / "checkpoints" / "last.ckpt").is_file()


def test_arguments_that_a_project_needs(project):
    given = ("project.arguments.width=4", "project.arguments.config.factor=2")
    ((_, summary),) = project(*variant("Needs"), *given, "norm=layer").items()
    assert summary["parameters"] == 3 * 8 * 9 + 8 + 2 * 8 + 8 * 2 + 2


def test_two_validation_loaders_have_a_metric_each(train, project):
    answer = train(*hydras(*variant("TwoValidations"), *SHORT))
    assert "did you mean metric=val/acc/dataloader_idx_0?" in answer.err
    ((_, summary),) = project(*variant("TwoValidations", "val/acc/dataloader_idx_1")).items()
    assert summary["best"] == summary["val/acc/dataloader_idx_1"]


def test_data_that_differ_from_draw_to_draw_are_said_not_refused(train):
    answer = train(*for_hydra([*variant("Random"), *SHORT, "trainer.progress=true"]))
    assert answer.status == 0
    assert "the project's data differ from draw to draw with the same seed" in answer.out


def test_weights_that_are_not_finite_end_a_run_as_diverged(project):
    ((_, summary),) = project(*variant("Diverges")).items()
    assert summary["diverged"]
    assert (summary["steps"], summary["best_step"]) == (12, 6)


def test_the_time_is_estimated_from_a_trial(train):
    answer = train(*hydras("-m", *SEGMENTER, *SHORT, "norm=layer,rms", "dry=true"))
    assert answer.status == 0, answer.err
    assert "2 new" in answer.out
    assert "sequentially about" in answer.out


BAD = {
    ("project=lightning_project.training:LitSegmenter", "metric=val_dice"): "has no train_dataloader",
    ("project=LitSegmenter",): "write MODULE:CLASS",
    ("project=lightning_projekt.training:LitSegmenter", "metric=val_dice"): "PYTHONPATH=FOLDER",
    ("project=lightning_project.training:Net", "metric=val_dice"): "defines no Net; it defines Circles, Photos",
    ("project=lightning_project.unet:UNet", "metric=val_dice"): "gives a UNet, not a LightningModule: model=module",
    (f"project={TESTS}/lightning_project/training.py:LitSegmenter", "metric=val_dice"): "name a file of a package as",
    (SEGMENTER[0], "project.data=lightning_variants:Gan", "metric=val_dice"): "gives a Gan, not a LightningDataModule",
    (*SEGMENTER, "project.arguments.widht=3"): "has no argument widht; its arguments: width, depth, learning_rate",
    (*SEGMENTER, "project.arguments.depth=deep"): "project.arguments.depth=deep: input should be a valid integer",
    (*SEGMENTER, "metric=val_acc"): "by the end of a validation, it logs train_loss, val_dice, val_loss",
    (*SEGMENTER, "metric=null"): "metric has no value: name one with metric=NAME",
    (*SEGMENTER, "metric=quality"): "Say mode=max or mode=min",
    (*SEGMENTER, "mode=up"): "project.mode=up",
    (*SEGMENTER, "optim.lr=0.1", "project.lr=eta"): "has no argument eta: project.lr=NAME names",
    (*SEGMENTER, "optim.lr=0.1", "project.arguments.learning_rate=1.0"): "both set the learning rate",
    (*SEGMENTER, "optim=sgd"): "a project has its own optimiser, of which only optim.lr can be set",
    (*SEGMENTER, "model=cnn"): "a project brings its own network",
    (*SEGMENTER, "trainer.epochs=null"): "trainer.epochs has no value",
    (*SEGMENTER, "trainer.compile=true"): "trainer.compile=true",
    (*SEGMENTER, "project.only=stem*"): "only='stem*' names none of the norms: net.stem.1",
    (*SEGMENTER, "norm=regularized_batch"): "adds terms to the loss, which a Lightning project computes itself",
    (*SEGMENTER, "norm=frozen_batch"): "norm.after=500 is more than the run's",
    (*SEGMENTER, "norm=group", "norm.groups=3"): "net.stem.1 (BatchNorm2d at BCHW, 4 channels): norm.groups=3",
    (*SEGMENTER, "project.callbacks=[lightning_project.unet:UNet]"): "gives a UNet, not a Callback",
    (*SEGMENTER, "project.trainer.gradient_clip_val=-1"): "project.trainer.gradient_clip_val=-1",
    variant("NoNorms"): "has no norm that another could replace",
    (*variant("OneByOne"), "norm=instance"): "net.1 (BatchNorm2d at BCHW, 3 channels)",
    variant("Needs"): "needs project.arguments.width=...; its arguments: width=..., config=..., lr",
    (*variant("WithLoaders"), "project.trainer.strategy=ddp"): "is for several processes: add trainer=ddp",
    ("-m", *variant("WithLoaders"), "trainer=ddp", "seed=0,1"): "runs with several processes don't work with launcher",
    variant("NoValidation"): "has no val_dataloader",
    variant("NothingLogged"): "it logs nothing",
    variant("Broken"): "fails in validation_step (lightning_variants.py, line",
    ("metric=val_dice",): "it needs project=...",
    ("measure=project",): "name it with project=MODULE:CLASS",
}  # fmt: skip


@pytest.mark.parametrize(("choices", "message"), some(BAD.items(), every=2), ids=[*BAD.values()])
def test_bad_input_is_one_clear_line_and_leaves_nothing_behind(choices, message, train, tmp_path, monkeypatch, capsys):
    from normlab.command_line.guard import guard

    asked = {choice.partition("=")[0] for choice in choices}
    given = [*(option for option in SHORT if option.partition("=")[0] not in asked), *choices]
    keys = [choice.partition("=")[0] for choice in given]
    given = [
        choice for place, choice in enumerate(given) if keys[place] not in keys[place + 1 :]
    ]  # the last one counts
    try:
        with guard():
            arguments = hydras(*given)
    except SystemExit as end:
        status, err = end.code, capsys.readouterr().err
    else:
        answer = train(*arguments)
        status, err = answer.status, answer.err
    assert (status, message in err) == (2, True), err
    assert len(err.splitlines()) == 1
    assert not [*tmp_path.glob("outputs/runs/*")]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3), st.integers(0, 6), st.integers(0, 2**40))
def test_a_resumed_loader_goes_on_with_the_same_batches(epoch, done, seed):
    def batches(resumed: bool) -> list[list[float]]:
        order = Order(seed)
        order.epoch = epoch
        if resumed:
            order.load_state_dict({"epoch": epoch, "batch": done, "first": [], "steps": 0})
        torch.randn(3 * resumed)  # what was drawn before counts for nothing
        loader = DataLoader(
            torch.arange(12), 2, shuffle=True, collate_fn=lambda x: [*map(int, x), float(torch.rand(1))]
        )
        return list(order._each(loader))

    assert batches(True) == batches(False)[done:]


def test_epochs_and_seeds_have_other_orders():
    def first(seed: int, epoch: int) -> list[int]:
        order = Order(seed)
        order.epoch = epoch
        return next(iter(order._each(DataLoader(torch.arange(100), 20, shuffle=True)))).tolist()

    assert len({tuple(first(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_a_shorter_loader_starts_again_where_a_resumed_run_needs_it():
    def batches(done: int) -> list[list[int]]:
        order = Order(0)
        order.load_state_dict({"epoch": 0, "batch": done, "first": [], "steps": 0})
        loader = order._each(DataLoader(torch.arange(6), 2, shuffle=True))
        return [batch.tolist() for _ in range(3) for batch in loader]

    assert batches(4) == batches(0)[4:]


def test_layouts_are_those_of_a_training_step():
    config = config_of(*SEGMENTER)
    tried = trial(config, project_of(config))
    assert [path for path, _, _ in tried.calls.made] == [""]  # the module itself; its metrics are no part of a network
    assert tried.calls.batch == 8
    gan = config_of(*variant("Gan", "distance"))
    made = trial(gan, project_of(gan)).calls.made
    assert [path for path, _, _ in made] == ["generator", "critic", "critic", "critic"]


def test_files_that_arguments_name_are_part_of_a_runs_identity(tmp_path):
    def identity() -> tuple[str, str]:
        config = config_of(
            *variant("WithLoaders"),
            f"project.data={TESTS / 'lightning_variants.py'}:Files",
            f"project.data_arguments.path={tmp_path / 'a.pt'}",
        )
        return run_id(config, named(config).fingerprint), named(config).notes[0]

    (tmp_path / "a.pt").write_bytes(b"1")
    before, note = identity()
    assert "the data are identified by" in note
    (tmp_path / "a.pt").write_bytes(b"2")
    assert identity()[0] != before


def test_a_projects_code_is_part_of_a_runs_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(TESTS / "lightning_project", tmp_path / "copied_project")
    config = config_of(
        "project=copied_project.training:LitSegmenter", "project.data=copied_project.training:Photos", "metric=val_dice"
    )
    before = code_hash(config)
    net = tmp_path / "copied_project" / "unet.py"
    net.write_text("# a comment\n" + net.read_text())
    assert code_hash(config) == before
    net.write_text(net.read_text().replace("dropout=0.1", "dropout=0.2"))
    assert code_hash(config) != before


DIRECTIONS = {"val_dice": "max", "val/acc": "max", "valAccuracy": "max", "val_dice_loss": "min", "MSE": "min"}


@pytest.mark.parametrize(("metric", "direction"), [*DIRECTIONS.items(), ("quality", None), ("top1_error", None)])
def test_whether_higher_is_better_is_read_from_a_metrics_name(metric, direction):
    assert direction_of(metric) == direction


def test_both_names_of_lightning_are_one_library():
    import lightning
    import pytorch_lightning
    from lightning.pytorch.callbacks import Callback

    assert "lightning" in sys.modules
    assert lightning.LightningModule is pytorch_lightning.LightningModule
    assert Callback is pytorch_lightning.Callback
    assert pytorch_lightning.callbacks.__spec__.name == "pytorch_lightning.callbacks"
