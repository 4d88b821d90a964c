"""One run from its config to its records. Imports torch only when there is something to compute."""

from __future__ import annotations

import importlib
import os
import time
import traceback
from pathlib import Path
from typing import Any

from rich.console import Console

from normlab.data.store import prepare
from normlab.measures.place import Place
from normlab.runs.identity import code_hash, run_id
from normlab.runs.provenance import peak_memory_mb, provenance
from normlab.runs.show import show
from normlab.runs.store import Run, claim, finished, folder_of, write_json
from normlab.schema import InputError, RunConfig


def run(config: RunConfig) -> dict[str, Any]:
    """Do a run and record it; a finished one is shown instead of repeated.

    Returns:
        The summary.

    Raises:
        InputError: the data or the machine are not what the config asks for; nothing is left behind.
    """
    if config.measure.name == "evaluate":
        config = importlib.import_module("normlab.measures.evaluate").recall(config)
    _, data = prepare(config.task, Path(config.cache))
    name, output = run_id(config, data), Path(config.output)
    if _rank() > 0:  # rank 0 owns the run; the others take part without writing
        return _measure(config, Place(folder_of(output, name), name, attempt=1))
    done = None if config.rerun else finished(output, name, code_hash())
    if done is not None:
        show(Console(), config, folder_of(output, name), done, "(this run had finished before; nothing was computed)")
        return done
    owned = claim(output, name, code_hash(), config.model_dump(mode="json"))
    write_json(owned.place.folder / "provenance.json", provenance(data))
    summary = _recorded(owned, config)
    show(Console(), config, owned.place.folder, summary)
    return summary


def _recorded(owned: Run, config: RunConfig) -> dict[str, Any]:
    """Measure, and record how it ended, whichever way."""
    started = time.perf_counter()
    try:
        summary = _measure(config, owned.place)
    except InputError as error:
        if (owned.place.folder / "metrics.jsonl").exists():
            owned.fail("failed", str(error))  # it had begun: what it computed stays
        else:
            owned.withdraw()
        raise
    except KeyboardInterrupt:
        owned.fail("stopped", "stopped by Ctrl-C")
        raise
    except BaseException as error:
        owned.fail("failed", "".join(traceback.format_exception_only(error)).strip())
        raise
    summary |= {"seconds": time.perf_counter() - started, "peak_memory_mb": peak_memory_mb()}
    owned.finish(summary)
    return summary


def _measure(config: RunConfig, place: Place) -> dict[str, Any]:
    measured: dict[str, Any] = importlib.import_module(f"normlab.measures.{config.measure.name}").measure(config, place)
    return measured


def _rank() -> int:
    """This process's number among those that share the run, as Lightning, torchrun or SLURM tell it."""
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    return int(next((os.environ[name] for name in names if os.environ.get(name)), "0"))
