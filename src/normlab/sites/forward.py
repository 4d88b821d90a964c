"""A network's forward pass with an example, after which the network is as before."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


def forward(net: nn.Module, example: Any) -> Any:
    """The output for an example: one argument, a tuple of them, a dict of named ones, or a function of the network."""
    if isinstance(example, Mapping):
        return net(**copied(dict(example)))
    if callable(example):
        return example(net)
    return net(*copied(example)) if isinstance(example, tuple | list) else net(copied(example))


def in_one_line(error: Exception) -> str:
    """An error's class and the first line of its message, whose other lines are torch's signatures."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def copied(value: Any) -> Any:
    """The same with tensors copied, because a network may change its input in place."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(copied(item) for item in value)
    return value


def batch_of(example: Any) -> int | None:
    """The length of the first axis of the first tensor in an example; None if there is none.

    A function of the network may say it as its `batch`.
    """
    if isinstance(batch := getattr(example, "batch", None), int):
        return batch
    if isinstance(example, Tensor):
        return example.shape[0] if example.ndim else None
    items: Sequence[Any] = ()
    if isinstance(example, Mapping):
        items = list(example.values())
    elif isinstance(example, tuple | list):
        items = example
    return next((size for size in map(batch_of, items) if size is not None), None)


def one_more(example: Any, batch: int) -> Any:
    """The batch with its first example a second time; None for a function that can't say it as its `one_more`."""
    if isinstance(example, Tensor):
        return torch.cat([example, example[:1]]) if example.ndim and example.shape[0] == batch else example
    if isinstance(example, Mapping):
        return {key: one_more(item, batch) for key, item in example.items()}
    if type(example) in (tuple, list):
        return type(example)(one_more(item, batch) for item in example)
    if callable(example):
        return example.one_more() if hasattr(example, "one_more") else None
    return example


def unwrapped(net: nn.Module) -> nn.Module:
    """The network itself, inside `DataParallel`, `DistributedDataParallel` or `torch.compile`."""
    while True:
        if isinstance(net, nn.DataParallel | nn.parallel.DistributedDataParallel):
            net = net.module
        elif isinstance(inner := getattr(net, "_orig_mod", None), nn.Module):
            net = inner
        else:
            return net


@contextmanager
def random_states(net: nn.Module) -> Iterator[None]:
    """Afterwards the random states of Python, NumPy and torch are as before."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = sorted({p.device.index for p in net.parameters() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def restored(net: nn.Module) -> Iterator[None]:
    """Without gradients; afterwards buffers, modes and all random states are as before, bit by bit."""
    modules = list(net.modules())
    modes = [module.training for module in modules]
    buffers = [
        {name: (b, b.clone()) for name, b in module._buffers.items() if b is not None and not is_lazy(b)}
        for module in modules
    ]
    try:
        with torch.no_grad(), random_states(net):
            yield
    finally:
        for module, training, kept in zip(modules, modes, buffers, strict=True):
            module.training = training
            for name, (buffer, values) in kept.items():
                module._buffers[name] = buffer
                if not torch.equal(buffer, values):
                    with torch.no_grad():
                        buffer.copy_(values)
