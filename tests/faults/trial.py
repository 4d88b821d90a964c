"""One run that faults strike, and what is checked of it."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exactness import KINDS, differences, options, result
from normlab.folder.jsonfile import read_json
from normlab.folder.resume_points import newest_intact
from separate import GROUP, USERS
from zygote import ROOT, Ended, Zygote

LOST, WRONG, TWICE, OTHER = "finished runs lost", "wrong results", "runs done twice", "other complaints"
STOPPED = (129, 130, 143)  # exit statuses of a command that was asked to stop
LIMIT = 60.0  # seconds until a command that does not end is killed
SAVING = ("save_steps=1", "save_steps=2", "save_steps=4", "save_minutes=0.002")


@dataclass(frozen=True)
class Reference:
    """An uninterrupted run of a kind.

    result     what an interrupted one must give too
    seconds    that it took
    steps      of training
    validated  batches of validation
    changes    how often it changed a file, saving at every step
    """

    folder: Path
    result: dict[str, Any]
    seconds: float
    steps: int
    validated: int
    changes: int


class Stand:
    """What all trials share: the process that is forked, the data, the uninterrupted runs."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.cache = scratch / "cache"
        self.temporary = scratch / "temporary"
        self.temporary.mkdir()
        self.temporary.chmod(0o1777)
        os.environ["TMPDIR"] = str(self.temporary)  # so that what a killed run leaves there is seen
        self.kernels = scratch / "kernels"
        known = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "normlab"
        if known.exists():
            shutil.copytree(known, self.kernels / "normlab")
        os.environ["XDG_CACHE_HOME"] = str(self.kernels)  # which other users can read, and faults may damage
        self.zygote = Zygote()
        self.references = {kind: self._reference(kind) for kind in KINDS}
        self._give_users_the_kernel()

    def _give_users_the_kernel(self) -> None:
        """Each user's own copy; without it, a user's runs would take the plain cell, whose last digits differ."""
        if os.getuid() != 0:
            return
        built = self.kernels / "normlab" / "kernels-0"
        for user in USERS:
            own = shutil.copytree(built, built.with_name(f"kernels-{user}"))
            for path in (own, *own.iterdir()):
                os.chown(path, user, GROUP)

    def _reference(self, kind: str) -> Reference:
        plain, saving, note = (self.scratch / f"{kind}-{name}" for name in ("plain", "saving", "changes"))
        self._uninterrupted(options(kind, self.cache, plain))  # makes the data too
        started = time.monotonic()
        command = options(kind, self.cache, saving, "trainer.save_steps=1")
        self._uninterrupted(command, count={"under": str(self.scratch), "note": str(note)})
        seconds = time.monotonic() - started
        (folder,) = (plain / "runs").iterdir()
        found = result(folder)
        validations = sum("validation/loss" in row for row in found["rows"])  # of five batches each
        return Reference(folder, found, seconds, found["summary"]["steps"], 5 * validations, int(note.read_text()))

    def _uninterrupted(self, command: list[str], **more: Any) -> None:
        (ended,) = self.zygote(command, **more)
        if ended.status:
            sys.exit(f"an uninterrupted run failed:\n{ended.err}")


