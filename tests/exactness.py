"""What of a run must not depend on interruptions, and tiny runs to see it with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from normlab.folder.jsonfile import read_json
from normlab.host.cores import memory_of_machine

# three epochs of five steps, two validations each; every kind of state that a step depends on
TINY = (
    "trainer.batches=5",
    "trainer.epochs=3",
    "trainer.validations=2",
    "trainer.log_every=2",
    "trainer.threads=1",
    "trainer.progress=false",
    "task.batch_size=16",
    "task.eval_batch_size=50",
    "logger=csv",
)
KINDS = {
    "lstm": ("model=lstm", "model.width=16", "norm=batch", "model.dropout=0.3", "model.state_noise=0.1"),
    "cnn": ("model=cnn", "model.width=8", "norm=batch", "norm.evaluation=precise", "optim=sgd", "optim.lr=0.05"),
    "stopping": ("model=lstm", "model.width=16", "norm=layer", "trainer.patience=3", "optim.lr=1e-9"),
}

LONG = ("trainer.epochs=20", "trainer.save_steps=5")  # long enough to be struck from outside


def too_wide() -> int:
    """A width at which an LSTM's lower bound passes the check, but its weights don't fit the memory: the run fails."""
    return int(0.9 * (memory_of_machine() / 8) ** 0.5)


def options(kind: str, cache: Path, output: Path, *more: str) -> list[str]:
    return [*KINDS[kind], *TINY, f"cache={cache}", f"output={output}", *more]


def result(folder: Path) -> dict[str, Any]:
    """All of a run that must not depend on interruptions, flat: weights, logged values, summary."""
    timeless = ("time", "seconds", "memory")

    def kept(values: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in values.items() if not any(word in k for word in timeless)}

    rows = [kept(json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    csv = [line.split(",") for line in (folder / "csv" / "metrics.csv").read_text().splitlines()]
    columns = [i for i, name in enumerate(csv[0]) if "seconds" not in name]
    found = {
        "rows": rows,
        "csv": [[row[i] for i in columns] for row in csv],
        "summary": kept(read_json(folder / "summary.json")),
    }
    for name in ("best", "last"):
        checkpoint = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        states = checkpoint["optimizer_states"][0]["state"]
        found |= {f"{name}.{k}": v.clone() for k, v in checkpoint["state_dict"].items()}
        found |= {f"{name}.{i}.{k}": torch.as_tensor(v).clone() for i, s in states.items() for k, v in s.items()}
    return found


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """The names under which two results differ, by a bit or more."""
    return [name for name in {**expected, **found} if not _equal(found.get(name), expected.get(name))]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return type(one) is type(other) and bool(one == other)
