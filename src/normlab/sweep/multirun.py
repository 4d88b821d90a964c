"""A multirun: find the missing runs, launch only those, watch them, and report how each ended."""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from normlab.config.schema import InputError, RunConfig
from normlab.folder.run_folder import RunFolder
from normlab.host.cores import usable_cores
from normlab.runs.owner import Owner, is_alive, read_owner, this_process
from normlab.runs.provenance import command
from normlab.runs.store import Found, accept, look
from normlab.stopping.children import starting_deaf
from normlab.stopping.request import listening, say
from normlab.sweep.board import Board
from normlab.sweep.cells import cells_of, paired, print_cells, write_cells
from normlab.sweep.compose import Composer, launcher_of
from normlab.sweep.dry import stand_in, with_cache
from normlab.sweep.estimate import estimate
from normlab.sweep.outcomes import print_table, write_table
from normlab.sweep.plan import Job, Outcome, plan
from normlab.sweep.rounds import Launch, Rounds
from normlab.sweep.worker import MULTIRUN

GRACE = 60.0  # seconds that runs have for saving when a multirun is stopped
SETTLED = 1.0  # seconds after which a run that saw no file `stop` has been claimed


def sweep(combinations: Sequence[Sequence[str]], composer: Composer, launch: Launch, cfg: DictConfig) -> list[Outcome]:
    """Run the missing runs.

    Args:
        combinations: the overrides of each run.
        composer: turns overrides into checked configs.
        launch: Hydra's launcher.
        cfg: the multirun's own config, with the node `hydra`.

    Raises:
        InputError: an option is invalid; no run has started.
        SystemExit: a run failed (1), or the multirun was stopped (130, 143).
    """
    console, cache = Console(), Path(str(cfg.cache))
    check_launcher(cfg)
    if cfg.dry:
        with stand_in(cache) as other:
            configs = with_cache(composer, other)(combinations, other)
            foretell(console, combinations, configs, side_by_side(cfg, configs[0].trainer.threads))
        return []
    jobs = plan(combinations, composer(combinations, cache))
    found = look_up(jobs)
    todo = [job for job in jobs if is_missing(job, found[job.number])]
    console.print(headline(len(combinations), jobs, found), highlight=False, soft_wrap=True)
    admit(jobs)
    invocation = Path(str(cfg.hydra.sweep.dir))
    outcomes = carry_out(console, jobs, todo, launch=launch, cfg=cfg, invocation=invocation)
    print_table(console, jobs, outcomes)
    cells = cells_of(jobs, outcomes)
    differences = paired(cells)
    print_cells(console, cells, differences)
    if todo and _write(invocation / "cells.csv", lambda path: write_cells(path, cells, differences)):
        written = f"results: {invocation / 'table.csv'}, and in the same folder cells.csv, with a row per cell"
        console.print(written, soft_wrap=True, highlight=False, markup=False)
    if not all(outcome.is_result for outcome in outcomes.values()):
        sys.exit(1)
    return list(outcomes.values())


