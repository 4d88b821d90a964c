"""One run, from its config to its records. Imports torch only if there is something to compute."""

from __future__ import annotations

import gc
import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from normlab.config.components import PROJECT
from normlab.config.errors import one_line
from normlab.config.schema import InputError, RunConfig
from normlab.data.store import Prepared, prepare
from normlab.folder.place import Place
from normlab.folder.resume_points import list_points, newest_intact
from normlab.host.crowd import others_computing, sleep_while_waiting
from normlab.host.waits import waiting
from normlab.project.files import Named, named
from normlab.runs.code import code_hash
from normlab.runs.identity import run_id
from normlab.runs.owner import launch, read_owner
from normlab.runs.provenance import command, peak_memory_mb, provenance
from normlab.runs.ranks import check_ranks, rank
from normlab.runs.show import show
from normlab.runs.store import Run, accept, claim, folder_of, look, tidy
from normlab.stopping.request import Paused, Stopped, listening, stop_request

FINGERPRINT = "NORMLAB_FINGERPRINT"  # variable of the environment
OTHERS_WAIT = 300.0  # seconds that the other processes of a run wait for the first to claim it


@dataclass(frozen=True)
class Done:
    """The outcome of a request for a run.

    summary   empty if it has paused
    computed  False: it had finished before
    note      a sentence for the user, or nothing
    paused    where it has paused, in words; empty if it has not
    """

    summary: dict[str, Any]
    folder: Path
    computed: bool
    note: str = ""
    paused: str = ""


def run(config: RunConfig) -> dict[str, Any]:
    """Do a run and print its result; a finished run is only printed, not repeated.

    Returns:
        The summary.

    Raises:
        InputError: the data or the machine don't fit the config; no files are left behind.
        Stopped: it was asked to stop; its note says what the same command would do.
    """
    config = recalled(config)
    try:
        done = do(config)
    except (Stopped, KeyboardInterrupt) as end:
        if rank() == 0:
            for promise in getattr(end, "__notes__", []):
                print(f"{promise}: {command()}", file=sys.stderr)
        raise
    if rank() == 0:
        show(Console(), config, done.folder, done.summary, done.note)
    return done.summary


def recalled(config: RunConfig) -> RunConfig:
    """The config that is actually run: an evaluation reads part of it from the checkpoint."""
    if not config.measure.reads_checkpoint:
        return config
    made: RunConfig = importlib.import_module(f"normlab.measures.{config.measure.name}").recall(config)
    return made


def data_of(config: RunConfig) -> Prepared | Named:
    """The data of a run; for an evaluation, converted as for the checkpoint; of a project what its options say of them.

    Raises:
        InputError: they can't be read, or test=true and there is no test split; or a project can't be found or called.
    """
    if config.model["_target_"] == PROJECT:
        return named(config)
    if config.measure.name == "evaluate":
        made: Prepared = importlib.import_module("normlab.measures.evaluate").data_of(config)
        return made
    prepared = prepare(config.task, Path(config.cache))
    if config.test:
        prepared.material.check_split("test", config.task.name)
    return prepared


def data_key(config: RunConfig) -> str:
    """Equal for runs of the same data."""
    project = config.model if config.model["_target_"] == PROJECT else None
    return f"{config.task.model_dump_json()} {config.test} {config.ckpt} {project} {config.optim.lr if project else ''}"


class CalledOff(Exception):  # noqa: N818 (it is no error)
    """The run is no longer wanted; says why."""


def heed(called_off: Path | None) -> None:
    """Check that the run is still wanted.

    Raises:
        CalledOff: the file exists.
    """
    if called_off is not None and called_off.exists():
        raise CalledOff(called_off.read_text(encoding="utf-8").strip())


def do(config: RunConfig, called_off: Path | None = None) -> Done:
    """Do and record a run, unless it has finished. For `Raises` see `run`.

    Args:
        called_off: the run isn't begun if this file exists; it says why.

    Raises:
        CalledOff: the file exists.
    """
    with listening():
        return _done(config, called_off)


def _done(config: RunConfig, called_off: Path | None) -> Done:
    check_ranks(config)
    with waiting("preparing the data", shown=config.trainer.progress and rank() == 0):
        prepared = data_of(config)
    data = prepared.fingerprint if config.trainer.processes == 1 else _same_everywhere(prepared.fingerprint)
    name, code, output = run_id(config, data), code_hash(config), Path(config.output)
    folder = folder_of(output, name)
    if rank() > 0:
        return _take_part(config, folder, name)
    found = look(folder, code)
    if found.state == "stale" and config.accept_code and not config.rerun:
        accept(folder, found.status, code)
        return Done(
            found.summary, folder, False, "(the code has changed since, which is accepted; nothing was computed)"
        )
    if found.state == "finished" and not config.rerun:
        tidy(folder)
        return Done(found.summary, folder, False, "(this run had already finished; nothing was computed)")
    crowded = sleep_while_waiting(config.threads, others_computing(), os.cpu_count() or 1)
    heed(called_off)
    stop_request().hold("recording that the run begins")  # until `_recorded` can record that it was stopped
    owned, note = claim(output, name, code, config.model_dump(mode="json"), repeat=config.rerun)
    for line in (note, crowded, *prepared.notes) if config.trainer.progress else prepared.notes:
        if line:
            print(one_line(line), flush=True)
    try:
        return Done(_recorded(owned, config, data), folder, True, note)
    except Paused as pause:
        return Done(
            {}, folder, True, f"paused {pause}; without pause=... the same command resumes it", f"paused {pause}"
        )


