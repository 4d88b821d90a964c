"""The monitor of our own runs: quiet until the end, and then at most three lines."""

from __future__ import annotations

import sys
from pathlib import Path

from normlab.config.schema import TrainerConfig
from normlab.folder.norms_seen import write_found
from normlab.monitor.callback import NormMonitor


def watch(options: TrainerConfig) -> list[NormMonitor]:
    """The monitor, unless it is off or can't see into a compiled network."""
    return [NormMonitor(say=lambda _: None, quiet=True)] if options.monitor and not options.compile else []


def keep_found(monitors: list[NormMonitor], folder: Path) -> None:
    """Write what was found into the run's folder. An error of the monitor is said, and ends no run."""
    for monitor in monitors:
        try:
            report = monitor.report()
            write_found(folder, report.brief(), report.to_dict())
            failed = monitor.failed
        except Exception as error:
            failed = f"{type(error).__name__}: {error}"
        if failed:
            print(f"the norms were not watched to the end: {failed}", file=sys.stderr)
