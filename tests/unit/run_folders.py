"""Run folders as runs leave them, without the running."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from normlab.checks.config import checked
from normlab.config.schema import RunConfig
from normlab.folder.jsonfile import read_json, write_json
from normlab.runs.code import code_hash
from normlab.runs.owner import Owner
from normlab.runs.store import Run, claim
from normlab.session.checkpointing import AtomicCheckpointIO

ROOT = Path(__file__).parents[2]


def save_sealed(path: Path, size: int = 10) -> None:
    """A checkpoint as a run saves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    AtomicCheckpointIO().save_checkpoint({"w": torch.zeros(size)}, path)


PRESENT = None  # the code as it is now


@cache
def config_of(*overrides: str) -> RunConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return checked(compose("train", overrides=["logger=none", *overrides]))


def begin(output: Path, name: str, *overrides: str, code: str | None = PRESENT, seed: int = 0) -> Run:
    """A run that has been claimed."""
    config = config_of(*overrides)
    values = {**config.model_dump(mode="json"), "seed": seed}
    return claim(output, name, code or code_hash(config), values)[0]


def finish(output: Path, name: str, *overrides: str, summary: dict[str, Any] | None = None, **more: Any) -> Path:
    """A finished run."""
    run = begin(output, name, *overrides, **more)
    run.finish(summary or {"diverged": False, "validation/loss": 1.5})
    return run.place.folder


def write_owner(folder: Path, owner: Owner) -> None:
    """Name an owner, as one does on a file system without locks."""
    write_json(folder / "owner", asdict(owner))


def set_status(folder: Path, **values: Any) -> None:
    """Change a run's status; None removes an entry."""
    status = {**read_json(folder / "status.json"), **values}
    write_json(folder / "status.json", {name: value for name, value in status.items() if value is not None})
