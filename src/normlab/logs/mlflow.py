"""MLflow's file store, `mlruns/<experiment>/<run>/`: meta.yaml, and a file for each metric, parameter and tag."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from normlab.config.schema import InputError
from normlab.logs.run import Run, read_yaml

_OWN = "mlflow."  # tags that MLflow itself sets
_NAME = "mlflow.runName"
_STATES = {1: "running", 2: "scheduled", 3: "finished", 4: "failed", 5: "killed"}


def is_run(folder: Path, names: set[str]) -> bool:
    """By the names of what it holds; experiments and logged models have a meta.yaml too."""
    return "meta.yaml" in names and bool({"metrics", "params"} & names) and "run_id" in read_yaml(folder / "meta.yaml")


def read(folders: Sequence[Path]) -> Iterator[Run]:
    """The runs that weren't deleted.

    Raises:
        InputError: a file is damaged.
    """
    for folder in folders:
        meta = read_yaml(folder / "meta.yaml")
        if meta.get("lifecycle_stage", "active") != "active":
            continue
        tags = _texts(folder / "tags")
        run = Run(str(folder), {key: value for key, value in tags.items() if not key.startswith(_OWN)})
        name = tags.get(_NAME) or meta.get("run_name")
        run.facts |= ({"name": name} if name else {}) | _texts(folder / "params")
        if "status" in meta:
            run.facts.setdefault("state", _STATES.get(meta["status"], meta["status"]))
        for metric in _files(folder / "metrics"):
            for step, _, value in sorted(_values(metric)):
                run.log(str(metric.relative_to(folder / "metrics")), value, step)
        yield run


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _texts(folder: Path) -> dict[str, str]:
    try:
        return {str(file.relative_to(folder)): file.read_text(encoding="utf-8").strip() for file in _files(folder)}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{folder} can't be read: {error}") from None


def _values(file: Path) -> Iterator[tuple[float, int, float]]:
    """Step, number and value of each line `time value step`."""
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                words = line.split()
                if len(words) not in (2, 3, 5):  # the step came later; so did the digest of a data set
                    raise ValueError(f"line {number + 1} is not `time value step`")
                yield float(words[2]) if len(words) > 2 else 0.0, number, float(words[1])
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is damaged: {error}") from None