def carry_out(
    console: Console,
    jobs: Sequence[Job],
    todo: Sequence[Job],
    *,
    launch: Launch,
    cfg: DictConfig,
    invocation: Path,
    at_once: int | None = None,
) -> dict[int, Outcome]:
    """Launch the jobs, watch them, and report how each ended.

    Args:
        invocation: folder of the frozen plans.
        at_once: how many jobs to give to the launcher at once; None: as suits it.

    Raises:
        InputError: the launcher does not start as many processes as a run has.
        SystemExit: the multirun was stopped.
    """
    outcomes = {job.number: _before(job) for job in jobs if job not in todo}
    if not todo:
        return outcomes
    _check_processes(cfg, jobs)
    invocation.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, invocation / "multirun.yaml")
    threads = jobs[0].config.trainer.threads
    size = at_once or cfg.hydra.sweeper.get("max_batch_size") or _at_once(launcher_of(cfg.hydra), threads)
    launcher = launcher_of(cfg.hydra)
    pooled = launcher == "joblib"  # its workers would print a traceback at the terminal's Ctrl-C
    rounds = Rounds(console, _deafly(launch) if pooled else launch, invocation, size, pooled)
    stop = partial(_stop_runs, todo, invocation, launcher)
    os.environ[MULTIRUN] = str(os.getpid())
    # joblib restarts a worker whose memory has grown by 300 MB, as large models make it
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given")
    with Board(console, jobs, outcomes, invocation) as board, listening() as request, request.first_doing(stop):
        try:
            outcomes |= rounds.all_of(todo, cfg.on_error)
        except (SystemExit, KeyboardInterrupt):
            outcomes |= rounds.read(todo)
            board.close()
            print_table(console, jobs, outcomes)
            print(f"Finished runs are kept. The same command runs the rest: {command()}", file=sys.stderr)
            raise
    _write(invocation / "table.csv", lambda path: write_table(jobs, outcomes, path))
    return outcomes


def _write(path: Path, write: Callable[[Path], None]) -> bool:
    """Write a table; False if the disk takes no more. The runs have been saved, so this is said and ends nothing."""
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        part.replace(path)  # a program that reads it never sees a part of the table
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        say(f"{path} was not written: {error.strerror}. The runs are saved, and `normlab table` shows them")
        return False
    return True


def _before(job: Job) -> Outcome:
    """How a run ended that needn't be launched."""
    paused = job.pause is not None and RunFolder(job.folder).read_status().get("state") == "paused"
    return Outcome("paused" if paused else "skipped")


def look_up(jobs: Sequence[Job]) -> dict[int, Found]:
    """The state of each job's run; with accept_code=true, results from before a change of the code count."""
    return {job.number: _admitted(job, look(job.folder, job.code)) for job in jobs}


def _admitted(job: Job, found: Found) -> Found:
    """With accept_code=true, a result from before a change of the code counts as finished, a paused run as paused."""
    if not job.config.accept_code:
        return found
    if found.state == "stale":
        return replace(found, state="finished")
    run = RunFolder(job.folder)
    paused = found.state == "foreign" and found.status.get("state") == "paused" and not run.changed(found.status)
    return replace(found, state="paused") if paused else found


def admit(jobs: Sequence[Job]) -> None:
    """Record which runs from before a change of the code are accepted, with accept_code=true."""
    for job in (each for each in jobs if each.config.accept_code):  # others are looked at by `look_up` alone
        found = look(job.folder, job.code)
        if _admitted(job, found) is not found:
            accept(job.folder, found.status, job.code)


def dry_run(config: RunConfig) -> None:
    """Print what a single run would do and cost."""
    with stand_in(Path(config.cache)) as cache:
        foretell(Console(), [[]], [config.model_copy(update={"cache": str(cache)})], 1)


def foretell(
    console: Console, combinations: Sequence[Sequence[str]], configs: Sequence[RunConfig], at_once: int
) -> None:
    """Print the missing runs and their cost, and write nothing."""
    jobs = plan(combinations, configs)
    found = look_up(jobs)
    console.print(headline(len(combinations), jobs, found), highlight=False, soft_wrap=True)
    estimate(console, jobs, [job for job in jobs if is_missing(job, found[job.number])], at_once)


def is_missing(job: Job, found: Found) -> bool:
    """Must the run be done?"""
    return found.state != "finished" or job.config.rerun


def headline(asked: int, jobs: Sequence[Job], found: dict[int, Found]) -> str:
    """The number of runs in each state, in one line."""
    words = {
        "finished": "finished",
        "stale": "code changed since; will be repeated",
        "paused": "paused by a study; will resume",
        "partial": "interrupted; will resume",
        "foreign": "interrupted, code changed since; will start again",
        "running": "running in another process",
        "damaged": "damaged; will be set aside and repeated",
        "missing": "new",
    }
    states = [found[job.number].state for job in jobs]
    parts = [f"{states.count(state)} {words[state]}" for state in words if state in states]
    twice = f" ({asked - len(jobs)} combinations are the same as another run)" if asked > len(jobs) else ""
    return f"{len(jobs)} run{'s' if len(jobs) != 1 else ''}: {', '.join(parts)}{twice}"


