"""What a run makes of SLURM's environment, and of what SLURM says."""

import signal
import subprocess

import pytest
from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from run_folders import config_of

from normlab.config.schema import InputError
from normlab.runs.run import do
from normlab.session.trainer import build_trainer
from normlab.stopping import slurm
from normlab.stopping.request import NOTICE, STOPS, Stopped, listening
from normlab.stopping.slurm import job_states, this_job


@pytest.fixture
def task(monkeypatch):
    """This process is one of a step's tasks."""

    def become(tasks: int) -> None:
        values = {"JOB_ID": 7, "STEP_ID": 0, "PROCID": 0, "LOCALID": 0, "NODEID": 0, "NTASKS": tasks}
        values |= {"NTASKS_PER_NODE": tasks, "STEP_NUM_TASKS": tasks, "NNODES": 1, "JOB_NAME": "normlab"}
        for name, value in values.items():
            monkeypatch.setenv(f"SLURM_{name}", str(value))

    return become


@pytest.fixture
def handlers():
    """What has started this job will requeue it: it heeds the notice."""
    before = {number: signal.signal(number, lambda *_: None) for number in (*STOPS, NOTICE)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def environment(tmp_path, devices):
    config = config_of("model=lstm", f"trainer.devices={devices}", "trainer.threads=1")
    return build_trainer(config, tmp_path, [], [])._accelerator_connector.cluster_environment


def test_lightning_never_requeues(task, tmp_path):
    for tasks in (1, 2):
        task(tasks)
        found = environment(tmp_path, devices=tasks)
        assert isinstance(found, SLURMEnvironment)
        assert not found.auto_requeue


def test_a_plain_command_in_a_job_starts_its_own_processes(task, tmp_path):
    task(1)
    assert isinstance(environment(tmp_path, devices=2), LightningEnvironment)


def test_more_tasks_than_processes_are_refused(task, cache, tmp_path):
    task(4)
    with pytest.raises(InputError, match="srun has started 4 tasks for a run of 1"):
        do(config_of("model=lstm", f"cache={cache}", f"output={tmp_path}"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "left", [{"RANK": "1", "WORLD_SIZE": "4"}, {"RANK": "0", "WORLD_SIZE": "4"}, {"LOCAL_RANK": "2"}, {"RANK": "one"}]
)
def test_a_rank_that_something_else_left_over_is_refused_and_not_waited_with(left, cache, tmp_path, monkeypatch):
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"`unset {' '.join(left)}`"):
        do(config_of("model=lstm", f"cache={cache}", f"output={tmp_path}"))
    assert not list(tmp_path.iterdir())


def test_a_job_of_an_array_is_not_taken_for_the_array(task, monkeypatch):
    task(1)
    assert this_job() == "7"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert this_job() == "7_3"


@pytest.mark.parametrize(
    ("status", "out", "err", "states"),
    [
        (0, "7_0 RUNNING\n7_1 PENDING\n", "", {"7_0": "RUNNING", "7_1": "PENDING"}),
        (1, "", "slurm_load_jobs error: Invalid job id specified\n", {}),
        (1, "", "Unable to contact slurm controller\n", None),
    ],
)
def test_what_the_queue_says(status, out, err, states, monkeypatch):
    answer = subprocess.CompletedProcess([], status, out, err)
    monkeypatch.setattr(slurm.subprocess, "run", lambda *_, **__: answer)
    assert job_states("7") == states


@pytest.mark.parametrize(("state", "meant"), [("RUNNING", NOTICE), ("COMPLETING", signal.SIGTERM)])
def test_sigterm_of_a_job_that_still_runs_is_a_notice(state, meant, task, handlers, monkeypatch):
    task(1)
    monkeypatch.setattr(slurm, "job_states", lambda job: {job: state})
    with listening(), pytest.raises(Stopped) as before_training:
        signal.raise_signal(signal.SIGTERM)
    assert before_training.value.signum == meant
    with listening() as request:
        request.hold("saving")
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped) as in_training:
            request.obey()
    assert in_training.value.signum == meant