@dataclass
class Trial:
    """A run, the faults that strike it, and what there is to complain about.

    struck  commands that a fault kept from their result
    said    all that they printed
    exact   the records still say what the run wrote; a flipped bit may say something else that makes sense
    user, place, environment    who gives the command, where, and with which variables
    """

    stand: Stand
    rng: random.Random
    kind: str
    scratch: Path
    struck: int = 0
    said: str = ""
    exact: bool = True
    user: int | None = None
    place: Path = ROOT
    environment: dict[str, str] = field(default_factory=dict)
    complaints: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.output = self.scratch / "output"
        self.notes = self.scratch / "notes"
        for folder in (self.output, self.notes):
            folder.mkdir(parents=True)
        self.reference = self.stand.references[self.kind]
        self.saving = f"trainer.{self.rng.choice(SAVING)}"
        self.cache = self.stand.cache
        self.settle(self.output)

    def settle(self, output: Path, given: Path | None = None) -> None:
        """The results lie there from now on; `given`: as the command names the folder."""
        self.output = output
        self.folder = output / "runs" / self.reference.folder.name
        self.command = options(self.kind, self.cache, given or output, self.saving)

    def begin(self) -> None:
        """Put a finished run beside it, to which nothing may happen."""
        other = self.rng.choice([kind for kind in KINDS if kind != self.kind])
        self.beside = self.stand.references[other].folder
        shutil.copytree(self.beside, self.output / "runs" / self.beside.name)

    def give(self, times: int = 1, **faults: Any) -> list[Ended]:
        """Give the command, or several at once, and judge what any command is held to."""
        finished, computed, after = self.finished(), self._computed(), self._goes_on_after()
        started = time.monotonic()
        commands = [self.command] * times
        where = {"user": self.user, "folder": self.place, "environment": self.environment}
        ended = self.stand.zygote(*commands, limit=LIMIT, witness=self.notes, **where, **faults)
        if time.monotonic() - started > LIMIT:
            self.complain(OTHER, "a command did not end")
        for one in ended:
            self._judge_end(one)
        new = self._computed()[len(computed) :]
        self._judge_computed(new, 1 + sum(one.status not in (0, 2) for one in ended))
        if finished is not None:
            self._judge_kept(finished, new)
        elif self.exact and times == 1 and new and new != [str(after)]:
            self.complain(OTHER, f"it went on after step {new} instead of {after}")
        return ended

    def conclude(self) -> None:
        """With no fault left, the run must end as if there had been none, and leave nothing behind."""
        (ended,) = self.give()
        if ended.status:
            self.complain(OTHER, f"the command does not end with its result: {ended.err[-300:]}")
        try:
            changed = differences(result(self.folder), self.reference.result)
        except Exception as error:  # whatever is wrong with its files, it is the run that is to blame
            changed = [f"{type(error).__name__}: {error}"]
        if changed:
            self.complain(WRONG, ", ".join(changed[:5]))
        (again,) = self.give()
        if again.status or "had already finished" not in again.out:
            self.complain(OTHER, f"a finished run is not shown: {again.err[-300:]}")
        if tree(self.output / "runs" / self.beside.name) != tree(self.beside):
            self.complain(LOST, "the run beside it was altered")
        self._judge_left()

    def complain(self, what: str, why: str) -> None:
        self.complaints.append((what, why))

    def finished(self) -> bytes | None:
        """The summary's bytes, if the records are whole and say that the run has finished."""
        status, summary = read_json(self.folder / "status.json"), self.folder / "summary.json"
        if status.get("state") != "finished" or not summary.exists():
            return None
        content = summary.read_bytes()
        return content if hashlib.sha256(content).hexdigest() == status.get("summary") else None

    def aside(self) -> list[Path]:
        """The run's folders that were set aside."""
        return sorted(self.folder.parent.glob(f"{self.folder.name}.*"))

    def saved_step(self) -> int:
        """The step after which it can go on."""
        point = newest_intact(self.folder)
        return point.step if point else 0

    def _goes_on_after(self) -> int:
        """Where the next command must go on: nothing that was saved is computed again."""
        readable = bool(read_json(self.folder / "status.json"))
        return self.saved_step() if readable else 0

    def _computed(self) -> list[str]:
        """A line for each time that a process began to compute the run."""
        notes = self.notes / self.folder.name
        return notes.read_text().splitlines() if notes.exists() else []

    def _judge_end(self, ended: Ended) -> None:
        self.said += ended.out + ended.err
        self.struck += ended.status != 0
        if "Traceback" in ended.err or ended.status not in (0, 2, *STOPPED, -9):
            self.complain(OTHER, f"it ended with status {ended.status}: {ended.err[-600:]}")
        promised = re.search(r"The same command (starts again|resumes from step (\d+))", ended.err)
        if ended.status in STOPPED and promised and int(promised[2] or 0) != self.saved_step():
            self.complain(OTHER, f"it promises {promised[0]!r}, and was saved at step {self.saved_step()}")

    def _judge_computed(self, new: list[str], most: int) -> None:
        if len(new) > most or any("meanwhile" in line for line in new):
            self.complain(TWICE, f"computed from step {', '.join(new)}")

    def _judge_kept(self, finished: bytes, new: list[str]) -> None:
        """A finished run stays as it is; at the least, where its records were damaged, it is set aside."""
        kept = [path.read_bytes() for path in self.folder.parent.glob("*/summary.json")]
        if finished not in kept or (self.exact and self.finished() != finished):
            self.complain(LOST, "its summary is not where it was")
        if self.exact and new:
            self.complain(TWICE, f"it had finished, and was computed from step {new}")

    def _judge_left(self) -> None:
        folders = [self.folder, self.output / "runs" / self.beside.name]
        unnamed = [path.name for path in self.aside() if path.name not in self.said]
        left = [path.name for folder in folders for path in folder.rglob("*") if _is_temporary(path)]
        left += [path.name for path in (self.output / "runs").iterdir() if path not in [*folders, *self.aside()]]
        temporary = [path.name for path in self.stand.temporary.iterdir()]
        left += [name for name in temporary if not name.startswith("torchinductor")]  # torch's own cache
        if unnamed:
            self.complain(OTHER, f"set aside without a word: {unnamed}")
        if left:
            self.complain(OTHER, f"left behind: {left}")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _is_temporary(path: Path) -> bool:
    return path.name in ("owner", "progress.json") or path.name.startswith("resume") or path.suffix == ".part"
