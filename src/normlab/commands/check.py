"""Train a hundred steps of your own code, and say what is wrong with its norms: a linter for norms.

    normlab check my_package.training:LitModel --data my_package.data:Photos
    normlab check my_net.py:Net --data my_net.py:Data --task regression --json

The first is a LightningModule, or a torch.nn.Module with --task; --data is a LightningDataModule, a DataLoader or a
Dataset. Each is a class or function that needs no arguments. Training runs on the CPU and stores nothing.

Exit status: 0 nothing found, or notes only; 1 a warning or worse; 2 bad input
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from normlab.commands.parser import Parser, count, new_file
from normlab.config.errors import InputError
from normlab.host.waits import waiting


def main(arguments: Sequence[str]) -> None:
    """Read the arguments, train and print the diagnosis.

    Raises:
        SystemExit: with status 1 where something was found.
    """
    parser = Parser("check", __doc__)
    parser.add_argument("target", metavar="MODULE:NAME", help="the LightningModule or network")
    parser.add_argument("--data", metavar="MODULE:NAME", help="default: the LightningModule's own loaders")
    parser.add_argument("--task", choices=["classification", "regression"], help="loss of a plain network")
    parser.add_argument("--steps", type=count, default=100, help="default: 100")
    parser.add_argument("--batch-size", type=count, default=32, help="of a Dataset; default: 32")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--html", type=new_file(".html"), metavar="FILE", help="also write the report as a page")
    asked = parser.parse_args(arguments)
    if not asked.steps or not asked.batch_size:
        raise InputError("--steps and --batch-size are at least 1")
    if asked.html is not None and not Path(asked.html).absolute().parent.is_dir():
        raise InputError(f"--html {asked.html}: there is no folder {Path(asked.html).parent}")
    with waiting("importing torch and Lightning"):
        from normlab.checking.training import checked

    report = checked(
        asked.target, asked.data, task=asked.task, steps=asked.steps, batch_size=asked.batch_size,
        tell=lambda line: print(line, file=sys.stderr),
    )  # fmt: skip
    print(json.dumps(report.to_dict(), indent=2, allow_nan=False) if asked.json else report)
    if asked.html is not None:
        asked.html.write_text(report.to_html(), encoding="utf-8")
    if report.harmful():
        sys.exit(1)
