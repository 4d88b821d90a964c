"""What `normlab check` is given: a LightningModule or network, and its data, by name."""

from __future__ import annotations

import inspect
from functools import reduce
from typing import Any

import pytorch_lightning as pl
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from normlab.config.errors import InputError
from normlab.config.modules import find_module, is_file, module_of, not_found
from normlab.networks.target import imported, said

BATCH = 32


def made(target: str) -> Any:
    """What `package.module:Name` or `file.py:Name` stands for: classes and functions are called without arguments.

    Raises:
        InputError: it can't be imported, doesn't exist or needs arguments.
    """
    module, _, name = target.rpartition(":")
    if not module or not name:
        raise InputError(f"{target} is no name of a class: write package.module:Name or file.py:Name")
    if find_module(module_of(target)) is None:
        raise InputError(not_found(module))
    try:
        found = reduce(getattr, name.split("."), imported(module))
    except InputError:
        raise
    except AttributeError:
        raise InputError(f"{target}: {'the file' if is_file(module) else 'the module'} has no {name}") from None
    except (Exception, SystemExit) as error:
        raise InputError(f"{target}: {module} can't be imported: {said(error)}") from error
    if isinstance(found, nn.Module | Dataset | DataLoader) or not callable(found):
        return found
    _check_arguments(target, found)
    try:
        return found()
    except (Exception, SystemExit) as error:
        raise InputError(f"{target} can't be built: {said(error)}") from error


def _check_arguments(target: str, make: Any) -> None:
    try:
        parameters = inspect.signature(make).parameters.values()
    except ValueError:  # of compiled code
        return
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in several]
    if needed:
        raise InputError(
            f"{target} needs arguments ({', '.join(needed)}): name a function without any that returns what it builds"
        )


class Plain(pl.LightningModule):
    """A network with a loss.

    Args:
        net: takes a batch's inputs.
        task: "classification" or "regression".
    """

    def __init__(self, net: nn.Module, task: str) -> None:
        super().__init__()
        self.net = net
        self.classes = task == "classification"

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """The loss of a pair of inputs and targets.

        Raises:
            InputError: the batch is no pair, or the targets don't fit what the network gives.
        """
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            parts = f"{len(batch)} parts" if isinstance(batch, tuple | list) else f"a {type(batch).__name__}"
            raise InputError(f"a batch is {parts}, not a pair (inputs, targets): write a LightningModule with its loss")
        inputs, targets = batch
        outputs = self.net(inputs)
        if self.classes:
            if targets.is_floating_point() and targets.shape != outputs.shape:
                raise InputError(f"targets are {targets.dtype}, and classes are whole numbers: give targets.long()")
            return nn.functional.cross_entropy(outputs, targets)
        if outputs.numel() != targets.numel():
            shapes = f"{list(outputs.shape)}, and the targets are {list(targets.shape)}"
            raise InputError(f"the network gives {shapes}: a regression needs a number for each")
        # [B, 1] beside [B] would be broadcast to [B, B], each output compared with each target
        return nn.functional.mse_loss(outputs, targets.reshape(outputs.shape).to(outputs.dtype))

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        """The same."""
        return self.training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        """AdamW at its defaults."""
        from torch.optim import AdamW

        return AdamW(self.parameters())


def trainable(target: str, task: str | None) -> pl.LightningModule:
    """The LightningModule, or a network with the task's loss.

    Raises:
        InputError: it is neither, or a network without a task.
    """
    found = made(target)
    if isinstance(found, pl.LightningModule):
        if task is not None:
            raise InputError(f"{target} is a LightningModule and has a loss of its own: leave out --task {task}")
        return found
    if not isinstance(found, nn.Module):
        raise InputError(f"{target} gives a {type(found).__name__}, not a LightningModule or a torch.nn.Module")
    if task is None:
        raise InputError(f"{target} is a network without a loss: add --task classification or --task regression")
    return Plain(found, task)


def data(target: str | None, module: pl.LightningModule, batch_size: int) -> dict[str, Any]:
    """Arguments of `Trainer.fit`: a DataModule, or a loader of a dataset.

    Raises:
        InputError: it is neither, or there are no data.
    """
    if target is None:
        if type(module).train_dataloader is pl.LightningModule.train_dataloader:
            raise InputError(
                f"{type(module).__name__} has no train_dataloader: name its data, --data package.module:Name"
            )
        return {}
    found = made(target)
    if isinstance(found, pl.LightningDataModule):
        return {"datamodule": found}
    if isinstance(found, Dataset):
        stream = isinstance(found, IterableDataset)  # which decides its own order
        shuffle = not stream and len(found) > 0  # type: ignore[arg-type]
        found = DataLoader(found, batch_size=batch_size, shuffle=shuffle, drop_last=True)
    if not isinstance(found, DataLoader):
        kinds = "a LightningDataModule, a DataLoader or a Dataset"
        raise InputError(f"--data {target} gives a {type(found).__name__}, not {kinds}")
    try:
        count = len(found)
    except TypeError:  # a stream
        count = 1
    if not count:
        raise InputError(f"--data {target} has no batch of {found.batch_size} examples: choose a smaller --batch-size")
    return {"train_dataloaders": found}
