"""A multirun: decide what is missing, launch only that, watch it, and tell how each run ended."""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from normlab.config.cores import usable_cores
from normlab.config.schema import InputError, RunConfig
from normlab.runs.owner import Owner, is_alive, read_owner, this_process
from normlab.runs.provenance import command
from normlab.runs.store import Found, accept, look
from normlab.stopping.children import starting_deaf
from normlab.stopping.request import listening, say
from normlab.sweep.board import Board
from normlab.sweep.compose import Composer, launcher_of
from normlab.sweep.dry import stand_in, with_cache
from normlab.sweep.estimate import estimate
from normlab.sweep.outcomes import print_table, write_table
from normlab.sweep.plan import Job, Outcome, plan
from normlab.sweep.rounds import Launch, Rounds
from normlab.sweep.worker import MULTIRUN

GRACE = 60.0  # seconds that runs have to save when a multirun is stopped
SETTLED = 1.0  # seconds after which a run that had seen no reason to stop has been taken


def sweep(combinations: Sequence[Sequence[str]], composer: Composer, launch: Launch, cfg: DictConfig) -> list[Outcome]:
    """Run what is missing.

    Args:
        combinations: the overrides of each run.
        composer: from overrides to checked configs.
        launch: Hydra's launcher.
        cfg: the multirun's own config, with the node `hydra`.

    Raises:
        InputError: a choice has no meaning; nothing has begun.
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
    outcomes = carry_out(console, jobs, todo, launch, cfg, invocation)
    print_table(console, jobs, outcomes)
    if todo:
        console.print(f"all of it: {invocation / 'table.csv'}", soft_wrap=True, highlight=False, markup=False)
    if not all(outcome.is_result for outcome in outcomes.values()):
        sys.exit(1)
    return list(outcomes.values())


def carry_out(
    console: Console,
    jobs: Sequence[Job],
    todo: Sequence[Job],
    launch: Launch,
    cfg: DictConfig,
    invocation: Path,
    at_once: int | None = None,
) -> dict[int, Outcome]:
    """Launch what is to be done of the jobs, watch it, and tell how each ended.

    Args:
        invocation: folder of the frozen plans.
        at_once: jobs to hand to the launcher at once; None: what suits it.

    Raises:
        InputError: the launcher does not start as many processes as a run has.
        SystemExit: the multirun was stopped.
    """
    outcomes = {job.number: Outcome("skipped") for job in jobs if job not in todo}
    if not todo:
        return outcomes
    _check_processes(cfg, jobs)
    invocation.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, invocation / "multirun.yaml")
    threads = jobs[0].config.trainer.threads
    size = at_once or cfg.hydra.sweeper.get("max_batch_size") or _at_once(launcher_of(cfg.hydra), threads)
    launcher = launcher_of(cfg.hydra)
    pooled = launcher == "joblib"  # its workers would also print a traceback at the terminal's Ctrl-C
    rounds = Rounds(console, _deafly(launch) if pooled else launch, invocation, size, pooled)
    stop = partial(_stop_runs, todo, invocation, launcher)
    os.environ[MULTIRUN] = str(os.getpid())
    # joblib starts a worker anew when its memory has grown by 300 MB, as that of one that has seen large models has
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given")
    with Board(console, jobs, outcomes, invocation) as board, listening() as request, request.first_doing(stop):
        try:
            outcomes |= rounds.all_of(todo, cfg.on_error)
        except (SystemExit, KeyboardInterrupt):
            outcomes |= rounds.read(todo)
            board.close()
            print_table(console, jobs, outcomes)
            print(f"Finished runs are kept. The same command does the rest: {command()}", file=sys.stderr)
            raise
    write_table(jobs, outcomes, invocation)
    return outcomes


def look_up(jobs: Sequence[Job]) -> dict[int, Found]:
    """The state of each job's run; a result of other code counts as finished where the user accepts it."""
    found = {job.number: look(job.folder, job.code) for job in jobs}
    for job in jobs:
        if found[job.number].state == "stale" and job.config.accept_code:
            found[job.number] = replace(found[job.number], state="finished")
    return found


def admit(jobs: Sequence[Job]) -> None:
    """Record that results of other code count, where the user accepts them."""
    for job in jobs:
        if job.config.accept_code and (found := look(job.folder, job.code)).state == "stale":
            accept(job.folder, found.status, job.code)


def dry_run(config: RunConfig) -> None:
    """Say what a single run would do and cost."""
    with stand_in(Path(config.cache)) as cache:
        foretell(Console(), [[]], [config.model_copy(update={"cache": str(cache)})], 1)


