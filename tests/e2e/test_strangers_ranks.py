"""A stranger's Lightning project in two processes: what each is given, what they decide, how they end."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from commands import Command, Ended, runs
from exactness import differences, result
from normlab.folder.jsonfile import read_json
from normlab.folder.resume_points import list_points, newest_intact

pytestmark = pytest.mark.slow
TESTS = Path(__file__).parents[1]
COMMON = ("trainer=ddp", "trainer.threads=1", "trainer.progress=false")


def variant(name: str, *choices: str, metric: str = "val/acc") -> tuple[str, ...]:
    return (f"project={TESTS / 'lightning_ranks.py'}:{name}", f"metric={metric}", *choices)


@pytest.fixture
def start(cache, tmp_path):
    """Starts a command with two processes; its results go to tmp_path."""

    def started(*choices: str, **environment: str) -> Command:
        epochs = () if any("trainer.epochs" in choice for choice in choices) else ("trainer.epochs=2",)
        loggers = () if any("logger=" in choice for choice in choices) else ("logger=none",)
        output = () if any("output=" in choice for choice in choices) else (f"output={tmp_path / 'outputs'}",)
        return Command(
            [*COMMON, *epochs, *loggers, f"cache={cache}", *output, *choices],
            {**os.environ, "PYTHONPATH": str(TESTS), **environment},
        )

    return started


def summary(output: Path) -> dict:
    (folder,) = runs(output)
    return read_json(folder / "summary.json")


def ended(command: Command) -> Ended:
    answer = command.wait(150)
    assert answer.status == 0, answer.err
    return answer


def witnessed(folder: Path, kind: str) -> list[list]:
    """What each process has written down."""
    return [[json.loads(line) for line in (folder / f"{kind}-{rank}").read_text().splitlines()] for rank in (0, 1)]


@pytest.mark.parametrize("loader", ["shuffle", "weighted", "own", "workers"])
def test_processes_have_their_own_shares_and_draw_their_own_augmentation(loader, start, tmp_path):
    loaders = {"workers": ("project.arguments.workers=1",)}.get(loader, (f"project.arguments.sampler={loader}",))
    seen = {}
    for norm in ("layer", "own") if loader == "shuffle" else ("layer",):
        (tmp_path / norm).mkdir()
        choices = variant("Witness", *loaders, f"norm={norm}", "trainer.epochs=4", f"output={tmp_path / norm / 'out'}")
        answer = ended(start(*choices, WITNESS=str(tmp_path / norm)))
        seen[norm] = witnessed(tmp_path / norm, "train")
    for epoch in range(4):
        drawn = [[example for e, batch in one if e == epoch for example in batch] for one in seen["layer"]]
        indices = [[example[0] for example in one] for one in drawn]
        assert [len(one) for one in indices] == [12, 12]
        assert len({*indices[0], *indices[1]}) == 24  # no example twice
        assert len({value for one in drawn for example in one for value in example[1:]}) == 2 * 12 * 3
    orders = [[tuple(e[0] for e in batch) for _, batch in one] for one in seen["layer"]]
    assert len({*orders[0], *orders[1]}) == 24  # another order in each epoch
    if loader == "shuffle":
        assert seen["own"] == seen["layer"]
        validated = [{e[0] for _, batch in one for e in batch} for one in witnessed(tmp_path / "layer", "val")]
        assert len(validated[0] | validated[1]) == 16
        assert not (validated[0] | validated[1]) & {index for one in orders for batch in one for index in batch}
    ends = witnessed(tmp_path / "layer", "end")
    assert ends[0] == ends[1]  # weights and learning rate
    assert ends[0][0][1] == pytest.approx(1e-4)  # two validations without a better mean
    found = summary(tmp_path / "layer" / "out")
    assert found["repeatable"]
    assert (found["best"], found["best_step"], found["averaged_over"]) == (1.125, 6, 2)
    assert "each process logs val/acc of its own share (1 to 1.25)" in answer.out
    rows = (runs(tmp_path / "layer" / "out")[0] / "metrics.jsonl").read_text().splitlines()
    assert [row["val/acc"] for row in map(json.loads, rows) if "val/acc" in row] == [0, 1.125, 0.25, 0.375]


def test_synchronised_batch_norm_equals_one_process_with_the_whole_batch(start, tmp_path):
    def weights(output: Path) -> dict[str, torch.Tensor]:
        return torch.load(runs(output)[0] / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]

    common = ("norm=batch", "norm.sync=true", "trainer.precision=64-true", "trainer.epochs=4")
    ended(start(*variant("Whole", "project.arguments.batch_size=12", *common), f"output={tmp_path / 'two'}"))
    ended(
        start(
            *variant("Whole", "project.arguments.batch_size=24", *common), f"output={tmp_path / 'one'}", "trainer=cpu"
        )
    )
    alone = (*common[:1], *common[2:])
    ended(start(*variant("Whole", "project.arguments.batch_size=12", *alone), f"output={tmp_path / 'unsynchronised'}"))
    one, two, unsynchronised = (weights(tmp_path / name) for name in ("one", "two", "unsynchronised"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-9, atol=1e-11, msg=name)
    assert any(not torch.allclose(unsynchronised[name], value) for name, value in one.items())
    assert summary(tmp_path / "two")["norms_replaced"] == 1


SEGMENTER = (
    *("project=lightning_project.training:LitSegmenter", "project.data=lightning_project.training:Photos"),
    *("project.arguments.width=4", "project.data_arguments.count=128", "metric=val_dice", "norm=batch"),
    "project.trainer.accumulate_grad_batches=2",
)
RESUMED = {
    "segmenter": (*SEGMENTER, "trainer.epochs=10"),
    "gan": variant("Synced", "norm=layer", "trainer.epochs=14", metric="distance"),
    "workers": (*SEGMENTER, "trainer.epochs=10", "project.data_arguments.num_workers=1"),
}


def reach(command: Command, output: Path, step: int) -> list[int]:
    """Wait for a resume point at that step or later; the processes of the run, the first one first."""
    command.until(lambda: any(point.step >= step for folder in runs(output) for point in list_points(folder)), 120)
    pid = command.process.pid
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


@pytest.mark.parametrize("kind", RESUMED)
def test_killed_stopped_and_resumed(kind, start, tmp_path):
    """All processes killed, then stopped by SIGTERM: the same bits as without the interruptions; then it is skipped."""
    choices = (*RESUMED[kind], "logger=csv", "trainer.log_every=2")
    ended(start(*choices, f"output={tmp_path / 'whole'}"))
    broken = (*choices, f"output={tmp_path / 'broken'}", "trainer.save_steps=3")
    command = start(*broken)
    for pid in reach(command, tmp_path / "broken", 5):
        os.kill(pid, signal.SIGKILL)
    assert command.wait().status == -signal.SIGKILL
    (folder,) = runs(tmp_path / "broken")
    command = start(*broken)
    reach(command, tmp_path / "broken", newest_intact(folder).step + 3)
    command.process.terminate()
    answer = command.wait()
    assert answer.status == 143, answer.err
    assert "The same command resumes from step" in answer.err
    ended(start(*broken))
    assert differences(result(folder), result(runs(tmp_path / "whole")[0])) == []
    began = time.monotonic()
    assert "nothing was computed" in ended(start(*broken, "trainer.progress=true")).out
    assert time.monotonic() - began < 30


def members(group: int) -> list[int]:
    """Processes of a group that still run."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = place.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has just ended
            continue
        if int(of) == group and state != "Z":
            found.append(int(place.parent.name))
    return found


