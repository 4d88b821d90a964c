"""What swapping costs: a training step with normlab's batch and layer norm in place of torch's, as ratios in one run.

Run by python scripts/bench/bench_swap.py (a few minutes). Three equal networks per shape, a ResNet and a ViT, train in
turn, in short blocks: torch's norm, normlab's in its place, and torch's again, which shows how far equal arms differ.
The bound is 1.02. Times are of this thread alone, so that other programs count less.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from time import thread_time

import torch
from torch import Tensor, nn

import normlab
from normlab.timing.blocks import Part, interleaved, ratio, totals


class Block(nn.Module):
    """Two convolutions with batch norm around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
        self.inner = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        return torch.relu(x + self.inner(x))


def resnet() -> tuple[nn.Module, Tensor]:
    """Four blocks on 32 x 32 images, as on CIFAR-10."""
    stem = [nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    first, second = (nn.Sequential(*(Block(channels) for _ in range(2))) for channels in (32, 64))
    down = [nn.Conv2d(32, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*stem, first, *down, second, *head), torch.randn(16, 3, 32, 32)


class ViT(nn.Module):
    """Six pre-norm layers of width 192 on 64 patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 192, 4, 4)
        layer = nn.TransformerEncoderLayer(192, 3, 768, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 6, nn.LayerNorm(192), enable_nested_tensor=False)
        self.head = nn.Linear(192, 10)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, 32, 32] to logits [B, 10]."""
        return self.head(self.layers(self.patches(x).flatten(2).mT).mean(1))


def vit() -> tuple[nn.Module, Tensor]:
    """A small ViT on 32 x 32 images."""
    return ViT(), torch.randn(16, 3, 32, 32)


def training(net: nn.Module, x: Tensor, y: Tensor) -> Part:
    """A training step."""
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-3)

    def step(_: int) -> None:
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()

    return step


def main() -> None:
    """Print the ratio of each shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=40, help="blocks of each arm")
    parser.add_argument("--steps", type=int, default=5, help="training steps of a block")
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    gpu = chosen.device != "cpu"
    for make, norm in ((resnet, "batch"), (vit, "layer")):
        torch.manual_seed(0)
        plain, x = make()
        y = torch.randint(0, 10, (len(x),))
        again, swapped = copy.deepcopy(plain), copy.deepcopy(plain)
        report = normlab.swap_norms(swapped, norm, x)
        x, y = x.to(chosen.device), y.to(chosen.device)
        nets = {"torch": plain, "again": again, "normlab": swapped}
        times = interleaved(
            {name: (training(net.to(chosen.device), x, y),) for name, net in nets.items()},
            steps=chosen.steps,
            blocks=chosen.blocks,
            seed=0,
            **({"settle": torch.cuda.synchronize} if gpu else {"clock": thread_time}),
        )
        print(
            f"{make.__name__}, {len(report.done)} x {norm} norm: torch {statistics.median(totals(times['torch'])):.1f} "
            f"ms per step, normlab x{ratio(times['normlab'], times['torch']):.3f}, torch again "
            f"x{ratio(times['again'], times['torch']):.3f} (n = {chosen.blocks})"
        )


if __name__ == "__main__":
    main()
