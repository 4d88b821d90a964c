"""Folders of Lightning's CSVLogger, `version_0/`: metrics.csv, and hparams.yaml if there are any."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from normlab.config.schema import InputError
from normlab.logs.run import Run, flat, read_yaml

METRICS = "metrics.csv"


def is_run(_: Path, names: set[str]) -> bool:
    """By the names of what it holds."""
    return METRICS in names


def read(folders: Sequence[Path]) -> Iterator[Run]:
    """The runs; an empty field was not logged at that step.

    Raises:
        InputError: a file is damaged, or a value is not a number.
    """
    for folder in folders:
        run = Run(str(folder))
        if (folder / "hparams.yaml").is_file():
            run.facts |= flat(read_yaml(folder / "hparams.yaml"))
        file = folder / METRICS
        try:
            with file.open(encoding="utf-8", newline="") as lines:
                rows = csv.DictReader(lines, strict=True)
                names = list(rows.fieldnames or [])
                if len({*names}) < len(names):  # of which the reader would keep the last
                    raise ValueError(f"two columns are called {max(names, key=names.count)!r}")
                for number, row in enumerate(rows, 1):
                    if None in row or None in row.values():
                        raise ValueError(f"row {number} has another number of fields than the header")
                    step = float(row.get("step") or math.nan)
                    for name, text in row.items():
                        if text:
                            run.log(name, float(text), step)
        except (OSError, ValueError, csv.Error) as error:
            raise InputError(f"{file} is damaged: {error}") from None
        yield run
