"""The faults that damage files of a run: cut, flipped, blanked, scrambled or removed."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from trial import OTHER, Trial

from normlab.folder.resume_points import list_points

Way = Callable[[bytes, random.Random], bytes | None]


TRUSTED = (
    *("status.json", "config.json", "metrics.jsonl", "resume.json", "owner", "progress.json", "provenance.json"),
    "checkpoints/*.ckpt",
)


def damaged_checkpoint(trial: Trial) -> None:
    """The last resume point of a killed run is damaged, or all are."""
    interrupt(trial)
    points = list_points(trial.folder)
    for point in points if trial.rng.random() < 0.3 else points[:1]:
        _damage(trial.folder / "checkpoints" / point.file, trial.rng)


def damaged_record(trial: Trial) -> None:
    """A file that says what became of a finished or killed run is damaged."""
    finished = trial.rng.random() < 0.5
    if finished:
        trial.give()
        name = trial.rng.choice(("summary.json", "config.json", "metrics.jsonl", "status.json", "owner"))
    else:
        interrupt(trial)
        name = trial.rng.choice(("status.json", "resume.json", "owner", "metrics.jsonl"))
    path = trial.folder / name
    if not path.exists():
        path.write_text("{}")
    # one bit of an owner's host names another machine, which is taken to be at work
    ways = (_cut, _blank, _scramble, _remove) if name == "owner" else WAYS
    how = _damage(path, trial.rng, ways)
    result = finished and name in ("summary.json", "config.json", "metrics.jsonl")
    # a damaged result is set aside, and computed again
    trial.exact = (name, how) != ("status.json", _flip) and not (result and name != "summary.json")
    told = result or (name in ("status.json", "resume.json") and how in (_cut, _blank, _scramble))
    if told:
        _expect_aside(trial)


def flipped_bit(trial: Trial) -> None:
    """Of any file that a killed or finished run, or one that begins, reads again."""
    trial.cache = Path(shutil.copytree(trial.stand.cache, trial.scratch / "cache"))
    kernels = Path(shutil.copytree(trial.stand.kernels, trial.scratch / "kernels"))
    trial.environment = {"XDG_CACHE_HOME": str(kernels)}
    trial.settle(trial.output)
    where = trial.rng.choice(("run", "run", "run", "data", "kernel", "composed", "finished"))
    if where == "composed":
        trial.command = ["-m", *trial.command, "seed=0"]
    if where in ("run", "composed"):
        interrupt(trial)
    if where == "finished":
        trial.give()
    names = ("status.json", "summary.json") if where == "finished" else TRUSTED
    files = {
        "data": [path for path in trial.cache.rglob("*") if path.suffix in (".npy", ".json")],
        "kernel": [path for path in kernels.rglob("*") if path.suffix in (".so", ".sha256")],
        "composed": list((trial.cache / "composed").glob("*.json")),
    }.get(where) or [path for name in names for path in trial.folder.glob(name)]
    file = trial.rng.choice(sorted(files))
    _damage(file, trial.rng, (_flip,))
    trial.exact = file.name != "status.json"
    if where == "composed":
        trial.give()
        trial.command = trial.command[1:-1]
    for ended in trial.give():
        if ended.status:
            trial.complain(OTHER, f"a flipped bit in {file.name} ended it: {ended.err[-300:]}")


def interrupt(trial: Trial) -> None:
    """Kill it late enough that, as a rule, it was saved more than once."""
    step = trial.rng.randint(min(6, trial.reference.steps), trial.reference.steps)
    trial.give(at={"signal": "SIGKILL", "step": step})


def _expect_aside(trial: Trial) -> None:
    """The next command must keep the damaged folder, and say so."""
    trial.give()
    if not any(".damaged-" in path.name for path in trial.aside()):
        trial.complain(OTHER, "a damaged folder was not set aside")


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(max(1, len(content) - 2))]  # without its last bracket at least


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _blank(content: bytes, rng: random.Random) -> bytes:
    return bytes(len(content))


def _scramble(content: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(len(content))


def _remove(content: bytes, rng: random.Random) -> None:
    return None


WAYS: tuple[Way, ...] = (_cut, _flip, _blank, _scramble, _remove)


def _damage(path: Path, rng: random.Random, ways: tuple[Way, ...] = WAYS) -> Way:
    """Damage a file in one of some ways; says in which."""
    how = rng.choice(ways)
    content = how(path.read_bytes(), rng)
    path.unlink() if content is None else path.write_bytes(content)
    return how
