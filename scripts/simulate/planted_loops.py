"""Trains the networks of `planted.py`: in a loop written by hand, under Lightning's trainer, and in two processes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import pytorch_lightning as pl
import torch
from planted import Plan, norms, optimizer_for, start
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, TensorDataset

import normlab

PROCESSES = 2


def train(planned: Callable[[], Plan]) -> tuple[str, ...]:
    """The causes that the monitor names in the plan's kind of loop."""
    plan = planned()
    if plan.loop == "processes":
        return in_processes(planned)
    if plan.loop == "hand":
        return by_hand(plan)
    return with_lightning(plan, samples=plan.loop == "sampling", recalibrates=plan.loop == "recalibrating")


def by_hand(plan: Plan) -> tuple[str, ...]:
    """The training in a loop written by hand, watched; the causes that the monitor names."""
    net, x, y = start(plan)
    optimizer = optimizer_for(plan, net)
    schedule = LambdaLR(optimizer, partial(rate, plan))
    monitor = normlab.NormMonitor(say=lambda _: None).watch(net, optimizer)
    batches = order(plan, len(x))
    for step in range(plan.steps):
        if not plan.thaws:
            for norm in norms(net):
                norm.eval()
        optimizer.zero_grad()
        for chosen in islice(batches, plan.accumulated):
            for _ in range(plan.passes):
                loss = nn.functional.cross_entropy(net(x[chosen]), y[chosen])
            loss.backward()
        optimizer.step()
        schedule.step()
        if step % 40 == 19:
            evaluate(plan, net, x)
    causes = monitor.report().causes
    monitor.close()
    return causes


def rate(plan: Plan, step: int) -> float:
    """The learning rate, relative to the plan's: constant, or a warm-up and then a linear decay."""
    if not plan.warmup:
        return 1.0
    return min((step + 1) / plan.warmup, (plan.steps - step) / (plan.steps - plan.warmup))


def evaluate(plan: Plan, net: nn.Module, x: Tensor) -> None:
    if plan.evaluates:
        net.eval()
    with torch.no_grad():
        for part in x[:128].split(64):
            net(part + plan.shift)
    if plan.returns:
        net.train()


def order(plan: Plan, count: int) -> Iterator[Tensor]:
    """Batches of an epoch in random order, or in the data's."""
    while True:
        indices = torch.arange(count) if plan.ordered else torch.randperm(count)
        yield from (part for part in indices.split(plan.batch) if len(part) == plan.batch)


class Task(pl.LightningModule):
    """Classifies; in validation it may do what changes running statistics.

    Args:
        samples: evaluates in training mode, as for dropout's samples.
        recalibrates: takes the running statistics from the validation data.
    """

    def __init__(self, plan: Plan, net: nn.Module, samples: bool = False, recalibrates: bool = False) -> None:
        super().__init__()
        self.plan, self.net, self.samples, self.recalibrates = plan, net, samples, recalibrates

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The plan's."""
        return optimizer_for(self.plan, self.net)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Cross-entropy."""
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        """Forward passes."""
        if self.samples:
            self.net.train()
        self.net(batch[0])

    def on_validation_epoch_end(self) -> None:
        """Averages the statistics of the validation data, as `update_bn` does."""
        if self.recalibrates:
            data = self.trainer.val_dataloaders
            assert data is not None
            update_bn(data, self.net)


def with_lightning(plan: Plan, **validation: bool) -> tuple[str, ...]:
    """The causes that the callback names, three validations in."""
    net, x, y = start(plan)
    examples = TensorDataset(x, y)
    trainer = pl.Trainer(
        max_steps=plan.steps, val_check_interval=plan.steps // 3, check_val_every_n_epoch=None, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        callbacks=[monitor := normlab.NormMonitor(say=lambda _: None)],
    )  # fmt: skip
    training = DataLoader(examples, plan.batch, shuffle=True, drop_last=True)
    trainer.fit(Task(plan, net, **validation), training, DataLoader(TensorDataset(x[:128], y[:128]), 64))
    return monitor.report().causes


def in_processes(planned: Callable[[], Plan]) -> tuple[str, ...]:
    """The causes that the monitor of the first of two processes names; each has half of the batch."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_process, (planned, folder), nprocs=PROCESSES)
        return tuple(Path(folder, "causes").read_text(encoding="utf-8").split())


def _process(rank: int, planned: Callable[[], Plan], folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=PROCESSES)
    causes = _share(planned(), rank)  # which also frees the network: after the process group's end it would hang
    distributed.destroy_process_group()
    if rank == 0:
        Path(folder, "causes").write_text(" ".join(causes), encoding="utf-8")


def _share(plan: Plan, rank: int) -> tuple[str, ...]:
    net, x, y = start(plan)
    parallel = DistributedDataParallel(net)
    optimizer = optimizer_for(plan, net)
    monitor = normlab.NormMonitor(say=lambda _: None).watch(parallel, optimizer)
    for _, chosen in zip(range(plan.steps), order(plan, len(x)), strict=False):
        optimizer.zero_grad()
        half = chosen[rank::PROCESSES]
        nn.functional.cross_entropy(parallel(x[half]), y[half]).backward()
        optimizer.step()
    return monitor.report().causes
