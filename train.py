"""Train or test one network with one norm: python train.py norm=layer model=lstm.

`python train.py --help` lists the choices. The config is composed and checked before torch is imported.
"""

from normlab.stopping.program import begin

begin(__name__)

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from normlab.config.command_line import CONF, guard, print_help

os.environ.setdefault("NORMLAB_PID", str(os.getpid()))  # names Hydra's own folder, one a process


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(cfg: DictConfig) -> Any:
    """Check the composed config, then run it; of a multirun this is one run."""
    from normlab.config.checks import checked
    from normlab.runs.run import run
    from normlab.study.compose import launcher_of
    from normlab.study.job import job
    from normlab.study.sweep import dry_run

    chosen = HydraConfig.get()
    launcher = launcher_of(chosen) if chosen.mode == RunMode.MULTIRUN else None
    compose = partial(checked, cfg, chosen.overrides.task, launcher)
    if cfg.plan is not None:
        return job(Path(cfg.plan), compose)
    with guard():
        return dry_run(compose()) if cfg.dry else run(compose())


if __name__ == "__main__":
    with guard():
        print_help() if "--help" in sys.argv[1:] else main()
