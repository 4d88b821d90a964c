"""What keeping records of runs costs, and what launchers gain; called by scripts/bench/bench.py.

record     milliseconds of a run's identity, claim, records and skip, without its training
decide     seconds in which a multirun of 1,000 finished runs finds that nothing is left
launchers  runs per minute of launcher=joblib, compared with launcher=basic and with one process per run
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TRAIN = [sys.executable, "train.py"]
SHORT = ("model=lstm", "model.width=64", "trainer.steps=60", "trainer.threads=1", "logger=none")


def record(runs: int = 100) -> None:
    """The bookkeeping of `normlab.runs.run.do` around a measure that returns at once."""
    from normlab.checks.config import checked
    from normlab.runs import run

    def nothing(*_: Any) -> dict[str, Any]:
        return {"validation/accuracy": 0.5}

    run._measure = lambda *_: nothing
    with tempfile.TemporaryDirectory() as output:
        config = checked(_composed(*SHORT, f"output={output}", "trainer.progress=false"))
        new, skipped = [], []
        for seed in range(runs):
            one = config.model_copy(update={"seed": seed})
            started = time.perf_counter()
            run.do(one)
            between = time.perf_counter()
            run.do(one)
            new.append(1e3 * (between - started))
            skipped.append(1e3 * (time.perf_counter() - between))
    print(f"{'identity, claim and records of a run':45} {statistics.median(new):6.1f} ms   (the first {new[0]:.0f} ms)")
    print(f"{'identity and skip of a finished run':45} {statistics.median(skipped):6.1f} ms   (n = {runs})")


def decide() -> None:
    """The whole command, for 1,000 runs of 8 cells and of 1,000 cells."""
    sweeps = {
        "1,000 finished runs, 8 cells x 125 seeds": ("norm=batch,layer", "optim.lr=1e-3,2e-3,3e-3,4e-3", 125),
        "1,000 finished runs, 1,000 cells": ("norm=batch,layer", f"optim.lr={_values(500)}", 1),
    }
    for label, (norms, rates, seeds) in sweeps.items():
        with tempfile.TemporaryDirectory() as output:
            choices = (norms, rates, f"seed={','.join(map(str, range(seeds)))}", *SHORT, f"output={output}")
            _finish_all(output, norms, rates, seeds)
            seconds = [_seconds([*TRAIN, "-m", *choices], "1000 runs: 1000 finished") for _ in range(2)]
        print(f"{label:45} {seconds[0]:6.1f} s   ({seconds[1]:.1f} s when composed before)")


def launchers(runs: int = 120, alone: int = 5) -> None:
    """Runs a minute, start-up included."""
    with tempfile.TemporaryDirectory() as output:
        _seconds([*TRAIN, *SHORT, f"output={output}/warm"], "")
        rates = {}
        seeds = f"seed={','.join(map(str, range(runs)))}"
        for name in ("basic", "joblib"):
            command = [*TRAIN, "-m", f"launcher={name}", *SHORT, seeds, f"output={output}/{name}"]
            rates[name] = 60 * runs / _seconds(command, f"{runs} finished")
        spent = sum(_seconds([*TRAIN, *SHORT, f"seed={n}", f"output={output}/alone"], "") for n in range(alone))
        rates["a process each"] = 60 * alone / spent
    for name, rate in rates.items():
        ratio = rates["joblib"] / rate
        print(f"{f'runs a minute, {name}':45} {rate:6.1f}     joblib is {ratio:5.2f} x as fast   (n = {runs})")


def _composed(*overrides: str) -> Any:
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def _values(count: int) -> str:
    return ",".join(f"{1e-3 + 1e-6 * i:.6f}" for i in range(count))


def _finish_all(output: str, norms: str, rates: str, seeds: int) -> None:
    """Finished runs with a made-up summary: only deciding is timed."""
    from normlab.checks.config import checked
    from normlab.data.store import prepare
    from normlab.runs.code import code_hash
    from normlab.runs.identity import run_id
    from normlab.runs.store import claim

    for norm in norms.partition("=")[2].split(","):
        base = checked(_composed(f"norm={norm}", *SHORT, f"output={output}"))
        data, code = prepare(base.task, Path(base.cache)).fingerprint, code_hash(base)
        for rate in rates.partition("=")[2].split(","):
            optim = base.optim.model_copy(update={"lr": float(rate)})
            for seed in range(seeds):
                config = base.model_copy(update={"optim": optim, "seed": seed})
                run, _ = claim(Path(output), run_id(config, data), code, config.model_dump(mode="json"))
                run.finish({"validation/accuracy": 0.5, "seconds": 1.0})


def _seconds(command: list[str], expected: str) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if expected not in done.stdout:
        raise RuntimeError(f"{' '.join(command[:6])} … did not say {expected!r}:\n{done.stdout[:2000]}")
    return seconds
