"""The fused LSTM compared with torch.nn.LSTM, as ratios within one run: python scripts/bench/bench.py lstm

Every row is one shape. Arms take turns, so that a machine whose speed drifts slows all alike, and the fastest of
many turns stands for each. A figure is time / time of torch.nn.LSTM on the same shape, threads and gradients.

nn.LSTM   torch.nn.LSTM, time first, which is its fastest order; milliseconds
layer …   the fused recurrence with that norm, batch first as models have it; `forward` is in eval mode
plain     the tensor code of models/lstm.py, layer norm
naive     a module that calls nn.LayerNorm at every step, as commonly published; and the same by TorchScript

With --device cuda nn.LSTM is cuDNN's, and the fused recurrence Triton's. cuDNN multiplies in TF32, so all do.
"""

from __future__ import annotations

from normlab.stopping.program import begin

begin(__name__)

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from normlab.models.lstm import LSTMCell
from normlab.norms.batch import BatchNorm
from normlab.norms.layer import LayerNorm
from normlab.norms.none import NoNorm
from normlab.norms.rms import RMSNorm

SHAPES = ((28, 128, 28, 128), (196, 64, 4, 128), (35, 20, 200, 400), (100, 16, 32, 64), (784, 100, 1, 100))
ON_A_GPU = ((100, 64, 512, 512),)
FUSED = ("layer", "rms", "none", "batch")
OTHERS = ("plain", "naive", "scripted")
AVX2 = {"CXXFLAGS": "-mno-avx512f", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}

Shape = tuple[int, int, int, int]


class Naive(nn.Module):
    """The layer-normed cell as commonly published: modules called at every step."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.x = nn.Linear(features, 4 * width)
        self.h = nn.Linear(width, 4 * width, bias=False)
        self.norm_x, self.norm_h = nn.LayerNorm(4 * width), nn.LayerNorm(4 * width)
        self.norm_c = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """x [T, B, I] → [T, B, H]."""
        h = torch.zeros(x.shape[1], self.width, device=x.device)
        c = torch.zeros(x.shape[1], self.width, device=x.device)
        outputs: list[Tensor] = []
        for t in range(x.shape[0]):
            f, i, o, g = (self.norm_x(self.x(x[t])) + self.norm_h(self.h(h))).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(self.norm_c(c))
            outputs.append(h)
        return torch.stack(outputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=6.0, help="for each shape, threads and mode")
    parser.add_argument("--avx2", action="store_true", help="torch, oneDNN and the kernel without AVX-512")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--arms", nargs="*", help=f"of {', '.join([*FUSED, *OTHERS])}; batch not on cuda")
    parser.add_argument("--modes", nargs="*", default=["backward", "backward, dx", "forward"])
    chosen = parser.parse_args()
    if chosen.avx2 and os.environ.get("CXXFLAGS") != AVX2["CXXFLAGS"]:
        # torch reads them when it is imported
        raise SystemExit(subprocess.call([sys.executable, __file__, *sys.argv[1:]], env={**os.environ, **AVX2}))
    on_gpu = chosen.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        raise SystemExit("--device cuda: torch sees no GPU here")
    arms = chosen.arms or [name for name in (*FUSED, *OTHERS) if not (on_gpu and name == "batch")]
    for mode in chosen.modes:
        if on_gpu:
            torch.set_float32_matmul_precision("high")
            print(f"\n{mode}, {torch.cuda.get_device_name()}")
            compare(ON_A_GPU, chosen.device, chosen.seconds, arms, mode)
            continue
        for count in chosen.threads:
            torch.set_num_threads(count)
            print(f"\n{mode}, {count} thread{'s' * (count > 1)}")
            compare(SHAPES, chosen.device, chosen.seconds, arms, mode)


def compare(shapes: Sequence[Shape], device: str, seconds: float, arms: list[str], mode: str) -> None:
    """Print a table, a row a shape."""
    print(f"{'(T, B, I, H)':22}{'nn.LSTM':>11}" + "".join(f"{name:>10}" for name in arms))
    for shape in shapes:
        best = fastest({name: timed(name, shape, mode, device) for name in ("nn.LSTM", *arms)}, seconds)
        ratios = "".join(f"{best[name] / best['nn.LSTM']:10.2f}" for name in arms)
        print(f"{shape!s:22}{1e3 * best['nn.LSTM']:8.2f} ms{ratios}", flush=True)


def fastest(sides: dict[str, Callable[[], None]], seconds: float) -> dict[str, float]:
    """The shortest time of each side, which take turns for so many seconds, at least three each."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side()
    started = time.perf_counter()
    while time.perf_counter() - started < seconds or len(times["nn.LSTM"]) < 3:
        for name, side in sides.items():
            begun = time.perf_counter()
            side()
            times[name].append(time.perf_counter() - begun)
    return {name: min(values) for name, values in times.items()}


def timed(name: str, shape: Shape, mode: str, device: str) -> Callable[[], None]:
    """One forward pass, and a backward pass if the mode says so, of a fresh module."""
    T, B, I, H = shape  # noqa: E741
    module, batch_first = build(name, T, I, H)
    module.to(device).train(mode != "forward")
    size = (B, T, I) if batch_first else (T, B, I)
    x = torch.randn(size, device=device, requires_grad=mode == "backward, dx")

    def outputs() -> Tensor:
        y = module(x)
        return y[0] if isinstance(y, tuple) else y

    def forward() -> None:
        with torch.no_grad():
            outputs()
        finish()

    def backward() -> None:
        y = outputs()
        y.backward(torch.ones_like(y))
        module.zero_grad()
        x.grad = None
        finish()

    def finish() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    return forward if mode == "forward" else backward


def build(name: str, steps: int, features: int, width: int) -> tuple[nn.Module, bool]:
    """A module, and whether it wants the batch first."""
    if name == "nn.LSTM":
        return nn.LSTM(features, width), False
    if name in ("naive", "scripted"):
        naive = Naive(features, width)
        return (torch.jit.script(naive) if name == "scripted" else naive), False
    norms = {"layer": LayerNorm, "rms": RMSNorm, "none": NoNorm, "batch": BatchNorm, "plain": LayerNorm}
    cell = LSTMCell(partial(norms[name]), features, width, positions=steps, kernel="fused")
    if name == "plain":
        cell.kernel = "plain"
    return cell, True


if __name__ == "__main__":
    main()
