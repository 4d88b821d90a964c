"""`normlab judge` on folders that W&B, TensorBoard, MLflow and Lightning left."""

import json
import shutil
from typing import ClassVar

import logged_runs
import numpy as np
import pytest
from run_folders import finish

from normlab.command_line.guard import guard
from normlab.commands import judge
from normlab.logs import wandb_online
from normlab.stats import guarded

SOURCES = ["wandb_offline", "wandb_online", "tensorboard", "lightning", "mlflow"]


@pytest.fixture(scope="session")
def logged(tmp_path_factory):
    """`logged("mlflow")`: a fresh copy of a folder with runs of that logger."""
    root = tmp_path_factory.mktemp("logged")

    def copy(name):
        if not (root / name).exists():
            getattr(logged_runs, name)(root / name)
        target = tmp_path_factory.mktemp(name) / "runs"
        shutil.copytree(root / name, target, symlinks=True)
        return target

    return copy


@pytest.fixture
def judged(capsys):
    def command(*arguments, margin="0.2"):
        status = 0
        try:
            with guard():
                judge.main([*map(str, arguments), "--margin", margin])
        except SystemExit as end:
            status = int(end.code or 0)
        return status, *capsys.readouterr()

    return command


@pytest.mark.parametrize("name", SOURCES)
def test_every_logger_gives_the_same_verdict(name, logged, judged):
    folder = logged(name)
    status, out, err = judged(folder, "--metric", "val/acc", "--arms", "layer", "batch", "--json")
    assert (status, err) == (0, ""), err
    values = json.loads(out)
    last = {(arm, seed): curve[-1] for arm, seed, curve in logged_runs.curves()}
    d = [last["layer", seed] - last["batch", seed] for seed in range(logged_runs.N)]
    assert values["values"] == pytest.approx(d, abs=1e-6)
    assert values["interval"]["low"] == pytest.approx(guarded.interval(np.array(d)).low, abs=1e-5)
    assert "`norm`, seed from `seed`, metric `val/acc`" in values["read"][0]


@pytest.mark.parametrize("name", ["wandb_offline", "tensorboard", "lightning", "mlflow"])
@pytest.mark.parametrize(("value", "words", "shift"), [("max", "its maximum", 2), ("min", "its minimum", -2)])
def test_another_value_of_the_curve_may_count(name, value, words, shift, logged, judged):
    status, out, _ = judged(logged(name), "--metric", "val/acc", "--value", value, "--arms", "layer", "batch")
    assert (status, f"`val/acc` at {words}" in out) == (0, True)


def test_a_damaged_wandb_log_is_one_line(logged, judged):
    folder = logged("wandb_offline")
    file = sorted(folder.glob("wandb/offline-run-*/*.wandb"))[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    status, _, err = judged(folder, "--metric", "val/acc")
    assert (status, "is damaged" in err, err.count("\n")) == (2, True, 1)
    file.write_bytes(b"nothing of the kind")
    assert "is no log of W&B" in judged(folder, "--metric", "val/acc")[2]


def test_a_killed_wandb_run_is_read_up_to_its_end_and_noticed(logged, judged):
    folder = logged("wandb_offline")
    file = sorted(folder.glob("wandb/offline-run-*/*.wandb"))[0]
    content = file.read_bytes()
    lines = []
    for share in np.arange(0.3, 1, 0.05):
        file.write_bytes(content[: int(share * len(content))])
        status, out, err = judged(folder, "--metric", "val/acc")
        assert status in (0, 1, 2, 3), err
        lines += [line for line in out.splitlines() if "different steps" in line]
    assert lines


def test_a_damaged_event_file_is_one_line_and_a_killed_run_is_noticed(logged, judged):
    folder = logged("tensorboard")
    file = next((folder / "layer_0").glob("events*"))
    content = bytearray(file.read_bytes())
    file.write_bytes(content[:-10])
    status, out, err = judged(folder, "--metric", "val/acc")
    assert (status, "n = 10 pairs" in out) == (1, True), err
    content[150] ^= 1
    file.write_bytes(content)
    status, _, err = judged(folder, "--metric", "val/acc")
    assert (status, "is damaged" in err, err.count("\n")) == (2, True, 1)


def test_a_folder_of_two_loggers_asks_which(logged, judged):
    folder = logged("lightning")
    shutil.copytree(logged("mlflow"), folder / "mlruns")
    status, _, err = judged(folder, "--metric", "val/acc")
    assert (status, "--source mlflow or lightning" in err, err.count("\n")) == (2, True, 1), err
    assert judged(folder, "--metric", "val/acc", "--source", "mlflow", "--arms", "layer", "batch")[0] == 0


def test_arms_may_lie_in_a_folder_each(logged, judged):
    folder = logged("tensorboard")
    for arm in ("layer", "batch"):
        (folder / arm).mkdir()
        for run in folder.glob(f"{arm}_*"):
            run.rename(folder / arm / run.name)
    arguments = [folder / "layer", folder / "batch", "--metric", "val/acc"]  # the first is claimed to be better
    assert judged(*arguments)[0] == 0
    assert judged(*arguments, "--arm", "parent")[0] == 0


def test_names_of_folders_say_arm_and_seed(tmp_path, judged):
    for arm, seed, curve in logged_runs.curves():
        folder = tmp_path / f"norm={arm},lr=0.1" / f"seed_{seed}"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text(f"step,val/acc\n0,\n1,{curve[-1]}\n")
    status, out, err = judged(tmp_path, "--arms", "layer", "batch")
    assert (status, "hyperparameter `norm`, seed from `seed`, metric `val/acc`" in out) == (0, True), err


def lightning_run(folder, values, hyperparameters="norm: layer\nseed: 0\n"):
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("step,acc\n" + "".join(f"{i},{value}\n" for i, value in enumerate(values)))
    (folder / "hparams.yaml").write_text(hyperparameters)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["0.5", "inf"], "infinite"),
        (["0.5", "x"], "metrics.csv is damaged: could not convert"),
        (["0.5,7", "1"], "another number of fields"),
        (["", ""], "never logged acc"),
    ],
)
def test_what_a_run_logged_wrongly_is_one_line(tmp_path, judged, values, words):
    for seed in range(10):
        lightning_run(tmp_path / f"a{seed}", [0.1 * seed], f"norm: layer\nseed: {seed}\n")
        lightning_run(tmp_path / f"b{seed}", values if seed == 3 else [0.2 * seed], f"norm: batch\nseed: {seed}\n")
    status, _, err = judged(tmp_path)
    assert (status, words in err, err.count("\n")) == (2, True, 1), err
    if words in ("infinite", "never logged acc"):
        assert "0 of layer and 1 of batch failed" in judged(tmp_path, "--failed")[1]


