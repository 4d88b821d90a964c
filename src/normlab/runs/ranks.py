"""Which of a run's processes this one is, by the environment in which it was started. Imports no torch."""

from __future__ import annotations

import os

from normlab.config.schema import InputError, RunConfig

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


def rank() -> int:
    """This process's rank in the run, as set by Lightning, torchrun or SLURM."""
    return int(next((os.environ[name] for name in _RANKS if os.environ.get(name)), "0"))


def check_ranks(config: RunConfig) -> None:
    """Check that this is one of the run's processes, or its only one, and that no variables are left over.

    Raises:
        InputError: srun's tasks would each do the whole run, or this process would wait for one that nobody starts.
    """
    tasks, processes = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)), config.trainer.processes
    if tasks not in (1, processes):
        raise InputError(
            f"srun has started {tasks} tasks for a run of {processes} processes: set trainer.devices to match"
        )
    found = {name: os.environ[name] for name in (*_RANKS, "WORLD_SIZE") if os.environ.get(name)}
    wrong = not all(map(str.isdecimal, found.values())) or rank() >= processes
    if wrong or (found.keys() & {*_RANKS} and int(found.get("WORLD_SIZE", processes)) not in (1, processes)):
        named = " ".join(f"{name}={value}" for name, value in found.items())
        raise InputError(
            f"by {named} in the environment, this is one of several processes, and the run has {processes}: "
            f"`unset {' '.join(found)}` if they are left over from something else, or set trainer.devices to match"
        )
