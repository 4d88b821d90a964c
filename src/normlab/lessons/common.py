"""What all notebooks share. Importing it makes the repository the working folder, as a notebook's commands expect."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from normlab.checks.config import checked
from normlab.config.schema import RunConfig

ROOT = next((folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "train.py").exists()), Path.cwd())
os.chdir(ROOT)
OUTPUT = Path(os.environ.get("NORMLAB_OUTPUT", "outputs"))
plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False, "font.size": 9})
plt.rcParams.update({"legend.frameon": False})


def show(figure: Figure, alt: str) -> None:
    """Show a figure; `alt` says what is to be seen, for readers who can't see it."""
    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def train_py(options: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """Run `python train.py OPTIONS` and print what it says; returns its exit status."""
    plain = {**environment, "FORCE_COLOR": "", "TERM": "dumb"}  # Jupyter's kernel asks for colours
    command = [sys.executable, "train.py", *options]
    done = subprocess.run(command, env=plain, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(done.stdout)
    return done.returncode


def config(*choices: str) -> RunConfig:
    """The config of `python train.py CHOICES`."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return checked(compose("train", overrides=list(choices)))
