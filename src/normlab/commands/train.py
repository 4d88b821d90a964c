"""Train or test one network with one norm: what `python train.py norm=layer model=lstm` and `normlab …` do.

The config is composed and checked before torch is imported.
"""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from normlab.command_line.arguments import for_hydra
from normlab.command_line.guard import guard, print_help
from normlab.config.errors import InputError
from normlab.config.shipped import CONF
from normlab.host.process import process_name

os.environ.setdefault("NORMLAB_PID", process_name())  # names Hydra's own folder, one per process


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(cfg: DictConfig) -> Any:
    """Check the composed config, then run it; in a multirun this is one run."""
    from normlab.checks.config import checked
    from normlab.runs.run import run
    from normlab.sweep.compose import launcher_of
    from normlab.sweep.job import job
    from normlab.sweep.multirun import dry_run

    chosen = HydraConfig.get()
    launcher = launcher_of(chosen) if chosen.mode == RunMode.MULTIRUN else None
    compose = partial(checked, cfg, chosen.overrides.task, launcher)
    if cfg.plan is not None:
        with guard():
            check_plan(str(cfg.plan))
        return job(Path(cfg.plan), compose)
    with guard():
        return dry_run(compose()) if cfg.dry else run(compose())


def check_plan(plan: str) -> None:
    """Check that the frozen plan exists.

    Raises:
        InputError: it doesn't.
    """
    if not Path(plan).is_file():
        raise InputError(f"plan={plan}: there is no such file; multiruns set this option themselves")


def start() -> None:
    """Start from the command line's arguments."""
    with guard():
        if "--help" in sys.argv[1:]:
            print_help()
            return
        sys.argv[1:] = for_hydra(sys.argv[1:])
        main()
