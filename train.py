"""Train or test one network with one norm: python train.py norm=layer model=lstm.

`python train.py --help` lists the choices. The config is composed and checked before torch is imported.
"""

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from normlab.cli import CONF, guard, print_help

os.environ.setdefault("NORMLAB_PID", str(os.getpid()))  # names Hydra's own folder, one a process


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(cfg: DictConfig) -> None:
    """Check the composed config, then run it."""
    from normlab.checks import checked
    from normlab.runs.run import run

    hydra_cfg = HydraConfig.get()
    with guard():
        run(checked(cfg, hydra_cfg.overrides.task, multirun=hydra_cfg.mode == RunMode.MULTIRUN))


if __name__ == "__main__":
    with guard():
        print_help() if "--help" in sys.argv[1:] else main()
