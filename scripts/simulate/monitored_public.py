"""What NormMonitor says of healthy trainings of public architectures: those of tests/architectures.py.

    python scripts/simulate/monitored_public.py --seeds 6      # a quarter of an hour on one core

Needs the test-only packages transformers, monai and x-transformers. Each network gets a linear head, independent random
examples with labels that depend on them, batches of 16, AdamW and 120 steps, then 4 batches in evaluation mode. Prints
a row per network, and what was named with a severity of warning or more.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import normlab

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from architectures import ARCHITECTURES, tensors

STEPS, EVALUATED, BATCH, TOKENS = 120, 4, 16, 50


class Headed(nn.Module):
    """A network whose first output is averaged over positions and classified: two classes."""

    def __init__(self, body: nn.Module, x: Any) -> None:
        super().__init__()
        self.body = body
        with torch.no_grad():
            y = self.first(x)
        self.axis = 1 if y.ndim > 3 else -1
        self.head = nn.Linear(y.shape[self.axis], 2)

    def first(self, x: Any) -> Tensor:
        """The network's first output of floating-point numbers."""
        return next(tensors(self.body(**x) if isinstance(x, dict) else self.body(x)))

    def forward(self, x: Any) -> Tensor:
        """Logits [B, 2]."""
        y = self.first(x)
        return self.head(y.movedim(self.axis, -1).flatten(1, -2).mean(1) if y.ndim > 2 else y)


def examples(like: Any, generator: torch.Generator) -> tuple[Any, Tensor]:
    """A batch shaped as `like`, and labels [B] that say whether the first numbers are above average."""

    def drawn(value: Tensor) -> Tensor:
        shape = (BATCH, *value.shape[1:])
        if value.is_floating_point():
            return torch.randn(shape, generator=generator)
        return torch.randint(3, TOKENS, shape, generator=generator)

    x = {name: drawn(value) for name, value in like.items()} if isinstance(like, dict) else drawn(like)
    first = next(iter(x.values())) if isinstance(x, dict) else x
    middle = 0.0 if first.is_floating_point() else TOKENS / 2
    return x, (first.float().flatten(1)[:, :7].mean(1) > middle).long()


def alarms(name: str, seed: int) -> list[str]:
    """The causes that are named in one training, with a severity of warning or more."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(1000 + seed)
    body, like = ARCHITECTURES[name][2](name)
    net = Headed(body, like)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    with contextlib.redirect_stderr(io.StringIO()):  # severe ones are printed at once
        monitor = normlab.NormMonitor().watch(net, optimizer)
        net.train()
        for _ in range(STEPS):
            x, target = examples(like, generator)
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), target).backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            for _ in range(EVALUATED):
                net(examples(like, generator)[0])
        return [one.cause for one in monitor.report().diagnoses if one.severity.name != "NOTE"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--only", default="", help="part of a network's name")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    runs = alarmed = 0
    for name in (each for each in ARCHITECTURES if asked.only in each):
        found = [alarms(name, seed) for seed in range(asked.seeds)]
        runs, alarmed = runs + len(found), alarmed + sum(map(bool, found))
        counted = Counter(cause for causes in found for cause in causes)
        print(f"{name}: {', '.join(f'{cause} {n}' for cause, n in counted.items()) or 'nothing'}", flush=True)
    print(f"{alarmed} of {runs} trainings with an alarm")


if __name__ == "__main__":
    main()
