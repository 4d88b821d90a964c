"""Hydra's submitit launchers, changed to wait for all their jobs. Imported at every start, so it imports lazily."""

# no `from __future__ import annotations`: Hydra runs this file without registering it as a module
from collections.abc import Sequence
from typing import Any

from hydra_plugins.hydra_submitit_launcher import submitit_launcher as theirs
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf


class _Patient(theirs.BaseSubmititLauncher):
    """Waits for every job; Hydra's own launcher gives up when the first job dies, while the others still run."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        """Submit the jobs and wait until all have ended; each run records its own outcome.

        Raises:
            RuntimeError: some jobs died without a result.
        """
        import time

        from hydra.core.singleton import Singleton

        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        calls = [
            (list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", Singleton.get_state())
            for number, overrides in zip(numbers, job_overrides, strict=True)
        ]
        jobs = self._submit(*zip(*calls, strict=True))
        while not self._have_ended(jobs):
            time.sleep(self.pause)
        died = [job for job in jobs if not _has_result(job)]
        if died:
            raise RuntimeError("; ".join(f"job {job.job_id} ended early, see {job.paths.stderr}" for job in died))
        return []

    def _submit(self, *calls: Sequence[Any]) -> Sequence[Any]:
        import submitit

        own = {"submitit_folder", "max_num_timeout"}
        shared = BaseQueueConf.__dataclass_fields__
        options = {n if n in shared else f"{self._EXECUTOR}_{n}": v for n, v in self.params.items() if n not in own}
        if options["gpus_per_node"] is None and self.config.trainer.accelerator == "gpu":
            options["gpus_per_node"] = self.config.trainer.devices
        requeues = {f"{self._EXECUTOR}_{n}": v for n, v in self.params.items() if n == "max_num_timeout"}
        executor = submitit.AutoExecutor(self.params["submitit_folder"], cluster=self._EXECUTOR, **requeues)
        executor.update_parameters(**options)
        return executor.map_array(self, *calls)

    def __call__(self, *call: Any) -> Any:
        """Do one run, in the job's process. On SLURM's notice, submitit requeues it once everything is saved."""
        import signal

        from normlab.stopping.request import NOTICE, Stopped, stop_request

        requeue = signal.getsignal(NOTICE)
        stop_request().install()  # submitit would ignore SIGTERM
        try:
            return super().__call__(*call)
        except Stopped as end:
            if end.signum == NOTICE and callable(requeue):
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.SIG_IGN)  # SLURM sends these signals to a job that it has requeued
                requeue(NOTICE, None)
            raise


class LocalLauncher(_Patient):
    """Jobs as processes on this machine."""

    _EXECUTOR = "local"
    pause = 0.2

    def _submit(self, *calls: Sequence[Any]) -> Sequence[Any]:
        """Submit them shielded from the terminal's Ctrl-C and hang-up, or submitit would kill runs that are saving."""
        import signal

        heard = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)}
        try:
            return super()._submit(*calls)
        finally:
            for number, handler in heard.items():
                signal.signal(number, handler)

    def _have_ended(self, jobs: Sequence[Any]) -> bool:
        return all(job.done() for job in jobs)


class SlurmLauncher(_Patient):
    """Jobs on SLURM, as one array."""

    _EXECUTOR = "slurm"
    pause = 2.0

    def _have_ended(self, jobs: Sequence[Any]) -> bool:
        """Check for results and, for jobs that died, the queue; submitit's sacct is missing on many clusters."""
        from normlab.stopping.slurm import job_states

        if all(map(_has_result, jobs)):
            return True
        states = job_states(jobs[0].job_id.partition("_")[0])
        return states is not None and all(state in _ENDED for state in states.values())


# jobs of an array that SLURM no longer knows have ended too
_ENDED = (
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "PREEMPTED"),
    *("NODE_FAIL", "BOOT_FAIL", "DEADLINE", "REVOKED"),
)


def _has_result(job: Any) -> bool:
    """Has every process of the job written its result?"""
    return all(job.task(number).paths.result_pickle.exists() for number in range(job.num_tasks))
