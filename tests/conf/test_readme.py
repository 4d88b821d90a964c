"""The commands that README.md and the help show are ones that work."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from normlab.checks.config import checked
from normlab.command_line.arguments import for_hydra

ROOT = Path(__file__).parents[2]
TEXT = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "conf/help.txt"))
TEXT = re.sub(r"\\\n\s*", "", TEXT)  # commands over several lines
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for line in re.findall(r"^\s*python train\.py ((?:-m )?\w+=.+)$", TEXT, re.MULTILINE)
        if "..." not in line and "<id>" not in line
    }
)


def test_there_are_commands():
    assert len(COMMANDS) > 5


@pytest.mark.parametrize("command", COMMANDS)
def test_a_shown_command_passes_the_checks(command, tmp_path):
    (tmp_path / "reviews.csv").write_text("text,label\n")
    (tmp_path / "nets.py").write_text("from torch import nn\n\n\nclass Net(nn.Module):\n    pass\n")
    words = shlex.split(command)
    for name in ("reviews.csv", "nets.py"):
        words = [word.replace(name, str(tmp_path / name)) for word in words]
    # of a multirun the first combination
    overrides = [word.split(",")[0] for word in words if "=" in word]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        checked(compose("train", overrides=for_hydra(overrides)))


def test_shown_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"\bmake ([a-z-]+)", TEXT))
    assert {"reproduce", "test"} <= shown <= targets
