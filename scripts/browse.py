"""All W&B runs below a folder on the terminal, offline or not: python scripts/browse.py [--runs FOLDER]

Opens `wandb leet` on them: curves, config and summary of every run; h shows its keys, q quits.
"""

from __future__ import annotations

from normlab.stopping.program import begin

begin(__name__)

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from normlab.config.command_line import guard
from normlab.config.schema import InputError
from normlab.mirror.upload import find


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", metavar="FOLDER", type=Path, default=Path("outputs"), help="default: outputs")
    asked = parser.parse_args()
    with guard():
        sys.exit(browse(asked.runs))


def browse(output: Path) -> int:
    """The exit status of `wandb leet`.

    Raises:
        InputError: there is nothing to see, or no terminal to see it on.
    """
    with tempfile.TemporaryDirectory() as scratch:
        count = gather(output, Path(scratch))
        if not count:
            raise InputError(f"no W&B runs below {output}: train with logger=wandb")
        if not sys.stdout.isatty():
            raise InputError(f"{count} W&B runs: showing them needs a terminal")
        return subprocess.run([sys.executable, "-m", "wandb", "leet", scratch], check=False).returncode


def gather(output: Path, folder: Path) -> int:
    """Link the runs into one folder, as `wandb leet` wants them; their number."""
    fragments = [fragment for fragment in find(output) if fragment.file.exists()]
    for fragment in fragments:
        (folder / fragment.file.parent.name).symlink_to(fragment.file.parent.absolute(), target_is_directory=True)
    return len(fragments)


if __name__ == "__main__":
    main()
