"""Checks of what normlab depends on: data packs, hub, W&B, folders and runs. Imports no torch."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from normlab.config.schema import WandbConfig
from normlab.data.source import PACKS
from normlab.environment.check import Check, Verdict
from normlab.folder.jsonfile import read_json
from normlab.mirror.wandb_access import OFFLINE, is_online, server
from normlab.runs.owner import read_owner, this_process
from normlab.runs.records import read_records, set_aside


def packs() -> Iterator[Check]:
    """Are the embedded data intact?"""
    sums = read_json(PACKS / "checksums.json").get("sha256", {})
    wrong = [name for name, digest in sums.items() if _digest(PACKS / name) != digest]
    if wrong or not sums:
        yield Check(
            "fail", "data packs", f"damaged: {', '.join(wrong) or 'checksums.json'}", "git checkout src/normlab/data"
        )
    else:
        yield Check("ok", "data packs", f"{len(sums)} files match their checksums")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def hub() -> Iterator[Check]:
    """Can data sets of the Hugging Face hub be loaded?"""
    flags = [name for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE") if os.environ.get(name, "") not in ("", "0")]
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    place = Path(os.environ.get("HF_DATASETS_CACHE", home / "datasets"))
    known = sorted(path.name for path in place.glob("*/")) if place.is_dir() else []
    names = [name.replace("___", "/") for name in known if not name.startswith(("_", "downloads"))]
    there = f"downloaded before: {', '.join(names)}" if names else "nothing downloaded yet"
    if flags:
        advice = "" if names else f"tasks from the hub will fail: unset {flags[0]}, or use embedded tasks"
        yield Check("ok" if names else "warn", "hugging face", f"offline by {', '.join(flags)}; {there}", advice)
    else:
        yield Check("ok", "hugging face", f"online if there is a network; {there}")


def wandb() -> Iterator[Check]:
    """Will runs log online? Decided as the logger does."""
    mode = os.environ.get("WANDB_MODE")
    if is_online(WandbConfig(project="normlab")):
        yield Check("ok", "wandb", f"an API key for {server()} is configured: runs log online")
    elif mode in OFFLINE:
        yield Check("ok", "wandb", f"offline by WANDB_MODE={mode}")
    elif mode == "online":
        found = f"WANDB_MODE=online without an API key for {server()}"
        yield Check("warn", "wandb", found, "wandb login; until then runs log offline")
    else:
        yield Check("ok", "wandb", f"no API key for {server()}: runs log offline, `normlab sync` uploads them")


def folder(name: str, place: Path) -> Iterator[Check]:
    """Can the folder be written and locked, and is there enough space?"""
    existing = next(path for path in (place, *place.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        yield Check("fail", name, f"{existing} can't be written", f"choose another: {name}=FOLDER")
        return
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=existing) as scratch:
            seconds = _try_out(Path(scratch))
    except (OSError, Timeout, NotImplementedError) as error:
        yield Check(
            "fail", name, f"{existing}: {error}", f"use a file system with locks and atomic renames: {name}=FOLDER"
        )
        return
    free = shutil.disk_usage(existing).free / 1e9
    verdict: Verdict = "fail" if free < 0.2 else "warn" if free < 2 else "ok"
    advice = "" if verdict == "ok" else "run make clean, or choose another folder: a run takes 1 to 100 MB"
    yield Check(verdict, name, f"{place}: {free:,.1f} GB free, can be written and locked", advice)
    slow = seconds > 0.05
    advice = "every run needs several: use a local disk" if slow else ""
    yield Check("warn" if slow else "ok", f"{name} fsync", f"{1000 * seconds:.1f} ms", advice)


def _try_out(scratch: Path) -> float:
    """Lock, write and replace a file, as runs do; returns the median seconds of an fsync."""
    with FileLock(scratch / "lock", timeout=0), FileLock(scratch / "other", timeout=0):
        times = []
        for _ in range(5):
            with (scratch / "part").open("wb") as file:
                file.write(b"x" * 4096)
                file.flush()
                started = time.perf_counter()
                os.fsync(file.fileno())
                times.append(time.perf_counter() - started)
            (scratch / "part").replace(scratch / "whole")
    return sorted(times)[2]


def runs(output: Path) -> Iterator[Check]:
    """How many runs are in each state, and which need attention."""
    states: Counter[str] = Counter()
    damaged, elsewhere = [], []
    for record in read_records(output):
        states[record.state] += 1
        if record.state == "damaged":
            damaged.append(record.folder.name)
        elif record.state == "running" and _is_elsewhere(record.folder):
            elsewhere.append(f"{record.folder.name} ({record.found.why})")
    counts = ", ".join(f"{count} {state}" for state, count in states.most_common()) or "none yet"
    yield Check("ok", "runs", counts)
    if states["killed"]:
        advice = "their process is dead: the same command resumes them"
        yield Check("warn", "killed runs", str(states["killed"]), advice)
    if damaged:
        shown = ", ".join(damaged[:5]) + (", …" if len(damaged) > 5 else "")
        yield Check(
            "warn", "damaged runs", f"{len(damaged)}: {shown}", "the same command repeats them; make clean removes them"
        )
    if elsewhere:
        advice = "if that machine is gone, remove the file `owner` in the run's folder"
        yield Check("warn", "runs elsewhere", f"{len(elsewhere)}: {elsewhere[0]}", advice)
    aside = set_aside(output)
    if aside:
        yield Check("ok", "set aside", f"{len(aside)} earlier attempts or damaged folders")


def _is_elsewhere(folder: Path) -> bool:
    """Does a process of another machine work on the run?"""
    owner = read_owner(folder)
    return owner is not None and owner.host != this_process().host
