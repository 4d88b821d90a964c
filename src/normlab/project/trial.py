"""A trial of a project before its long training: a few steps and a validation, with the project's own norms.

It finds what would fail only after an epoch, shows how the network is called, and draws the first batches. The
processes of a run do it together, and all know afterwards what any of them has seen.
"""

from __future__ import annotations

import difflib
import hashlib
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from normlab.config.errors import InputError
from normlab.config.schema import RunConfig
from normlab.config.seeds import derive
from normlab.networks.target import said
from normlab.project.agreement import Agreement
from normlab.project.callbacks import ProjectLogger
from normlab.project.calls import Calls, Recorder
from normlab.project.gradients import SEARCHING, Unused
from normlab.project.options import ProjectConfig
from normlab.project.order import FIRST, Order, seed_all
from normlab.project.processes import gathered, of_the_first
from normlab.project.project import Project, build
from normlab.session.trainer import build_trainer
from normlab.stopping.request import Paused, Stopped


@dataclass(frozen=True)
class Trial:
    """What a trial has shown.

    calls    of the network in a training step; the first process's, so that all replace the norms alike
    first    hashes of this process's first batches
    batches  the same of all processes together
    unused   parameters that some backward pass of some process left without a gradient
    """

    calls: Calls
    first: list[str]
    batches: list[str]
    unused: list[str]


def trial(
    config: RunConfig, options: ProjectConfig, then: Callable[[pl.LightningModule, Calls], None] | None = None
) -> Trial:
    """Train for two batches and validate on two, with objects of its own.

    Args:
        then: gets the trained module and its calls, before both are thrown away.

    Raises:
        InputError: the project fails, or does not log the metric.
    """
    project, order = build(config, options), Order(config.seed)
    recorder, short, unused = Recorder(), _Short(), Unused()
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(
            config,
            Path(folder),
            [ProjectLogger(Path(folder), None, [])],
            [order, recorder, short, unused, Agreement(), *project.callbacks],
            {**trainer_options(config, options, "ddp"), **_SHORT},
        )
        with failing(options):
            fit(project, trainer, order, config)
        # before the folder goes, in which the project of another process may still be writing
        first, names = gathered(order.first), gathered(unused.names)
        short.in_validation, short.at_all = (
            set().union(*gathered(seen)) for seen in (short.in_validation, short.at_all)
        )
    _check_metric(options, short)
    calls = recorder.calls
    calls.made, calls.batch = of_the_first((calls.made, calls.batch))
    if then is not None:
        calls.context = trainer.precision_plugin.forward_context
        then(project.module, calls)
    return Trial(calls, order.first, _joint(first), sorted(set().union(*names)))


def _joint(first: list[list[str]]) -> list[str]:
    """A hash of each batch's shares."""
    if len(first) == 1:
        return first[0]
    return [hashlib.sha256("".join(shares).encode()).hexdigest()[:8] for shares in zip(*first, strict=False)]


def fit(project: Project, trainer: pl.Trainer, order: Order, config: RunConfig, **resume: Any) -> None:
    """Lightning's fit, with ordered batches, and with all that hooks draw decided by the seed."""
    order.apply(project.source, trainer)
    seed_all(derive(config.seed, "fit"))
    trainer.fit(project.module, datamodule=project.data, **resume)


def trainer_options(config: RunConfig, options: ProjectConfig, strategy: str) -> dict[str, Any]:
    """The project's options of Lightning's Trainer, without those left to Lightning.

    Args:
        strategy: of several processes, if the options don't name one.
    """
    chosen = {name: value for name, value in options.trainer.model_dump().items() if value is not None}
    several = {"strategy": strategy, "use_distributed_sampler": True} if config.trainer.processes > 1 else {}
    return {"log_every_n_steps": config.trainer.log_every, **several, **chosen}


_SHORT = {
    "limit_train_batches": FIRST,
    "limit_val_batches": 2,
    "val_check_interval": 1.0,
    "check_val_every_n_epoch": 1,
    "reload_dataloaders_every_n_epochs": 0,
}


class _Short(pl.Callback):
    """Ends training after one epoch; knows what was logged."""

    def __init__(self) -> None:
        self.in_validation: set[str] = set()
        self.at_all: set[str] = set()

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Note the names."""
        self.in_validation |= set(trainer.callback_metrics)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Stop."""
        trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Note the names."""
        self.at_all |= set(trainer.callback_metrics)


def _check_metric(options: ProjectConfig, short: _Short) -> None:
    if options.metric in short.in_validation:
        return
    logged = ", ".join(sorted(short.in_validation)) or "nothing (self.log in validation_step logs)"
    if options.metric is None:
        raise InputError(
            f"metric has no value: name one with metric=NAME; by the end of a validation, the project logs {logged}"
        )
    if options.metric in short.at_all:
        raise InputError(
            f"{options.metric} is logged only after training epochs; by the end of a validation there are {logged}"
        )
    near = [name for name in sorted(short.in_validation) if name.startswith(options.metric)]
    near = near or difflib.get_close_matches(options.metric, short.in_validation, n=1, cutoff=0.5)
    hint = f"; did you mean metric={near[0]}?" if near else ""
    raise InputError(
        f"metric={options.metric}: the project does not log it; by the end of a validation, it logs {logged}{hint}"
    )


@contextmanager
def failing(options: ProjectConfig) -> Iterator[None]:
    """An error of the project's own code, or about it, in a line that says where it was raised."""
    try:
        yield
    except (InputError, Stopped, Paused):
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or "out of memory" in str(error):
            raise
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(frame.filename)]
        if "parameters that were not used in producing" in str(error):  # Lightning's words for torch's
            raise InputError(
                f"project={options.target}: a parameter got no gradient in a step, and DDP waits for each: "
                f"project.trainer.strategy={SEARCHING} allows it"
            ) from error
        where = f" in {frames[-1].name} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
        raise InputError(
            f"project={options.target} fails{where}: {said(error)}; debug=true shows the whole traceback"
        ) from error


def _is_own(file: str) -> bool:
    """Is it a file of the project, not of normlab, a library or Python?"""
    return not ({"site-packages", "dist-packages", "normlab"} & set(Path(file).parts)) and not file.startswith("<")
