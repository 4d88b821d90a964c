"""Several processes of a Lightning project: what is drawn alike, what decides, and how an error of one ends all."""

from __future__ import annotations

import math
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from lightning_fabric.plugins.environments.lightning import find_free_network_port
from pytorch_lightning.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from normlab.project.agreement import mean
from normlab.project.callbacks import Patience
from normlab.project.order import Order
from normlab.session.validation_curve import Curve


def drawn(share: tuple, done: int = 0, workers: int = 0) -> list[tuple[list[int], float]]:
    """Indices and a random number of each batch, in one of several processes that all see the whole data."""
    order = Order(3)
    order.load_state_dict({"epoch": 0, "batch": done, "steps": 0})
    order.share = share
    loader = DataLoader(torch.arange(40), 4, shuffle=True, collate_fn=with_number, num_workers=workers)
    return list(order._each(loader))


def with_number(examples: list) -> tuple[list[int], float]:
    return [*map(int, examples)], float(torch.rand(1))


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_samplers_draw_the_same_in_all_processes_and_augmentation_does_not(workers):
    first, second = (drawn(("process", rank), workers=workers) for rank in (0, 1))
    assert [indices for indices, _ in first] == [indices for indices, _ in second]
    numbers = {number for one in (first, second) for _, number in one}
    assert len(numbers) == 20
    assert drawn(("process", 1), done=3, workers=workers) == second[3:]
    assert sorted(index for indices, _ in first for index in indices) == [*range(40)]


def test_the_mean_of_equal_values_is_that_value():
    assert mean([0.1, 0.1, 0.1]) == 0.1
    assert mean([0.0, 0.5]) == 0.25


@pytest.mark.parametrize(
    ("values", "stops"),
    [
        ([1, 2, 2, 2], 4),
        ([3, 1, 2, 4], 3),
        ([1, 2, 3, 2], None),
        ([math.nan, math.nan], 2),
        ([1, 1, 2, math.nan], None),
    ],
)
def test_patience_counts_validations_since_the_best(values, stops):
    curve = Curve("x", "max", "x")
    trainer = SimpleNamespace(state=SimpleNamespace(fn=TrainerFn.FITTING), should_stop=False)
    for step, value in enumerate(values, start=1):
        curve.rows.append({"x": value, "step": step})
        Patience(curve, 2).on_validation_end(trainer, None)
        if trainer.should_stop:
            break
    assert (step if trainer.should_stop else None) == stops


PROGRAM = """
import sys, time
from datetime import timedelta
import torch.distributed as dist
from normlab.config.errors import InputError
from normlab.project import processes

rank, failing, port = int(sys.argv[1]), *sys.argv[2:]
processes.LOOK, processes.GRACE = 0.1, 1.0
hosted = dist.TCPStore("127.0.0.1", int(port), 2, rank == 0)
try:
    with processes.together(2):
        dist.init_process_group("gloo", store=hosted, rank=rank, world_size=2, timeout=timedelta(seconds=60))
        assert processes.gathered(rank) == [0, 1]
        assert processes.of_the_first(rank) == 0
        assert processes.of_the_first(lambda: rank)() == rank  # can't be sent
        if rank == int(failing):
            raise InputError("it failed")
        dist.barrier()
except BaseException as end:
    assert rank == int(failing)
    assert isinstance(end, SystemExit if rank else InputError)
    print("told", flush=True)
    time.sleep(60)  # so that the other one doesn't notice by itself, as with NCCL
"""


@pytest.mark.slow
@pytest.mark.parametrize("failing", [0, 1])
def test_a_process_that_waits_in_vain_is_ended(failing):
    port = str(find_free_network_port())
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(rank), str(failing), port],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    waiting = started[1 - failing]
    try:
        err = waiting.communicate(timeout=50)[1]
        assert waiting.returncode == (2 if failing else 0), err
        assert ("error: it failed" in err) == bool(failing)
        assert started[failing].poll() is None
    finally:
        started[failing].kill()
        out = started[failing].communicate()[0]
    assert "told" in out
