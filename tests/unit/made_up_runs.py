"""A launcher in this process, and runs whose results are made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from normlab.config.schema import InputError, RunConfig
from normlab.data.store import prepare
from normlab.folder.example_scores import write_example_scores
from normlab.runs.code import code_hash
from normlab.runs.identity import run_id
from normlab.runs.provenance import provenance
from normlab.runs.run import Done
from normlab.runs.store import claim
from normlab.sweep.job import job


class Launcher:
    """Does what Hydra's basic launcher does, in this process; notes what it was given."""

    def __init__(self, load, before=None):
        self.load = load
        self.before = before
        self.launched: list[list[str]] = []

    def __call__(self, batch, initial_job_idx):
        from normlab.checks.config import checked

        for number, overrides in enumerate(batch, start=initial_job_idx):
            self.launched.append([o for o in overrides if not o.startswith("plan=")])
            if self.before is not None:
                self.before(number)
            cfg = self.load(overrides)
            plan = cfg.plan
            OmegaConf.set_struct(cfg, False)
            del cfg["hydra"]
            job(Path(plan), lambda cfg=cfg, overrides=overrides: checked(cfg, overrides, launcher="basic"))


def made_up(behaviour: Callable[[RunConfig], dict[str, Any]], done: list[str]) -> Callable[[RunConfig], Done]:
    """What stands for `normlab.runs.run.do`: the run is claimed and recorded.

    Its summary is `behaviour`'s, and so are its scores per example, if it gives any as `example_scores`, and its
    validations, if it gives the accuracies at its steps as `curve`: then it pauses where it is asked to.
    """

    def do(config: RunConfig, called_off: Path | None = None) -> Done:
        data = prepare(config.task, Path(config.cache)).fingerprint
        name = run_id(config, data)
        run, _ = claim(
            Path(config.output), name, code_hash(config), config.model_dump(mode="json"), repeat=config.rerun
        )
        provenance(run.place, config, data)
        done.append(f"{config.norm_name}-{config.seed}")
        try:
            summary = behaviour(config)
        except InputError:
            run.withdraw()
            raise
        except BaseException as error:
            run.fail("failed", str(error))
            raise
        curve = summary.pop("curve", {})
        for step, value in curve.items():
            if not run.place.resume or step > run.place.resume.step:
                run.place.append_row({"step": step, "time": 0.0, "validation/accuracy": value})
            if config.pause and config.pause * max(curve) <= step < max(curve):
                run.pause(f"at step {step}", step=step, steps=max(curve), seconds=1.0)
                return Done({}, run.place.folder, True, paused=f"paused at step {step}")
        if record := summary.pop("example_scores", None):
            write_example_scores(run.place.example_scores_file, record)
        run.finish(summary)
        return Done(summary, run.place.folder, True)

    return do
