"""What each norm costs beside layer norm: the committed table, costs.csv, and its reader. Imports no torch.

`normlab bench costs` measures the table again, on any machine, and prints it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("costs.csv")


class Cost(NamedTuple):
    """One measured ratio: a line of the table.

    norm              its name in conf/norm
    layout            of the input: 64 examples of the sizes of `normlab bench norms`
    times_layer_norm  time of a forward and backward pass, divided by that of `F.layer_norm` (BCHW: `F.group_norm` with
                      one group), on one thread
    processor, torch  what it was measured with
    date              when
    """

    norm: str
    layout: str
    times_layer_norm: float
    processor: str
    torch: str
    date: str


@cache
def costs() -> tuple[Cost, ...]:
    """The committed table; a norm that is not in it has not been measured."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    ratios = [float(row.pop("times_layer_norm")) for row in rows]
    return tuple(Cost(times_layer_norm=ratio, **row) for row, ratio in zip(rows, ratios, strict=True))


def measured_with(rows: Iterable[Cost]) -> str:
    """Processors, versions of torch and dates of some costs, in words."""
    return "; ".join(dict.fromkeys(f"{row.processor}, torch {row.torch}, {row.date}" for row in rows))
