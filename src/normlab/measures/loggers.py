"""The loggers of a run: its own record always, W&B, CSV and TensorBoard as asked for."""

from __future__ import annotations

import json
import math
import netrc
import os
import shutil
import time
from argparse import Namespace
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from normlab.measures.place import Place
from normlab.schema import InputError, RunConfig, WandbConfig


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
        if self.rows == 0:
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()[: self.rows]]

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


def build_loggers(config: RunConfig, place: Place) -> list[Logger]:
    """The loggers that the config asks for, after the run's own record."""
    record = RunRecord(place.folder, place.resume.rows if place.resume else 0)
    loggers: list[Logger] = [record]
    if config.logger.csv:
        loggers.append(_csv(place, record))
    if config.logger.tensorboard:
        loggers.append(_tensorboard(place))
    if config.logger.wandb is not None:
        loggers.append(_wandb(config.logger.wandb, config, place))
    return loggers


@rank_zero_only
def finish(loggers: list[Logger], summary: dict[str, Any]) -> None:
    """Hand the summary to W&B and close its run; other loggers need no end."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(summary)
            logger.experiment.finish()


def _csv(place: Place, record: RunRecord) -> Logger:
    """Lightning's CSV logger begins its file anew; a resumed run tells it what it had logged before."""
    rank_zero_only(shutil.rmtree)(place.folder / "csv", ignore_errors=True)
    logger = CSVLogger(place.folder, name="", version="csv")
    for row in record.kept():
        values = {name: value for name, value in row.items() if name not in ("step", "time") and value is not None}
        logger.log_metrics(values, step=row["step"])
    return logger


def _tensorboard(place: Place) -> Logger:
    from pytorch_lightning.loggers import TensorBoardLogger

    # of an interrupted run, TensorBoard forgets what came after the resume point
    purge = None if place.resume is None else place.resume.step + 1
    try:
        return TensorBoardLogger(place.folder, name="", version="tensorboard", purge_step=purge)
    except ModuleNotFoundError:
        raise InputError("logger=tensorboard needs TensorBoard: pip install 'normlab[tensorboard]'") from None


def _wandb(wandb: WandbConfig, config: RunConfig, place: Place) -> Logger:
    """Config, group, tags and job type are set so that a dashboard can group by norm, model and task."""
    os.environ.setdefault("WANDB_SILENT", "true")  # our own line says how to view and upload
    import wandb as client

    if client.run is not None:  # an earlier run of a multirun failed; Lightning would log into it
        client.finish(exit_code=1)
    names = {"norm": config.norm_name, "model": config.model_name, "task": config.task.name}
    options = config.model_dump(mode="json", include={"optim", "trainer", "seed", "norm", "model", "task"})
    logger = WandbLogger(
        project=wandb.project,
        entity=wandb.entity,
        group=wandb.group or "-".join(names.values()),
        tags=[*names.values(), *wandb.tags],
        job_type=config.measure.name,
        id=f"{place.id}-{place.attempt}",
        name=place.id,
        save_dir=place.folder,
        offline=not is_online(wandb),
        config={
            **names,
            **{f"{key}_options" if key in names else key: value for key, value in options.items()},
        },
        settings=client.Settings(console="off"),
    )
    logger._wandb_init.pop("anonymous", None)  # Lightning still passes it, and W&B warns that it has no effect
    return logger


def is_online(wandb: WandbConfig) -> bool:
    """Online where a key is configured, by environment or netrc, and offline is not asked for; W&B never prompts.

    Raises:
        InputError: online is asked for and there is no key.
    """
    environment = os.environ.get("WANDB_MODE")
    if environment in ("offline", "disabled", "dryrun"):
        return False
    has_key = bool(os.environ.get("WANDB_API_KEY")) or _has_netrc_key()
    if wandb.mode == "online" and not has_key:
        raise InputError("logger.wandb.mode=online needs an API key: run `wandb login`, or use mode=auto")
    return has_key and wandb.mode != "offline"


def _has_netrc_key() -> bool:
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