def foretell(
    console: Console, combinations: Sequence[Sequence[str]], configs: Sequence[RunConfig], at_once: int
) -> None:
    """Say what is missing and what it would cost, and write nothing."""
    jobs = plan(combinations, configs)
    found = look_up(jobs)
    console.print(headline(len(combinations), jobs, found), highlight=False, soft_wrap=True)
    estimate(console, jobs, [job for job in jobs if is_missing(job, found[job.number])], at_once)


def is_missing(job: Job, found: Found) -> bool:
    """Is there something to do?"""
    return found.state != "finished" or job.config.rerun


def headline(asked: int, jobs: Sequence[Job], found: dict[int, Found]) -> str:
    """How many runs there are, and in which state, in a line."""
    words = {
        "finished": "finished",
        "stale": "made by other code, to be done again",
        "partial": "interrupted, to go on",
        "foreign": "interrupted under other code, to begin anew",
        "running": "running in another process",
        "damaged": "damaged, to be set aside and done again",
        "missing": "new",
    }
    states = [found[job.number].state for job in jobs]
    parts = [f"{states.count(state)} {words[state]}" for state in words if state in states]
    twice = f" ({asked - len(jobs)} choices lead to a run that is there already)" if asked > len(jobs) else ""
    return f"{len(jobs)} run{'s' if len(jobs) != 1 else ''}: {', '.join(parts)}{twice}"


def _at_once(launcher: str, threads: int | None) -> int | None:
    """submitit starts local processes all at once: hand it as many as there are cores."""
    if launcher != "submitit_local":
        return None
    return max(1, (usable_cores()) // (threads or 1))


def side_by_side(cfg: DictConfig, threads: int | None) -> int:
    """Runs that the launcher does at once; of a cluster, that is up to the cluster."""
    launcher = launcher_of(cfg.hydra)
    if launcher == "joblib":
        return int(cfg.hydra.launcher.n_jobs) if cfg.hydra.launcher.n_jobs > 0 else usable_cores()
    return _at_once(launcher, threads) or 1


def check_launcher(cfg: DictConfig) -> None:
    """Has the launcher workers?

    Raises:
        InputError: it is given none.
    """
    if launcher_of(cfg.hydra) == "joblib" and not (
        isinstance(cfg.hydra.launcher.n_jobs, int) and cfg.hydra.launcher.n_jobs
    ):
        raise InputError(
            f"hydra.launcher.n_jobs={cfg.hydra.launcher.n_jobs}: a number of workers, or -1 for one a core"
        )


def _check_processes(cfg: DictConfig, jobs: Sequence[Job]) -> None:
    """In SLURM a run of several processes needs as many tasks."""
    if launcher_of(cfg.hydra) != "slurm":
        return
    for job in jobs:
        asked = (job.config.trainer.nodes, job.config.trainer.devices)
        given = (int(cfg.hydra.launcher.nodes), int(cfg.hydra.launcher.tasks_per_node))
        if asked != given:
            raise InputError(
                f"a run on {asked[0]} nodes with {asked[1]} processes each needs hydra.launcher.nodes={asked[0]} "
                f"hydra.launcher.tasks_per_node={asked[1]}, not {given[0]} and {given[1]}: set trainer.nodes and "
                f"trainer.devices for the whole multirun, or start one for each"
            )


def _deafly(launch: Launch) -> Launch:
    """The launcher, whose processes hear of a stop from this one alone."""

    def launched(*arguments: Any, **options: Any) -> Any:
        with starting_deaf():
            return launch(*arguments, **options)

    return launched


def _stop_runs(jobs: Sequence[Job], invocation: Path, launcher: str) -> None:
    """Have this command's own runs on this machine save, and wait for them; other commands' runs are theirs.

    It may interrupt a print of this process, so what it says itself goes straight to the terminal.
    """
    if launcher == "slurm":
        say("the jobs in SLURM go on: scancel them, or give the same command later")
        return
    # for those that are about to begin: a process that still imports finds the file `stop`
    (invocation / "stop").write_text("the multirun was stopped\n", encoding="utf-8")
    started, told = time.monotonic(), set[Owner]()
    while (passed := time.monotonic() - started) < GRACE:
        owners = [owner for job in jobs if (owner := read_owner(job.folder)) is not None]
        running = {owner for owner in owners if _is_ours(owner)}
        for owner in running - told:
            with suppress(ProcessLookupError):
                os.kill(owner.pid, signal.SIGTERM)
        told |= running
        if not running and passed > SETTLED:
            return
        time.sleep(0.1)


def _is_ours(owner: Owner) -> bool:
    """Is it another living process that this command has started?"""
    here = owner.host == this_process().host and owner.pid != os.getpid()
    return here and owner.launch == this_process().launch and is_alive(owner)
