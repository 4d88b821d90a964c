"""Test a checkpoint: python train.py measure=evaluate ckpt=PATH."""

from __future__ import annotations

from typing import Any

import torch

from normlab.config.schema import RunConfig
from normlab.data.loader import loader
from normlab.folder.place import Place
from normlab.mirror.loggers import build_loggers, finish
from normlab.models.checkpoint import load_checkpoint, read_checkpoint, recorded
from normlab.session.session import build_task, build_trainer, prepare


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
    data = prepare(config)
    model = load_checkpoint(config.ckpt)
    task = build_task(config, model, data)
    trainer = build_trainer(config, place, build_loggers(config, place), [])
    summary: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters())}
    torch.manual_seed(0)
    for split, run in (("validation", trainer.validate), ("test", trainer.test)):
        batches = loader(
            data.split(split).to(trainer.strategy.root_device),
            config.task.eval_batch_size,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        summary |= run(task, batches, verbose=False)[0]
    finish(trainer.loggers, summary)
    return summary
