"""Time and memory of exporting and importing a study of many runs, made up from one small run of yours.

python scripts/bench/bench_packs.py --runs 2000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from normlab.config.schema import RunConfig
from normlab.folder.results import run_folders
from normlab.folder.run_record import RECORDED, RunRecord
from normlab.folder.study_folder import StudyFolder
from normlab.runs.identity import run_id
from normlab.runs.store import folder_of

CONFIG_FILE, STATUS_FILE, *_ = RECORDED
RUN = ("model=mlp", "norm=batch", "model.width=8", "trainer.steps=4", "trainer.threads=1", "logger=none")


def made_up_study(output: Path, count: int) -> Path:
    """A study of as many runs, which differ in their seeds, of a finding that has no file."""
    subprocess.run([sys.executable, "train.py", *RUN, f"output={output}"], check=True, stdout=subprocess.DEVNULL)
    first = RunRecord.read(next(run.folder for run in run_folders(output)))
    rows = []
    for seed in range(count):
        config = {**first.config, "seed": seed}
        known = RunConfig.model_validate_json(json.dumps(config), strict=True)
        content = first.files[CONFIG_FILE].replace(b'\n "seed": 0,', f'\n "seed": {seed},'.encode())
        status = {name: value for name, value in first.status.items() if name != "config"}
        files = {**first.files, CONFIG_FILE: content, STATUS_FILE: json.dumps(status).encode()}
        record = replace(first, id=run_id(known, first.data), files=files)
        if seed:
            record.write(folder_of(output, record.id))
        numbers = {k: v for k, v in first.summary.items() if isinstance(v, bool | int | float)}
        row = {"finding": "made_up", "stage": "report", "arm": "batch", "condition": "", "cell": "norm=batch"}
        rows.append({**numbers, **row, "seed": seed, "id": record.id, "outcome": "finished", "diverged": False})
    study = StudyFolder.at(output, "made_up-quick")
    study.write_runs(rows)
    study.write_verdicts([], {})
    return study.folder


def timed(*arguments: str) -> str:
    """Wall-clock and processor seconds, and the most memory, of a command of normlab."""
    code = (
        "import resource, sys; from normlab.commands.console import call; call(sys.argv[1:]);"
        "used = resource.getrusage(resource.RUSAGE_SELF);"
        "print(f'{used.ru_utime + used.ru_stime:.1f} s of the processor, {used.ru_maxrss // 1024} MB')"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return f"{time.perf_counter() - started:.1f} s, {done.stdout.splitlines()[-1]}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    count = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as scratch:
        study = made_up_study(Path(scratch) / "outputs", count)
        pack = Path(scratch) / "pack.zip"
        print(f"export of {count} runs: {timed('study', 'export', str(study), '-o', str(pack))}")
        print(f"pack: {pack.stat().st_size / 1e6:.1f} MB")
        for what in ("import", "import again"):
            print(f"{what}: {timed('study', 'import', str(pack), f'output={scratch}/elsewhere')}")
