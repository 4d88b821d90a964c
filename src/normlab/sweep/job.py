"""One run of a multirun, in the process that the launcher has started for it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

from normlab.config.schema import InputError, RunConfig
from normlab.folder.jsonfile import read_json
from normlab.runs.code import code_hash
from normlab.runs.ranks import rank
from normlab.runs.run import CalledOff, do, heed, recalled
from normlab.runs.store import BusyError
from normlab.stopping.output import tolerate_failing_output
from normlab.stopping.request import listening, stop_request
from normlab.sweep.plan import Outcome, changes, read_plan, write_outcome
from normlab.sweep.worker import ending_with_its_multirun


def job(plan_file: Path, compose: Callable[[], RunConfig]) -> Outcome:
    """Do the planned run and record how it ended. Only a request to stop is passed on to the launcher.

    Args:
        plan_file: the frozen plan.
        compose: composes the config, which must equal the planned one.
    """
    tolerate_failing_output()
    with ending_with_its_multirun(), listening():
        outcome = _ended(plan_file, compose)
        if rank() == 0:
            write_outcome(plan_file, outcome)
        return outcome


def _ended(plan_file: Path, compose: Callable[[], RunConfig]) -> Outcome:
    try:
        heed(_stop_file(plan_file))
        return _done(plan_file, compose())
    except CalledOff as why:
        return Outcome("not started", str(why))
    except BusyError as error:
        return Outcome("elsewhere", str(error))
    except InputError as error:
        return _failed(plan_file, str(error))
    except Exception as error:
        if stop_request().signum is not None:  # a library turned the request into an error of its own
            stop_request().obey()
        log = plan_file.with_suffix(".log")
        log.write_text(traceback.format_exc(), encoding="utf-8")
        return _failed(plan_file, "".join(traceback.format_exception_only(error)).strip().splitlines()[0], str(log))


def _done(plan_file: Path, config: RunConfig) -> Outcome:
    planned = read_plan(plan_file)
    changed = changes(planned, config, code_hash(recalled(config)))
    if changed:
        more = f" and {len(changed) - 2} more" if len(changed) > 2 else ""
        raise InputError(
            f"changed since it was planned: {'; '.join(changed[:2])}{more}. Repeat the command to plan it again"
        )
    quiet = config.trainer.model_copy(update={"progress": False})
    update = {"trainer": quiet, "plan": None, "serves": planned["serves"], "pause": planned["pause"]}
    done = do(recalled(config.model_copy(update=update)), called_off=_stop_file(plan_file))
    if done.paused:
        return Outcome("paused", f"{done.paused.removeprefix('paused ')}, resumes if it is kept")
    if not done.computed:
        return Outcome("skipped")
    return Outcome("diverged" if done.summary.get("diverged") else "finished", done.note)


def _failed(plan_file: Path, cause: str, log: str | None = None) -> Outcome:
    config = read_json(plan_file).get("config")
    if isinstance(config, dict) and config.get("on_error") == "stop":
        _stop_file(plan_file).write_text(f"an earlier run failed: {cause}\n", encoding="utf-8")
    return Outcome("failed", cause, log)


def _stop_file(plan_file: Path) -> Path:
    """The file that calls off the multirun's runs that have not begun."""
    return plan_file.parents[1] / "stop"
