"""Time norms beside PyTorch's own: `normlab bench norms`; each norm beside layer norm: `normlab bench costs`.

Each number is the median of paired ratios, ours / theirs, of calls that alternate in one process. Limits are what we
aim for; a ratio above its limit is marked. Sizes: 128 channels (BTC: 32 positions), BCHW 64 channels of 8 x 8 pixels.

`costs` prints CSV, a line for each norm and layout: forward and backward of 64 examples on one thread, the median of
five passes through all norms. The table that `normlab norms` shows was made so.
"""

from __future__ import annotations

from collections.abc import Sequence

from normlab.commands.norms import names
from normlab.commands.parser import Parser
from normlab.config.errors import InputError
from normlab.runs.provenance import processor


def main(arguments: Sequence[str]) -> None:
    """Read the arguments and print the tables."""
    parser = Parser("bench", __doc__)
    parser.add_argument("what", choices=["norms", "costs"], help="what is timed")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and sizes: a first look in half a minute")
    parser.add_argument("--threads", type=int, nargs="+", help="of `norms`; default: 1 2")
    asked = parser.parse_args(arguments)
    if asked.what == "costs" and asked.threads:
        raise InputError("--threads: costs are measured on one thread; leave it out")
    numbers = asked.threads or [1, 2]
    if min(numbers) < 1:
        raise InputError(f"--threads {min(numbers)}: at least one thread computes")
    from normlab.bench.family import measured  # imports torch
    from normlab.bench.norms import tables

    costs = asked.what == "costs"
    for line in measured(names(), asked.quick, processor()) if costs else tables(numbers, asked.quick):
        print(line, flush=True)
