"""Time norms beside PyTorch's own: `normlab bench norms`.

Each number is the median of paired ratios, ours / theirs, of calls that alternate in one process. Limits are what we
aim for; a ratio above its limit is marked. Sizes: 128 channels (BTC: 32 positions), BCHW 64 channels of 8 x 8 pixels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from normlab.commands.parser import Parser
from normlab.config.errors import InputError


def main(arguments: Sequence[str]) -> None:
    """Read the arguments and print the tables."""
    parser = Parser("bench", __doc__)
    parser.add_argument("what", choices=["norms"], help="what is timed")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and sizes: a first look in half a minute")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="default: 1 2")
    asked = parser.parse_args(arguments)
    if min(asked.threads) < 1:
        raise InputError(f"--threads {min(asked.threads)}: at least one thread computes")
    for line in tables(asked.threads, asked.quick):
        print(line, flush=True)


def tables(numbers: Sequence[int], quick: bool) -> Iterator[str]:
    """A table for each pass and number of threads, line by line."""
    from normlab.bench.norms import ARMS, EXAMPLES, LAYOUTS, PASSES, compared, threads  # imports torch
    from normlab.bench.paired import Effort

    quickly = Effort(rounds=15, seconds=0.0005)
    sizes = (8, 64) if quick else EXAMPLES
    width = 5 * len(sizes)
    slow = set()
    for number in numbers:
        effort = quickly if quick else quickly._replace(rounds=61)
        effort = effort._replace(clock=time.thread_time if number == 1 else time.perf_counter)
        for passed, title in PASSES.items():
            yield f"{title}, {number} thread{'s' if number > 1 else ''}"
            yield " " * 19 + "".join(f"{layout:>{width}}" for layout in LAYOUTS)
            yield f"{'':13}{'limit':>5} " + "".join(f"{size:5}" for size in sizes) * len(LAYOUTS)
            for arm in ARMS:
                line = f"{arm.name:13}{arm.limit:5.2f} "
                for layout in LAYOUTS:
                    for size in sizes:
                        if layout not in arm.layouts:
                            line += " " * 5
                            continue
                        with threads(number):
                            found = compared(arm, layout, size, passed, effort)
                        line += f"{found:4.2f}".rjust(4)[:4] + ("*" if found > arm.limit else " ")
                        slow |= {arm} if found > arm.limit else set()
                yield line.rstrip()
            yield ""
    yield from (f"* {arm.name}: {arm.why or 'above the limit'}" for arm in ARMS if arm in slow)