def _at_once(launcher: str, threads: int | None) -> int | None:
    """Jobs to give to the launcher at once: for submitit's local processes, which all start at once, one per core."""
    if launcher != "submitit_local":
        return None
    return max(1, (usable_cores()) // (threads or 1))


def side_by_side(cfg: DictConfig, threads: int | None) -> int:
    """How many runs the launcher does in parallel; on a cluster, the cluster decides."""
    launcher = launcher_of(cfg.hydra)
    if launcher == "joblib":
        return int(cfg.hydra.launcher.n_jobs) if cfg.hydra.launcher.n_jobs > 0 else usable_cores()
    return _at_once(launcher, threads) or 1


def check_launcher(cfg: DictConfig) -> None:
    """Check that the launcher has workers.

    Raises:
        InputError: it has none.
    """
    if launcher_of(cfg.hydra) == "joblib" and not (
        isinstance(cfg.hydra.launcher.n_jobs, int) and cfg.hydra.launcher.n_jobs
    ):
        raise InputError(
            f"hydra.launcher.n_jobs={cfg.hydra.launcher.n_jobs}: give a number of workers, or -1 for one per core"
        )


def _check_processes(cfg: DictConfig, jobs: Sequence[Job]) -> None:
    """Check that on SLURM a run of several processes has as many tasks."""
    if launcher_of(cfg.hydra) != "slurm":
        return
    for job in jobs:
        asked = (job.config.trainer.nodes, job.config.trainer.devices)
        given = (int(cfg.hydra.launcher.nodes), int(cfg.hydra.launcher.tasks_per_node))
        if asked != given:
            raise InputError(
                f"a run on {asked[0]} nodes with {asked[1]} processes each needs hydra.launcher.nodes={asked[0]} "
                f"hydra.launcher.tasks_per_node={asked[1]}, not {given[0]} and {given[1]}: set trainer.nodes and "
                f"trainer.devices for the whole multirun, or start a multirun for each"
            )


def _deafly(launch: Launch) -> Launch:
    """The launcher, whose processes are stopped only by this one."""

    def launched(*arguments: Any, **options: Any) -> Any:
        with starting_deaf():
            return launch(*arguments, **options)

    return launched


def _stop_runs(jobs: Sequence[Job], invocation: Path, launcher: str) -> None:
    """Let this command's runs on this machine save, and wait for them; runs of other commands are not touched.

    It may interrupt a print of this process, so it writes its own messages directly to the terminal.
    """
    if launcher == "slurm":
        say("the SLURM jobs continue: scancel them, or repeat the command later")
        return
    # for runs that are about to start: a process that is still importing finds the file `stop`
    (invocation / "stop").write_text("the multirun was stopped\n", encoding="utf-8")
    started, told = time.monotonic(), set[Owner]()
    while (passed := time.monotonic() - started) < GRACE:
        owners = [(owner, job.folder) for job in jobs if (owner := read_owner(job.folder)) is not None]
        running = {owner for owner, folder in owners if _is_ours(owner, folder)}
        for owner in running - told:
            with suppress(ProcessLookupError):
                os.kill(owner.pid, signal.SIGTERM)
        told |= running
        if not running and passed > SETTLED:
            return
        time.sleep(0.1)


def _is_ours(owner: Owner, folder: Path) -> bool:
    """Is it another living process started by this command?"""
    here = owner.host == this_process().host and owner.pid != os.getpid()
    return here and owner.launch == this_process().launch and is_alive(owner, folder)
