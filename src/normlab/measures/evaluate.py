"""Test a checkpoint: python train.py measure=evaluate ckpt=PATH."""

from __future__ import annotations

from typing import Any

import torch

from normlab.config.schema import RunConfig
from normlab.folder.place import Place
from normlab.models.checkpoint import load_checkpoint, read_checkpoint, recorded
from normlab.session.session import Session
from normlab.session.task import build_task
from normlab.session.trainer import batches_of, build_trainer


def recall(config: RunConfig) -> RunConfig:
    """`config` with the norm, model, task, optimiser and seed that the checkpoint was made with."""
    assert config.ckpt is not None
    made, _ = recorded(read_checkpoint(config.ckpt))
    task = made.task.model_copy(update={"path": config.task.path or made.task.path})
    return config.model_copy(
        update={"norm": made.norm, "model": made.model, "task": task, "optim": made.optim, "seed": made.seed}
    )


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Validation and test metrics of the checkpoint's weights. `config` holds the checkpoint's own choices."""
    assert config.ckpt is not None
    session, model = Session(config, place), load_checkpoint(config.ckpt)
    task = build_task(config, model, session.data)
    if config.trainer.compile:
        task.run_compiled()
    trainer = build_trainer(config, place, session.loggers.all, [])
    summary: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters())}
    torch.manual_seed(0)
    for split, evaluate in (("validation", trainer.validate), ("test", trainer.test)):
        summary |= evaluate(task, batches_of(session, trainer, split), verbose=False)[0]
    return session.finish(summary)
