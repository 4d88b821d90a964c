"""The real client with a server on loopback; tests check what the server has in the end."""

import json
from pathlib import Path

import pytest
from wandb_state import ENTITY, Run

from normlab.folder.jsonfile import read_json
from normlab.folder.run_folder import RunFolder

TABLES = {"samples", "confusion", "confusion_table"}


def only(server) -> Run:
    (run,) = server.state.runs.values()
    return run


def mirrors(run: Run, folder: Path) -> None:
    """The server holds every row of the run's record, once and in order, and the whole summary."""
    rows = RunFolder(folder).read_rows().rows
    history = [row for row in run.history if not TABLES & set(row)]
    assert [row["_step"] for row in history] == list(range(len(rows)))
    for sent, kept in zip(history, rows, strict=True):
        values = {name: value for name, value in kept.items() if name not in ("step", "time")}
        assert {name: sent[name] for name in values} == values
        assert sent["trainer/global_step"] == kept["step"]
    summary = read_json(folder / "summary.json")
    after = ("seconds", "peak_memory_mb")  # are known when W&B's run has ended
    assert {name: run.summary.get(name) for name in summary if name not in after} == {
        name: value for name, value in summary.items() if name not in after
    }


def test_a_run_arrives_whole(run, server, folder):
    ended = run("seed=3", "test=true", "logger.wandb.tags=[trial,lstm]", "logger.wandb.project=trials")
    assert ended.status == 0, ended.err
    assert "W&B" not in ended.err
    sent = only(server)
    mirrors(sent, folder())
    assert (sent.complete, sent.exit_code) == (True, 0)
    assert sent.name == f"{folder().name}-1"
    assert sent.display_name == folder().name
    assert (sent.project, sent.job_type) == ("trials", "training")
    assert sent.group.startswith("batch-lstm-word_stress-")
    assert sent.tags == ["batch", "lstm", "word_stress", "trial"]
    names = {"norm": "batch", "model": "lstm", "task": "word_stress", "seed": 3, "cell": sent.group}
    assert {name: sent.values[name] for name in names} == names
    assert sent.values["norm_options"]["momentum"] == 0.1
    assert sent.values["optim"]["lr"] > 0
    assert RunFolder(folder()).read_address() == f"{server.address}/{ENTITY}/trials/runs/{sent.name}"
    assert json.loads(sent.files["config.json"]) == read_json(folder() / "config.json")
    assert {"provenance.json", "requirements.txt", "wandb-metadata.json"} <= set(sent.files)
    assert any(name.startswith("code/") for name in sent.files)


@pytest.mark.slow
def test_predictions_are_tables(run, server):
    assert run().status == 0
    sent = only(server)
    tables = {name: json.loads(content) for name, content in sent.files.items() if name.endswith("table.json")}
    (samples,) = (table for name, table in tables.items() if "samples" in name)
    assert samples["columns"] == ["text", "actual", "predicted", "probability", "right"]
    assert len(samples["data"]) == 24
    (confusion,) = (table for name, table in tables.items() if "confusion" in name)
    counts = {(row[0], row[1]): row[2] for row in confusion["data"]}
    right = sum(count for (actual, predicted), count in counts.items() if actual == predicted)
    assert right / sum(counts.values()) == pytest.approx(sent.summary["validation/accuracy"])


@pytest.mark.slow
def test_curves_have_steps_examples_and_seconds_as_x_and_their_best_as_summary(run, server):
    assert run().status == 0
    sent = only(server)
    rows = [row for row in sent.history if "validation/accuracy" in row]
    assert len(rows) > 2
    for row in rows:
        assert {"trainer/global_step", "train/examples", "train/seconds"} <= set(row)
    defined = {metric["1"]: metric for metric in sent.metrics if "1" in metric}
    minimum, maximum = 1, 2  # numbers of W&B's protocol
    assert defined["validation/accuracy"]["7"] == [maximum]
    assert defined["validation/loss"]["7"] == [minimum]
    assert sent.summary["validation/accuracy"] == max(sent.curve("validation/accuracy"))


@pytest.mark.slow
def test_seeds_share_a_group_and_nothing_else_does(run, server):
    for options in (["seed=0"], ["seed=1"], ["optim.lr=0.5"], ["trainer.log_every=1", "seed=2"], ["norm=layer"]):
        assert run(*options).status == 0
    groups = [sent.group for sent in server.state.runs.values()]
    assert groups[0] == groups[1] == groups[3]
    assert len(set(groups)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 8])
def test_a_killed_run_goes_on_as_one_run(step, run, server, folder):
    ended = run("trainer.save_steps=1", at={"step": step, "signal": "SIGKILL"})
    assert ended.status == -9
    assert run("trainer.save_steps=1").status == 0
    mirrors(only(server), folder())
    assert only(server).exit_code == 0


@pytest.mark.slow
def test_rows_that_had_arrived_before_a_stop_are_not_sent_again(run, server, folder):
    ended = run("trainer.save_steps=2", at={"step": 7, "signal": "SIGTERM"})
    assert ended.status == 143, ended.err
    sent = only(server)
    before = len(sent.history)
    assert before > 0
    assert sent.exit_code == 1  # it was stopped
    requests = len(server.requests)
    assert run("trainer.save_steps=2").status == 0
    mirrors(sent, folder())
    assert sent.exit_code == 0
    assert requests < len(server.requests)


@pytest.mark.slow
def test_a_diverged_run_has_ended_well(run, server, folder):
    assert run("optim=sgd", "optim.lr=1e30", "norm=none", "optim.clip=null").status == 0
    assert only(server).summary["diverged"] is True
    assert only(server).exit_code == 0


@pytest.mark.slow
def test_checkpoints_are_versions_of_one_artifact(run, server, folder):
    assert run("logger.wandb.artifacts=true").status == 0
    versions = [artifact for artifact in server.state.artifacts.values() if artifact.type == "model"]
    assert {artifact.name for artifact in versions} == {f"checkpoint-{folder().name}"}
    assert all(artifact.state == "COMMITTED" for artifact in versions)
    held = {alias: artifact.files["model.ckpt"] for artifact in versions for alias in artifact.aliases}
    for alias, file in (("best", "best.ckpt"), ("latest", "last.ckpt")):
        assert held[alias] == (folder() / "checkpoints" / file).read_bytes()


@pytest.mark.slow
def test_no_checkpoint_is_uploaded_unless_asked_for(run, server):
    assert run().status == 0
    assert not [artifact for artifact in server.state.artifacts.values() if artifact.type == "model"]


def test_wandb_disabled_by_its_own_variable_writes_nothing(run, server, folder):
    assert run(environment={"WANDB_MODE": "disabled"}).status == 0
    assert not server.state.runs
    assert not list(folder().glob("wandb/*run-*"))