def test_a_run_that_ends_in_nan_failed(tmp_path, judged):
    for seed in range(10):
        lightning_run(tmp_path / f"a{seed}", [0.1 * seed], f"norm: layer\nseed: {seed}\n")
        lightning_run(tmp_path / f"b{seed}", [1, "nan" if seed == 3 else 0.2 * seed], f"norm: batch\nseed: {seed}\n")
    assert "0 of layer and 1 of batch failed" in judged(tmp_path)[1]


def test_hyperparameters_run_no_code(tmp_path, judged):
    lightning_run(
        tmp_path / "a", [1], f"norm: layer\nseed: 0\nx: !!python/object/apply:os.mkdir [{tmp_path / 'made'}]\n"
    )
    lightning_run(tmp_path / "b", [2], "norm: batch\nseed: 0\n")
    assert judged(tmp_path)[0] == 3
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, "does not exist"),
        (lambda folder: folder.mkdir(), "holds no runs"),
        (lambda folder: (folder / "sub").mkdir(parents=True), "holds no runs"),
        (lambda folder: folder.write_text("x"), "only tables"),
    ],
)
def test_what_holds_no_runs_is_one_line(tmp_path, judged, make, words):
    make(tmp_path / "runs")
    status, _, err = judged(tmp_path / "runs")
    assert (status, words in err, err.count("\n")) == (2, True, 1), err


def test_nested_event_folders_are_refused(logged, judged):
    folder = logged("tensorboard")
    shutil.copy(next((folder / "layer_0").glob("events*")), folder)
    status, _, err = judged(folder, "--metric", "val/acc")
    assert (status, "name the runs' folders" in err, err.count("\n")) == (2, True, 1)


def test_deleted_mlflow_runs_are_left_out(logged, judged):
    folder = logged("mlflow")
    meta = next(folder.glob("0/*/meta.yaml"))
    meta.write_text(meta.read_text().replace("active", "deleted"))
    assert "n = 9 pairs" in judged(folder)[1]


@pytest.mark.parametrize(("status", "said"), [("1", "1 running"), ("5", "1 killed"), ("FAILED", "1 failed"), ("3", "")])
def test_mlflow_runs_that_have_not_finished_are_said(status, said, logged, judged):
    folder = logged("mlflow")
    meta = next(folder.glob("0/*/meta.yaml"))
    meta.write_text(f"{meta.read_text()}status: {status}\n")
    out = judged(folder, "--metric", "val/acc", "--arms", "layer", "batch")[1]
    assert (f"1 run had not finished ({said})" in out) == bool(said)


