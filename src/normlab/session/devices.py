"""Threads, devices and compilers: check that the machine has what a run needs, and set torch up for it."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import warnings

import torch

from normlab.config.schema import InputError, RunConfig, TrainerConfig


def set_up(config: RunConfig) -> None:
    """Check the machine, and set this process's torch up for the run.

    Raises:
        InputError: the machine lacks a GPU or a compiler that the config asks for.
    """
    quiet()
    check_devices(config.trainer)
    if config.trainer.compile:
        check_compiler()
    torch.set_num_threads(config.threads)  # OMP_NUM_THREADS would otherwise decide it, and with it the result's bits


def device_of(trainer: TrainerConfig) -> torch.device:
    """The device of a run with one process."""
    return torch.device("cuda" if trainer.accelerator == "gpu" else "cpu")


def check_devices(trainer: TrainerConfig) -> None:
    """Check that there are as many GPUs as requested.

    Raises:
        InputError: there are fewer.
    """
    if trainer.accelerator != "gpu":
        return
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if there == 0:
        raise InputError("trainer=gpu: torch sees no GPU here; use trainer=cpu")
    if there < trainer.devices:
        raise InputError(f"trainer.devices={trainer.devices}: torch sees only {there} GPUs here")


def check_compiler() -> None:
    """Check that the C++ compiler that torch.compile calls exists: CXX or g++.

    Raises:
        InputError: it doesn't.
    """
    command = (shlex.split(os.environ.get("CXX", "")) or ["g++"])[0]
    if shutil.which(command) is None:
        raise InputError(
            f"trainer.compile=true needs a C++ compiler, but there is no {command} here; "
            "install one (apt install g++), set CXX, or leave trainer.compile=false"
        )


def quiet() -> None:
    """Hide Lightning's hints that don't concern the user; the run itself reports what matters."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for hint in (
        ".*does not have many workers.*",
        ".*number of training batches.*",
        ".*already configured.*",
        ".*LeafSpec.*",
        ".*your dataloader is not resumable.*",  # it is, through its sampler
        ".*exists and is not empty.*",  # a resumed run's checkpoints are there
        ".*`srun` command is available.*",
    ):
        warnings.filterwarnings("ignore", hint)
    warnings.filterwarnings("ignore", ".*", module="pytorch_lightning.trainer.connectors.*")