def _same_everywhere(fingerprint: str) -> str:
    """The first process's, in those that it starts; by then a Lightning project may have written to its data."""
    if rank() > 0:
        return os.environ.get(FINGERPRINT, fingerprint)
    os.environ[FINGERPRINT] = fingerprint
    return fingerprint


def _recorded(owned: Run, config: RunConfig, data: str) -> dict[str, Any]:
    """Measure, and record how the run ended.

    Raises:
        Paused: it has come as far as it was launched for.
    """
    place, request = owned.place, stop_request()
    started = time.perf_counter()
    try:
        request.release()
        provenance(place, config, data)
        measure = _measure(config)  # imports torch, which must not count as the run's time
        started = time.perf_counter()
        summary = measure(config, place)
        summary |= {"seconds": owned.spent + time.perf_counter() - started}
        if not config.measure.exclusive:  # measured in another process, which has its own peak memory
            summary |= {"peak_memory_mb": peak_memory_mb()}
        request.hold("recording the result")
        owned.finish(summary)
    except Paused as pause:
        seconds = owned.spent + time.perf_counter() - started
        owned.pause(str(pause), step=pause.step, steps=pause.steps, seconds=seconds)
        request.release()
        raise
    except InputError as error:
        if place.has_rows() or list_points(place.folder):
            owned.fail("failed", str(error))  # the run had begun, so keep what it computed
        else:
            owned.withdraw()
        raise
    except (SystemExit, KeyboardInterrupt) as end:
        if isinstance(end, SystemExit) and not isinstance(end, Stopped) and request.signum is None:
            cause = f"code of the run ended the process, by sys.exit({end.code!r})"
            owned.fail("failed", cause)
            raise InputError(f"{cause}: a network, a project or its data must not") from None
        _stop(owned, end)
        raise
    except BaseException as error:
        if request.signum is None:
            owned.fail("failed", "".join(traceback.format_exception_only(error)).strip())
            raise
        stopped = Stopped(request.signum)  # a library turned the request into an error of its own
        _stop(owned, stopped)
        raise stopped from None
    request.release()  # a run that was asked to stop after its last step is finished, not discarded
    return summary


def _stop(owned: Run, end: BaseException) -> None:
    """Record a run that was asked to stop; a note on the exception says what the same command will do."""
    point = newest_intact(owned.place.folder)
    where = "before its first save" if point is None else f"after step {point.step}, which is saved"
    cause = f"{end if isinstance(end, Stopped) else 'stopped by Ctrl-C'} {where}"
    owned.fail("stopped", cause)
    print(cause, file=sys.stderr, flush=True)
    end.add_note(f"The same command {'starts again' if point is None else f'resumes from step {point.step}'}")


def _measure(config: RunConfig) -> Callable[[RunConfig, Place], dict[str, Any]]:
    module = f"normlab.measures.{config.measure.name}"
    if "torch" not in sys.modules:
        with waiting("importing torch and Lightning", shown=config.trainer.progress and rank() == 0):
            _import_lightly(module, wandb=config.logger.wandb is not None)
    measure: Callable[[RunConfig, Place], dict[str, Any]] = importlib.import_module(module).measure
    return measure


def _import_lightly(module: str, *, wandb: bool) -> None:
    """Import a measure, and with it torch, and W&B's client if it is used.

    The garbage collector is paused, because traversing the growing heap takes a sixth of the time of the imports; the
    imported objects are permanent, so later collections can ignore them too. W&B's client is imported first, because it
    searches all imported modules for the sources of its classes, and after torch there are thousands.
    """
    gc.disable()
    try:
        if wandb:
            importlib.import_module("wandb.apis.public")
        importlib.import_module(module)
        gc.freeze()
    finally:
        gc.enable()


def _take_part(config: RunConfig, folder: Path, name: str) -> Done:
    """In a further process of a run, wait until the first process has claimed the run.

    Raises:
        InputError: it didn't.
        SystemExit: the run was asked to stop. The status is 0, because the first process reports it; if another process
            ended with another status, Lightning or SLURM would kill the first one before it has.
    """
    deadline = time.monotonic() + OTHERS_WAIT
    while True:
        found = look(folder, code_hash(config))
        if found.state == "finished" and not config.rerun:
            return Done(found.summary, folder, False)
        owner = read_owner(folder)
        if owner is not None and owner.launch == launch():
            break
        if time.monotonic() > deadline:
            raise InputError(f"the first process of the run did not start on {folder} within {OTHERS_WAIT:.0f} s")
        time.sleep(0.05)
    points = {point.file: point for point in list_points(folder)}
    resume = points[owner.resume] if owner.resume else None
    place = Place(folder, name, int(found.status.get("attempt", 1)), resume)
    try:
        return Done(_measure(config)(config, place), folder, True)
    except (Stopped, Paused):
        raise SystemExit(0) from None