def test_a_resumed_wandb_run_is_one_run(logged, judged):
    folder = logged("wandb_online")
    again = folder / "wandb" / "run-20260102_000000-layer0" / "files"
    shutil.copytree(folder / "wandb" / "run-20260101_000000-layer0" / "files", again)
    (again / "wandb-summary.json").write_text('{"val/acc": 77.0}')
    status, out, err = judged(folder, "--json")
    assert status in (0, 3), err
    assert max(map(abs, json.loads(out)["values"])) > 60


class OnServer:
    """What W&B's client gives of a run."""

    entity, project, id, name, group, job_type = "team", "project", "x1", "calm-1", None, None
    state = "running"
    config: ClassVar = {"norm": "layer", "optim": {"lr": 0.1}, "_wandb": {}}
    summary: ClassVar = {"val/acc": 0.5, "by_hand": "NaN", "_step": 2}

    def scan_history(self, page_size):
        return iter([{"_step": 0, "val/acc": 0.9}, {"_step": 1, "val/acc": "NaN"}, {"_step": 2, "val/acc": 0.5}])


def test_a_run_of_the_server_has_its_whole_history_if_asked():
    whole, summary = (wandb_online._run(OnServer(), curves) for curves in (True, False))
    assert (whole.curves["val/acc"].max, whole.curves["val/acc"].last, whole.curves["val/acc"].step) == (0.9, 0.5, 2)
    assert (summary.curves["val/acc"].max, np.isnan(summary.curves["by_hand"].last)) == (0.5, True)
    assert whole.facts == {"name": "calm-1", "state": "running", "norm": "layer", "optim.lr": 0.1}


def test_our_own_outputs_are_a_source(tmp_path, judged):
    for arm, seed, curve in logged_runs.curves(8):
        summary = {"validation/accuracy": None if (arm, seed) == ("batch", 2) else curve[-1], "diverged": seed == 2}
        finish(tmp_path, f"{arm}{seed}", "model=lstm", f"norm={arm}", seed=seed, summary=summary)
    status, out, err = judged(tmp_path, "--metric", "validation/accuracy", "--arms", "layer", "batch")
    assert "arm from column `norm`, seed from `seed`, metric `validation/accuracy`" in out, err
    assert (status, "0 of layer and 1 of batch failed" in out) == (3, True), out


def test_the_wrong_names_are_answered_with_the_closest(logged, judged):
    folder = logged("mlflow")
    for option, name, words in (
        ("--metric", "val/accuracy", "there are val/acc"),
        ("--arm", "norms", "there is no parameter norms"),
        ("--seed", "sed", "there is no parameter sed"),
    ):
        status, _, err = judged(folder, option, name)
        assert (status, words in err, err.count("\n")) == (2, True, 1), err


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("events.out.tfevents.1", b"junkjunkjunkjunkjunk", "is damaged, or no event file"),
        ("events.out.tfevents.1", b"", "logged no metrics"),
        ("metrics.csv", b"", "logged no metrics"),
        ("metrics.csv", b"\xff\xfe\0", "is damaged"),
        ("files/wandb-summary.json", b"{", "can't be read"),
        ("files/wandb-summary.json", b"[1]", "can't be read"),
        ("run-x.wandb", b"", "logged no metrics"),
        ("meta.yaml", b": : [", "can't be read"),
    ],
)
def test_damaged_files_are_one_line(tmp_path, judged, file, content, words):
    path = tmp_path / "runs" / "one" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    (path.parent / "metrics").mkdir(exist_ok=True)
    status, _, err = judged(tmp_path / "runs")
    assert (status, words in err, err.count("\n")) == (2, True, 1), err


@pytest.mark.parametrize("name", ["lightning", "mlflow", "wandb_offline"])
def test_linked_runs_count_once(name, logged, judged, tmp_path):
    runs = logged(name)
    expected = judged(runs)
    (runs / "again").symlink_to(runs)  # leads back to where it lies
    (runs / "everything").symlink_to("/")
    first = next(path for path in sorted(runs.iterdir()) if path.is_dir() and not path.is_symlink())
    (runs / "a-link").symlink_to(first)  # found before it by its name, but its own name tells its arm and seed
    assert judged(runs)[:2] == expected[:2]
    gathered = tmp_path / "gathered"
    gathered.mkdir()
    for path in runs.iterdir():
        if not path.is_symlink():
            (gathered / path.name).symlink_to(path)
    assert judged(gathered)[:2] == expected[:2]


def test_a_curve_with_two_columns_of_one_name_is_refused(logged, judged):
    runs = logged("lightning")
    file = next(runs.rglob("metrics.csv"))
    header, *rows = file.read_text().splitlines()
    column = header.split(",")[0]
    file.write_text("\n".join([f"{header},{column}", *(f"{row},1" for row in rows)]) + "\n")
    status, _, err = judged(runs)
    assert (status, f"two columns are called '{column}'" in err) == (2, True), err
