"""Show all W&B runs below a folder in the terminal, offline or not.

Opens `wandb leet` on them: curves, config and summary of every run; h shows its keys, q quits.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from normlab.commands.parser import Parser
from normlab.config.schema import InputError
from normlab.mirror.upload import find


def main(arguments: Sequence[str]) -> None:
    """Read the arguments and show the runs."""
    parser = Parser("watch", __doc__)
    parser.add_runs()
    asked = parser.parse_args(arguments)
    sys.exit(watch(asked.runs))


def watch(output: Path) -> int:
    """Show the runs; returns the exit status of `wandb leet`.

    Raises:
        InputError: there are no runs, or there is no terminal.
    """
    with tempfile.TemporaryDirectory() as scratch:
        count = gather(output, Path(scratch))
        if not count:
            raise InputError(f"no W&B runs in {output}: train with logger=wandb")
        if not sys.stdout.isatty():
            raise InputError(f"{count} W&B runs found, but showing them needs a terminal")
        return subprocess.run([sys.executable, "-m", "wandb", "leet", scratch], check=False).returncode


def gather(output: Path, folder: Path) -> int:
    """Link the runs into one folder, as `wandb leet` needs them; returns their number."""
    fragments = [fragment for fragment in find(output) if fragment.file.exists()]
    for fragment in fragments:
        (folder / fragment.file.parent.name).symlink_to(fragment.file.parent.absolute(), target_is_directory=True)
    return len(fragments)
