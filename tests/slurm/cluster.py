"""A real SLURM of one machine: munged, slurmctld and slurmd on loopback, all that they write in one folder."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
TEMPLATE = Path(__file__).with_name("slurm.conf")


def missing() -> list[str]:
    """The programs that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]


class Cluster:
    """Runs from entering to leaving; ends what it has started, by process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cores = max(2, os.cpu_count() or 1)
        self._daemons: list[subprocess.Popen[bytes]] = []
        # processes of one run find each other on loopback too
        loopback = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
        self.environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(folder / "slurm.conf"), **loopback}

    def __enter__(self) -> Cluster:
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        self._configure()
        try:
            self._start_munge()
            self._start("slurmctld", "-D", "-i")
            self._start("slurmd", "-D")
            self._await(lambda: self.ask("sinfo", "--noheader", "--format=%T").strip() == "idle", 30)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.ask("scancel", "--user", getpass.getuser(), "--signal=KILL")
            self._await(lambda: not self.ask("squeue", "--noheader"), 20)
        finally:
            self._stop()

    def ask(self, *command: str) -> str:
        """What one of SLURM's commands answers; nothing where it fails."""
        done = subprocess.run(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, timeout=30
        )
        return done.stdout.decode()

    def _configure(self) -> None:
        values = {
            "DIR": str(self.folder),
            "HOST": socket.gethostname().partition(".")[0],
            "USER": getpass.getuser(),
            "CTLD_PORT": str(_free_port()),
            "SLURMD_PORT": str(_free_port()),
            "CPUS": str(self.cores),
            "MEMORY": str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20),
        }
        text = TEMPLATE.read_text(encoding="utf-8")
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        (self.folder / "slurm.conf").write_text(text, encoding="utf-8")

    def _start_munge(self) -> None:
        """SLURM's proof of identity, with a key of its own."""
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        own = [f"--{name}-file={self.folder / f'munge.{name}'}" for name in ("key", "pid", "log", "seed")]
        self._start("munged", "--foreground", "--force", f"--socket={self.folder / 'munge.socket'}", *own)
        self._await((self.folder / "munge.socket").exists, 10)

    def _start(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("wb") as out:
            self._daemons.append(subprocess.Popen(command, env=self.environment, stdout=out, stderr=out))

    def _await(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                logs = [path for pattern in ("*.out", "*.log") for path in sorted(self.folder.glob(pattern))]
                said = "\n".join(f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in logs)
                raise TimeoutError(f"SLURM was not ready within {seconds:.0f} s\n{said}")
            time.sleep(0.1)

    def _stop(self) -> None:
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
