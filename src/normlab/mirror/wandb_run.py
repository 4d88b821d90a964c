"""A run in W&B. The run folder has the authoritative record; W&B mirrors it, and may fail at any time.

Row n of the record is step n of the W&B run. A resumed run sends all rows that it keeps again. W&B's client skips those
that the server has; offline, the new fragment contains the whole run and replaces the older ones, whose last rows the
client may have lost when its process was killed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from normlab.config.schema import WandbConfig
from normlab.folder.place import Place
from normlab.mirror.predictions import Samples
from normlab.mirror.wandb_access import PROBE, unreachable
from normlab.mirror.wandb_begin import note_address, one_line, warn

STEP = "trainer/global_step"  # Lightning's name for optimiser steps, the x axis unless another is chosen
# which value of a curve is shown while the run trains; at its end, the run's own summary replaces them
BEST = {
    **{"accuracy": "max", "f1": "max", "loss": "min", "perplexity": "min", "bits_per_character": "min"},
    **{"r2": "max", "mae": "min", "rmse": "min", "mean_iou": "max", "mean_dice": "max", "pixel_accuracy": "max"},
}

Rows = list[dict[str, Any]]


class WandbRun(WandbLogger):
    """Lightning's logger for a run that has already started; a failure doesn't harm the run.

    Args:
        run: W&B's; None in the processes that don't log.
        count: rows that the record has, including the current one.
        place: of the run.
    """

    def __init__(self, run: Any, options: WandbConfig, count: Callable[[], int], place: Place) -> None:
        super().__init__(project=options.project, id=f"{place.id}-{place.attempt}", save_dir=place.folder)
        self._experiment = run
        self._options = options
        self._count = count
        self._place = place
        self._lost = self._warned = False
        self._extras: list[Callable[[Any], None]] = []
        self.do(_define)
        self.do(lambda run: _save_files(run, place))
        self.do(lambda run: note_address(place, None if run.offline or run.disabled else run.url))

    @property
    def experiment(self) -> Any:
        """The run; None if W&B could not start one, because Lightning would otherwise try again."""
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log one row."""
        values = {name: value for name, value in metrics.items() if name != "epoch"}
        self.do(lambda run: run.log({**values, STEP: step}, step=self._count() - 1, commit=True))

    @rank_zero_only
    def resend(self, rows: Rows) -> None:
        """Log the rows that a resumed run keeps and W&B doesn't have."""
        self.do(lambda run: replay(run, rows))

    @rank_zero_only
    def show_samples(self, samples: Samples) -> None:
        """Log a table of predictions, which is sent when the run ends."""
        self._extras.append(lambda run: _show_samples(run, samples))

    @rank_zero_only
    def show_confusion(self, counts: list[list[int]], names: list[str]) -> None:
        """Log the confusion matrix (rows: actual, columns: predicted), which is sent when the run ends."""
        self._extras.append(lambda run: _show_confusion(run, counts, names))

    @rank_zero_only
    def close(self, summary: dict[str, Any]) -> None:
        """End the run, with its result; without one it counts as stopped."""
        if summary:
            self.do(lambda run: run.summary.update(summary))
            if self._options.artifacts:
                self._extras.append(lambda run: _upload_checkpoints(run, self._place))
            # these wait for the server's answer, for minutes if there is none
            for extra in self._extras if self._is_heard() else []:
                self.do(extra)
        self._lost = False  # close the run even if something was lost
        self.do(lambda run: run.finish(exit_code=0 if summary else 1))
        self._lost = True

    def _is_heard(self) -> bool:
        """Is the run offline, or does its server answer?"""
        run = self._experiment
        if run is None or run.offline or run.disabled:
            return run is not None
        return not unreachable(str(run.settings.base_url), min(PROBE, self._options.timeout))

    def do(self, action: Callable[[Any], None]) -> None:
        """Call W&B's run. An error there ends the mirror, not the run."""
        if self._lost or self._experiment is None:
            return
        try:
            action(self._experiment)
        except Exception as error:  # its client and its service raise errors of many kinds
            self._lost = True
            late = isinstance(error, TimeoutError)
            why = f"not everything was uploaded within {self._options.timeout:g} s" if late else one_line(error)
            if not self._warned:
                warn(f"{why}; the run continues, and `make sync` uploads the rest")
            self._warned = True


def replay(run: Any, rows: Rows) -> None:
    """Send the rows of a record from the first that the server does not have."""
    for number, row in enumerate(rows):
        if number >= run.starting_step:
            values = {name: value for name, value in row.items() if name not in ("step", "time")}
            values = {name: float("nan") if value is None else value for name, value in values.items()}
            run.log({**values, STEP: row["step"], "_timestamp": row["time"]}, step=number, commit=True)


def _define(run: Any) -> None:
    run.define_metric(STEP, hidden=True)
    run.define_metric("*", step_metric=STEP, step_sync=True)
    for name, pick in BEST.items():
        run.define_metric(f"validation/{name}", step_metric=STEP, step_sync=True, summary=pick)
        run.define_metric(f"test/{name}", step_metric=STEP, step_sync=True, summary="last")


def _show_samples(run: Any, samples: Samples) -> None:
    import wandb as client

    columns: list[str | int] = [*samples.columns]
    rows = [
        [client.Image(cell) if name == "image" else cell for name, cell in zip(columns, row, strict=True)]
        for row in samples.rows
    ]
    run.log({"samples": client.Table(columns=columns, data=rows)})


def _show_confusion(run: Any, counts: list[list[int]], names: list[str]) -> None:
    """The chart of `wandb.plot.confusion_matrix`, which accepts single predictions but not counts."""
    import wandb as client

    columns: list[str | int] = ["Actual", "Predicted", "nPredictions"]
    rows = [
        [actual, predicted, count]
        for actual, row in zip(names, counts, strict=True)
        for predicted, count in zip(names, row, strict=True)
    ]
    matrix = client.plot_table(
        "wandb/confusion_matrix/v1",
        client.Table(columns=columns, data=rows),
        fields={str(name): str(name) for name in columns},
        string_fields={"title": "validation"},
    )
    run.log({"confusion": matrix})


def _save_files(run: Any, place: Place) -> None:
    """The config and the provenance, from the run's folder."""
    for path in (place.config_file, place.provenance_file):
        if path.exists():
            run.save(path, base_path=place.folder, policy="now")


def _upload_checkpoints(run: Any, place: Place) -> None:
    """`best` and `latest`, versions of one artifact; one version if they are the same."""
    import wandb as client

    score = json.loads(json.dumps({name: run.summary.get(name) for name in ("best_step", "steps")}))
    for path, alias in ((place.best, "best"), (place.last, "latest")):
        if path.exists():
            artifact = client.Artifact(f"checkpoint-{place.id}", "model", metadata={**score, "file": path.name})
            artifact.add_file(str(path), name="model.ckpt")
            run.log_artifact(artifact, aliases=[alias])