BAD = {
    "in the first": (variant("Fails", "project.arguments.where=0"), "fails in training_step (lightning_ranks.py, line"),
    "in the second": (variant("Fails", "project.arguments.where=1"), "KeyError: 'mask'; debug=true shows"),
    "it is gone": (variant("Fails", "project.arguments.where=1", "project.arguments.how=exit"), "ended without a mess"),
    "in the trial": (variant("FailsInTrial"), "fails in validation_step (lightning_ranks.py, line"),
    "unused": (variant("Unused", "project.arguments.late=true"), "strategy=ddp_find_unused_parameters_true allows it"),
    "uneven": (variant("Uneven"), "different numbers of training batches (8, 4)"),
    "no metric": (variant("Unused", metric="val/dice"), "by the end of a validation, it logs val/acc"),
}


@pytest.mark.parametrize("case", BAD)
def test_an_error_of_one_process_ends_all(case, start):
    """With one line; no process waits for ever for the others."""
    choices, message = BAD[case]
    command = start(*choices, "norm=layer")
    answer = command.wait(100)
    assert answer.status == 2, answer.err
    errors = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in answer.err
    deadline = time.monotonic() + 10
    while left := members(command.process.pid):
        assert time.monotonic() < deadline, f"{left} still run"
        time.sleep(0.1)


def test_projects_that_need_care(start, tmp_path):
    """Unused parameters, manual optimisation, a metric of one process, a folder that is filled when a run begins."""
    answer = ended(start(*variant("Unused", "norm=layer", f"output={tmp_path / 'unused'}")))
    assert (
        "2 parameters get no gradient in some backward pass (extra.bias, extra.weight), so training uses" in answer.out
    )
    assert summary(tmp_path / "unused")["steps"] == 6
    answer = ended(start(*variant("OneLogs", "norm=layer", "trainer.patience=1", f"output={tmp_path / 'one'}")))
    assert "each process logs" not in answer.out
    assert "averaged_over" not in summary(tmp_path / "one")
    (tmp_path / "data").mkdir()
    filled = (
        f"project.data={TESTS / 'lightning_ranks.py'}:Fills",
        f"project.data_arguments.folder={tmp_path / 'data'}",
    )
    ended(start(*variant("Whole", "project.arguments.batch_size=1", *filled), f"output={tmp_path / 'filled'}"))
    assert summary(tmp_path / "filled")["steps"] == 6
