"""Random faults against runs of `train.py`: nothing is lost, wrong or done twice.

    python tests/faults/campaign.py --trials 400 --seed 0

A trial strikes a tiny run with a fault, or several, gives the same command until it ends, and compares the run with
one that nothing struck. `--first 37 --trials 1` repeats the trial that a complaint names, but for its timing.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from strikes import ON_A_MOUNT, STRIKES, cannot, mounted
from trial import LOST, OTHER, TWICE, WRONG, Stand, Trial

from exactness import KINDS

COLUMNS = ("trials", "commands struck", LOST, WRONG, TWICE, OTHER)
OWN_MOUNTS = "NORMLAB_OWN_MOUNTS"  # set where file systems can be mounted that end with the process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first trial")
    parser.add_argument("--fault", choices=STRIKES, help="this one alone")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is cleared away
    _enter_own_mounts()
    with tempfile.TemporaryDirectory(prefix="normlab-faults-") as scratch:
        Path(scratch).chmod(0o755)  # other users come by
        counts = _campaign(options, Path(scratch))
    _print(counts)
    sys.exit(any(count[what] for count in counts.values() for what in (LOST, WRONG, TWICE, OTHER)))


def _enter_own_mounts() -> None:
    """Start again where a mount is seen by this process and its children alone, and ends with them; if possible."""
    if OWN_MOUNTS in os.environ or shutil.which("unshare") is None:
        return
    for unshare in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        probe = [*unshare, "mount", "-t", "tmpfs", "tmpfs", tempfile.gettempdir()]
        if subprocess.run(probe, capture_output=True).returncode == 0:
            os.environ[OWN_MOUNTS] = "1"
            os.execvp(unshare[0], [*unshare, sys.executable, *sys.argv])


def _campaign(options: argparse.Namespace, scratch: Path) -> dict[str, Counter[str]]:
    stand = Stand(scratch)
    faults = [name for name in STRIKES if options.fault in (None, name)]
    counts: dict[str, Counter[str]] = {name: Counter() for name in faults}
    skipped = {name: why for name in faults if (why := cannot(name, mounts=OWN_MOUNTS in os.environ))}
    for name, why in skipped.items():
        print(f"skipped: {name}: {why}", flush=True)
    started = time.monotonic()
    try:
        for number in range(options.first, options.first + options.trials):
            fault = faults[number % len(faults)]
            if fault in skipped:
                counts[fault]["skipped"] += 1
                continue
            trial = _try(stand, fault, number, options.seed)
            counts[fault] += Counter({"trials": 1, "commands struck": trial.struck})
            for what, why in trial.complaints:
                counts[fault][what] += 1
                print(f"trial {number}, {fault}, {trial.kind}: {what}: {why}", flush=True)
    finally:
        stand.zygote.close()
    print(f"seed {options.seed}, {time.monotonic() - started:.0f} s\n")
    return counts


def _try(stand: Stand, fault: str, number: int, seed: int) -> Trial:
    rng = random.Random(f"{seed}-{number}")
    scratch = stand.scratch / f"trial-{number}"
    trial = Trial(stand, rng, rng.choice(list(KINDS)), scratch)
    try:
        with mounted(trial.output) if fault in ON_A_MOUNT else nullcontext():
            trial.begin()
            STRIKES[fault](trial)
            trial.conclude()
    finally:
        for folder in (scratch, *stand.temporary.iterdir()):
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    return trial


def _print(counts: dict[str, Counter[str]]) -> None:
    """A Markdown table, a line a fault."""
    total = sum(counts.values(), Counter())
    print("|".join(("", " fault ", *(f" {column} " for column in COLUMNS), "")))
    print("|".join(("", "---", *("--:" for _ in COLUMNS), "")))
    for name, count in [*counts.items(), ("all", total)]:
        print("|".join(("", f" {name} ", *(f" {count[column]} " for column in COLUMNS), "")))
    if total["skipped"]:
        names = ", ".join(f"{name} ({count['skipped']})" for name, count in counts.items() if count["skipped"])
        print(f"\nskipped, for the reasons given above: {names}")


if __name__ == "__main__":
    main()
