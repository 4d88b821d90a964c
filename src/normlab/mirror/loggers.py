"""The loggers of a run: its own record always, W&B, CSV and TensorBoard as asked for."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from normlab.config.names import shortened, slug
from normlab.config.schema import ELSEWHERE, SHOWN_OR_SAVED, InputError, RunConfig, WandbConfig
from normlab.folder.place import Place
from normlab.mirror.wandb_access import is_online
from normlab.mirror.wandb_begin import begin, fragments
from normlab.mirror.wandb_run import WandbRun


class RunRecord(Logger):
    """Every logged value as a line of `metrics.jsonl`: `{"step": 50, "time": 1.7e9, "train/loss": 0.7, …}`.

    `time` is in seconds since 1970.

    Args:
        folder: of the run.
        rows: lines to keep of what is there; a resumed run repeats those that an interrupted one logged later.
    """

    def __init__(self, folder: Path, rows: int = 0) -> None:
        super().__init__()
        self.path = folder / "metrics.jsonl"
        self.rows = rows
        self._keep()

    @rank_zero_only
    def _keep(self) -> None:
        if self.path.exists():
            with self.path.open("rb+") as file:
                for _ in range(self.rows):
                    file.readline()
                file.truncate()

    def kept(self) -> list[dict[str, Any]]:
        """The rows that a resumed run begins with."""
        return read_rows(self.path)[: self.rows] if self.rows else []

    @property
    def name(self) -> str:
        """The folder of checkpoints is chosen elsewhere."""
        return "record"

    @property
    def version(self) -> str:
        """A run folder holds one record."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line."""
        finite = {
            name: value if math.isfinite(value) else None  # JSON knows no NaN
            for name, value in metrics.items()
            if name != "epoch"
        }
        row = {"step": step, "time": time.time(), **finite}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.rows += 1

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The config stands in `config.json`."""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def build_loggers(config: RunConfig, place: Place) -> list[Logger]:
    """The loggers that the config asks for, after the run's own record."""
    record = RunRecord(place.folder, place.resume.rows if place.resume else 0)
    loggers: list[Logger] = [record]
    labels = labels_of(config, place)
    if config.logger.csv:
        loggers.append(_csv(place, record, labels))
    if config.logger.tensorboard:
        loggers.append(_tensorboard(place, labels))
    if config.logger.wandb is not None:
        loggers.append(_wandb(config.logger.wandb, place, record, labels))
    return loggers


@rank_zero_only
def finish(loggers: list[Logger], summary: dict[str, Any]) -> None:
    """Write what is still held back and hand the summary to W&B, whose run was stopped if there is none."""
    for logger in loggers:
        if isinstance(logger, WandbRun):
            logger.close(summary)
        else:
            logger.finalize("success" if summary else "stopped")


def _csv(place: Place, record: RunRecord, labels: dict[str, Any]) -> Logger:
    """Lightning's CSV logger begins its file anew; a resumed run tells it what it had logged before."""
    rank_zero_only(shutil.rmtree)(place.folder / "csv", ignore_errors=True)
    logger = CSVLogger(place.folder, name="", version="csv")
    logger.log_hyperparams(labels)
    for row in record.kept():
        values = {name: value for name, value in row.items() if name not in ("step", "time") and value is not None}
        logger.log_metrics(values, step=row["step"])
    return logger


def _tensorboard(place: Place, labels: dict[str, Any]) -> Logger:
    from pytorch_lightning.loggers import TensorBoardLogger

    # of an interrupted run, TensorBoard forgets what came after the resume point
    purge = None if place.resume is None else place.resume.step + 1
    try:
        logger = TensorBoardLogger(
            place.folder, name="", version="tensorboard", purge_step=purge, default_hp_metric=False
        )
    except ModuleNotFoundError:
        raise InputError("logger=tensorboard needs TensorBoard: pip install 'normlab[tensorboard]'") from None
    if place.resume is None:
        logger.log_hyperparams(labels)
    return logger


def _wandb(wandb: WandbConfig, place: Place, record: RunRecord, labels: dict[str, Any]) -> Logger:
    name = f"{place.id}-{place.attempt}"
    named = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None  # by the agent of a W&B sweep
    facts = {"id": named or name, "name": place.id, **facts_of(wandb, labels)}
    older = fragments(place.folder, name) if place.resume else []  # a run that begins has none
    run = rank_zero_only(begin)(wandb, is_online(wandb), place.folder, facts, older)
    logger = WandbRun(run, wandb, lambda: record.rows, place)
    logger.resend(record.kept())
    return logger


def facts_of(wandb: WandbConfig, labels: dict[str, Any]) -> dict[str, Any]:
    """What W&B's dashboard groups and filters by: group, tags, job type and the whole config."""
    names = [labels["norm"], labels["model"], labels["task"]]
    return {
        "group": shortened(wandb.group or labels["cell"], 128),
        "job_type": labels["measure"],
        "tags": list(dict.fromkeys(map(shortened, [*names, *labels["serves"], *wandb.tags]))),
        "config": labels,
    }


def labels_of(config: RunConfig, place: Place) -> dict[str, Any]:
    """What every logger but the record is told about a run: `norm`, `model`, `task`, `cell`, … and all options."""
    names = {"norm": config.norm_name, "model": config.model_name, "task": config.task.name}
    values = config.model_dump(mode="json", include={"norm", "model", "task", "optim", "trainer", "seed", "test"})
    options = {f"{key}_options" if key in names else key: _plain(value) for key, value in values.items()}
    measure = config.measure.model_dump(mode="json")
    return {
        **names,
        "measure": measure.pop("name"),
        "measure_options": measure,
        "serves": config.serves,
        "lr": config.optim.lr,  # also by itself, as charts in W&B reach no deeper
        "cell": f"{'-'.join(slug(name, 40) for name in names.values())}-{_digest(config)}",
        "run": place.id,
        "attempt": place.attempt,
        **options,
    }


def _plain(value: Any) -> Any:
    """Without Hydra's own keys."""
    return {k: v for k, v in value.items() if not k.startswith("_")} if isinstance(value, dict) else value


def _digest(config: RunConfig) -> str:
    """A short hash of the config without its seed: runs of one cell have the same."""
    values = config.model_dump(mode="json", include={"norm", "model", "task", "optim", "measure", "test"})
    trainer = config.trainer.model_dump(mode="json", exclude=SHOWN_OR_SAVED)
    values["task"] = {key: value for key, value in values["task"].items() if key not in ELSEWHERE}
    return hashlib.sha256(json.dumps([values, trainer], sort_keys=True).encode()).hexdigest()[:6]
