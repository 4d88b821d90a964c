"""Small trainings with one mistake each, for notebooks/05_what_is_wrong_here; at the end stands which."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from normlab.monitor.callback import NormMonitor
from normlab.monitor.gap import Gap, train_eval_gap

CLASSES, BATCH, STEPS, EVERY = 4, 32, 120, 10
Pairs = list[tuple[Tensor, Tensor]]


@dataclass
class Training:
    """A finished training.

    net         the network
    curves      "training" and "validation" → loss after every ten steps; training mode and eval mode
    batches     of the training, in the order in which it sees them
    evaluation  batches for validation
    """

    net: nn.Module
    batches: Pairs
    evaluation: Pairs
    curves: dict[str, list[float]] = field(default_factory=lambda: {"training": [], "validation": []})

    def gap(self) -> Gap:
        """Where the difference between its two losses comes from."""
        return train_eval_gap(self.net, _loss, self.batches, self.evaluation)


def train(mistake: int = 0, monitor: NormMonitor | None = None, seed: int = 0) -> Training:
    """Train a CNN with batch norm on noisy pictures of four classes, for 120 steps.

    Args:
        mistake: 1, 2 or 3; 0: none.
        monitor: watches, if given.
        seed: of data and weights.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        blocks = [_block(channels) for channels in (3, 16)]
        net = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, CLASSES))
        means = torch.randn(CLASSES, 3, 8, 8)
        made = Training(net, _pictures(means, 512), _pictures(means, 256))
        if mistake:
            _MISTAKES[mistake](made)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
        if monitor is not None:
            monitor.watch(net, optimizer)
        for step, batch in zip(range(1, STEPS + 1), _forever(made.batches), strict=False):
            optimizer.zero_grad()
            loss = _loss(net, batch)
            loss.backward()
            optimizer.step()
            if step % EVERY == 0:
                net.eval()
                with torch.no_grad():
                    losses = [float(_loss(net, each)) for each in made.evaluation]
                net.train()
                made.curves["training"].append(float(loss.detach()))
                made.curves["validation"].append(sum(losses) / len(losses))
    return made


def plot(trainings: list[Training]) -> Any:
    """A figure: both losses of each training."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(trainings), figsize=(10, 2.8), sharex=True, layout="constrained")
    steps = range(EVERY, STEPS + 1, EVERY)
    for number, (panel, training) in enumerate(zip(axes, trainings, strict=True), 1):
        panel.plot(steps, training.curves["training"], "o-", ms=3, color="#0072B2", label="training")
        panel.plot(steps, training.curves["validation"], "s--", ms=3, color="#D55E00", label="validation")
        panel.set(title=f"training {number}", xlabel="step", yscale="log")
    axes[0].set_ylabel("loss")
    axes[0].legend(frameon=False)
    pyplot.close(figure)
    return figure


def _block(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())


def _loss(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return cross_entropy(net(batch[0]), batch[1])


def _pictures(means: Tensor, count: int) -> Pairs:
    classes = torch.arange(count) % CLASSES
    classes = classes[torch.randperm(count)]
    pictures = 0.4 * means[classes] + torch.randn(count, *means.shape[1:])
    return list(zip(pictures.split(BATCH), classes.split(BATCH), strict=True))


def _forever(batches: Pairs) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from batches


def _slow(training: Training) -> None:
    for norm in training.net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 0.001


def _sorted(training: Training) -> None:
    pictures, classes = (torch.cat(each) for each in zip(*training.batches, strict=True))
    order = classes.argsort(stable=True)
    pairs = zip(pictures[order].split(BATCH), classes[order].split(BATCH), strict=True)
    training.batches = list(pairs)


def _brighter(training: Training) -> None:
    training.evaluation = [(pictures + 2, classes) for pictures, classes in training.evaluation]


_MISTAKES: dict[int, Callable[[Training], None]] = {1: _brighter, 2: _slow, 3: _sorted}
