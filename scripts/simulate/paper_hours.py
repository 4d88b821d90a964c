"""How many GPU hours the study `paper` would take, by arithmetic: nothing here has run on a GPU.

python scripts/simulate/paper_hours.py

For each finding, one training step of each cell is taken apart on the CPU, on random data of the real shapes: its
floating-point operations, and its calls of tensor operations, forwards, backwards and in the optimiser. A step on a GPU
takes at least the larger of `calls` × 8 µs, about what eager PyTorch needs to launch one, and operations ÷ 20 TFLOP/s,
what a current GPU reaches in such products with TF32. Evaluation adds a tenth.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from normlab.checks.config import checked
from normlab.config.schema import RunConfig, Sizes
from normlab.findings.finding import Finding
from normlab.models.build import build_model
from normlab.study.scale import Scale, read_scale, read_study

ROOT = Path(__file__).parents[2]
LAUNCH = 8e-6  # seconds per call
RATE = 20e12  # operations per second
EVALUATION = 1.1
# training examples, or tokens of a text, after a tenth of CIFAR-10 and MNIST is held out; and the sizes of the data
DATA: Mapping[str, tuple[int, Sizes]] = {
    "cifar10": (45_000, Sizes("images", (3, 32, 32), 10)),
    "sequential_mnist": (54_000, Sizes("features", (784, 1), 10, positions=784, shortest=784)),
    "permuted_mnist": (54_000, Sizes("features", (784, 1), 10, positions=784, shortest=784)),
    "ptb_char": (5_017_483, Sizes("tokens", (100,), 50, vocabulary=50, positions=100, causal=True, shortest=100)),
    "wikitext2": (2_088_628, Sizes("tokens", (128,), 33_278, vocabulary=33_278, positions=128, causal=True)),
    "wikitext103": (103_227_021, Sizes("tokens", (256,), 60_000, vocabulary=60_000, positions=256, causal=True)),
}


class Calls(TorchDispatchMode):
    """Counts the operations that reach the device; views are free."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count and call."""
        self.count += not function.is_view
        return function(*args, **(kwargs or {}))


def steps_of(config: RunConfig) -> int:
    """Optimiser steps of a training."""
    count, sizes = DATA[config.task.name]
    windows = count // sizes.shape[0] if sizes.causal else count
    steps = round(windows / config.task.batch_size * config.trainer.epochs)
    return min(steps, config.trainer.steps or steps)


def step_of(config: RunConfig) -> tuple[int, float]:
    """Calls, and floating-point operations, of one training step, counted with a few examples of a batch."""
    _, sizes = DATA[config.task.name]
    few = 2
    net = build_model(config.norm, config.model, sizes)
    x = torch.randn(few, *sizes.shape) if sizes.kind != "tokens" else torch.randint(1, 50, (few, *sizes.shape))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0, momentum=0.9)

    def step() -> None:
        output: Tensor = net(x)
        nn.functional.cross_entropy(output.flatten(0, -2), torch.zeros(output[..., 0].numel()).long()).backward()
        optimizer.step()

    step()  # makes the optimiser's buffers
    with Calls() as calls:
        step()
    with FlopCounterMode(display=False) as counter:
        step()
    return calls.count, counter.get_total_flops() * config.task.batch_size / few


def config_of(choices: list[str]) -> RunConfig:
    """The config of a cell."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return checked(compose("train", overrides=choices))


def row(finding: Finding, scale: Scale) -> tuple[str, float]:
    """A line of the table, and the hours."""
    assert finding.tune is not None
    runs = len(finding.tune.points) * scale.tuning_seeds[-1] + scale.seeds[finding.seeds]
    hours, most, work, steps = 0.0, 0, 0.0, 0
    for cell in finding.cells:
        config = config_of(finding.choices(cell, "paper"))
        if "kernel" in config.model:  # a GPU has no other recurrence that was measured
            config.model["kernel"] = "plain"
        calls, operations = step_of(config)
        steps = steps_of(config)
        hours += runs * steps * max(calls * LAUNCH, operations / RATE) * EVALUATION / 3600
        most, work = max(most, calls), max(work, operations)
    numbers = [len(finding.cells), len(finding.cells) * runs, steps, most, work / 1e9, hours]
    return f"| `{finding.name}` | " + " | ".join(f"{number:,.0f}" for number in numbers) + " |", hours


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    print("| finding | cells | runs | steps per run | calls per step, most | GFLOP per step, most | GPU hours |")
    print("|" + "---|" * 7)
    total = 0.0
    scale = read_scale(OmegaConf.create({"scale": OmegaConf.load(ROOT / "conf" / "scale" / "paper.yaml")}))
    for finding in read_study(ROOT / "conf", "paper")[1]:
        line, hours = row(finding, scale)
        print(line, flush=True)
        total += hours
    print(f"\nIn all {total:,.0f} hours on one GPU.")


if __name__ == "__main__":
    main()
