"""What makes two runs the same run, and two states of the code the same code. Imports no torch."""

from __future__ import annotations

import ast
import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from normlab.schema import RunConfig

PACKAGE = Path(__file__).parents[1]
ROOMS = ("norms", "kernels", "models", "data", "tasks", "probes", "measures")  # a run's result depends on these


def science(config: RunConfig) -> dict[str, Any]:
    """The part of a config that decides a run's result: no paths, no loggers, no way of showing progress."""
    values = config.model_dump(mode="json", include={"norm", "model", "task", "optim", "seed", "test"})
    values["task"] = {k: v for k, v in values["task"].items() if k not in _ELSEWHERE}
    trainer = config.trainer.model_dump(mode="json", exclude={"log_every", "progress"})
    trainer["threads"] = trainer["threads"] or os.cpu_count()
    return {**values, "trainer": trainer, "measure": config.measure.name}


# where the data lie, which their fingerprint stands for; defaults of the trainer, which says what is done
_ELSEWHERE = ("path", "hub", "source", "epochs", "steps", "validations")


def run_id(config: RunConfig, data: str) -> str:
    """The run's name: readable in front, unique by the hash behind.

    Args:
        config: a checked config
        data: the fingerprint of the data, whichever source they come from
    """
    checkpoint = hashlib.sha256(Path(config.ckpt).read_bytes()).hexdigest() if config.ckpt else None
    text = json.dumps([science(config), data, checkpoint], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return f"{config.model_name}-{config.norm_name}-{config.task.name}-{config.seed}-{digest}"


@lru_cache
def code_hash() -> str:
    """A hash of the code that a run's result depends on; comments, docstrings and layout don't count."""
    digest = hashlib.sha256()
    for room in ROOMS:
        for path in sorted((PACKAGE / room).glob("**/*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            digest.update(f"{path.relative_to(PACKAGE)}\n{ast.dump(_without_docstrings(tree))}\n".encode())
        for path in sorted((PACKAGE / room).glob("cpu/*")):  # C++, comments and all
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = node.body[1:]
    return tree
