"""What NormMonitor costs at its defaults: two equal networks trained in turn, step by step, one of them watched.

Run by python scripts/bench/bench_monitor.py (two minutes). Prints for three networks the ratio of the times of all
steps, and of blocks of 50 steps, of which the later ones have fewer looks: medians of five trainings.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from time import thread_time

import torch
from torch import Tensor, nn

import normlab

STEPS, BLOCK, TRAININGS = 300, 50, 5


def cnn() -> tuple[nn.Module, Tensor]:
    layers: list[nn.Module] = []
    for channels in (3, 32, 32, 32):
        layers += [nn.Conv2d(channels, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    return net, torch.randn(32, 3, 16, 16)


def mlp() -> tuple[nn.Module, Tensor]:
    layers = [nn.Sequential(nn.Linear(512, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU()) for _ in range(4)]
    return nn.Sequential(*layers, nn.Linear(512, 10)), torch.randn(128, 512)


def transformer() -> tuple[nn.Module, Tensor]:
    layer = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True, norm_first=True)
    net = nn.Sequential(nn.TransformerEncoder(layer, 3, enable_nested_tensor=False), nn.Flatten(), nn.Linear(2048, 10))
    return net, torch.randn(16, 32, 64)


def step(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    """Seconds of one step that this thread computed, so that other programs don't count."""
    began = thread_time()
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()
    return thread_time() - began


def train(make: Callable[[], tuple[nn.Module, Tensor]]) -> tuple[Tensor, int]:
    """Seconds [steps, 2] of the unwatched and the watched network, and the number of looks."""
    plain, x = make()
    watched = copy.deepcopy(plain)
    y = torch.randint(0, 10, (len(x),))
    nets = [(net, torch.optim.SGD(net.parameters(), lr=0.01)) for net in (plain, watched)]
    for net, optimizer in nets:  # warm up
        step(net, optimizer, x, y)
    # half of the default budget, because the monitor counts the other network's time as part of the training
    monitor = normlab.NormMonitor(budget=normlab.NormMonitor().budget / 2).watch(watched)
    times = torch.zeros(STEPS, 2)
    for number in range(STEPS):
        for which in (0, 1) if number % 2 else (1, 0):  # either may profit from the other's warm caches
            times[number, which] = step(*nets[which], x, y)
    return times, len(monitor.report().seen.looks)


def main() -> None:
    torch.set_num_threads(1)
    for make in (cnn, mlp, transformer):
        trainings = [train(make) for _ in range(TRAININGS)]
        times = torch.stack([times for times, _ in trainings])  # [trainings, steps, 2]
        blocks = times.unflatten(1, (-1, BLOCK)).sum(2)
        total = times.sum(1)
        ratios = (total[:, 1] / total[:, 0]).sort().values
        looks = sorted(looks for _, looks in trainings)[TRAININGS // 2]
        print(
            f"{make.__name__}: {1e3 * times[..., 0].median():.1f} ms per step, {looks} looks in {STEPS} steps, all "
            f"steps x{ratios.median():.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}), median block "
            f"x{(blocks[..., 1] / blocks[..., 0]).median():.3f}"
        )


if __name__ == "__main__":
    main()
