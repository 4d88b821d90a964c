"""Test a checkpoint: python train.py measure=evaluate ckpt=PATH [task.path=DATA].

The data are read with what was fitted to the training data (classes, vocabulary, statistics of pixels) and stored in
the checkpoint. So the data may have moved, or be new data; a split that changed since training is reported.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from normlab.config.schema import InputError, RunConfig
from normlab.data.store import Prepared
from normlab.data.store import prepare as prepare_data
from normlab.folder.place import Place
from normlab.models.checkpoint import load_checkpoint, read_checkpoint, recorded
from normlab.session.known import known_data
from normlab.session.session import Session
from normlab.session.task import build_task
from normlab.session.trainer import batches_of, build_trainer

SPLITS = ("validation", "test")


def recall(config: RunConfig) -> RunConfig:
    """`config` with the norm, model, task, optimiser and seed of the checkpoint."""
    assert config.ckpt is not None
    made, _ = recorded(read_checkpoint(config.ckpt), config.ckpt, config.trust)
    moved = {"path": config.task.path, "source": "path", "test": None} if config.task.path else {}
    task = made.task.model_copy(update=moved)
    return config.model_copy(
        update={"norm": made.norm, "model": made.model, "task": task, "optim": made.optim, "seed": made.seed}
    )


def data_of(config: RunConfig) -> Prepared:
    """Validation and test data, converted as for the checkpoint, and notes on what has changed since training.

    Raises:
        InputError: the checkpoint or its data are gone, or the data don't fit it.
    """
    known, fitted = known_data(config)
    task = config.task
    if task.source == "path" and not task.place.exists():
        raise InputError(f"the data of {config.ckpt} are no longer at {task.path}: set task.path to where they are now")
    prepared = prepare_data(task, Path(config.cache), fitted)
    prints = {split: prepared.prints[split] for split in SPLITS if split in prepared.prints}
    content = hashlib.sha256(json.dumps(prints, sort_keys=True).encode()).hexdigest()
    return replace(prepared, fingerprint=content, notes=(*prepared.notes, *_changes(prepared, known)))


def _changes(prepared: Prepared, known: dict[str, Any]) -> list[str]:
    """How the splits differ from those that the checkpoint was trained with, one line each."""
    notes, counts = [], prepared.material.counts()
    for split in SPLITS:
        now, then = prepared.prints.get(split), known["prints"].get(split)
        if now is None:
            notes.append(f"data: there is no {split} split, so it is not evaluated")
        elif then is None:
            notes.append(f"data: the {split} split ({counts[split]}) did not exist at training")
        elif now != then:
            notes.append(f"data: the {split} split differs from the one at training: {_sizes(split, counts, known)}")
            if split == "validation" and prepared.material.held_out:
                notes.append(
                    "data: it is held out at random from what may be training data. To evaluate a whole file, put it "
                    "into a folder as test.csv (or .jsonl, …) and give task.path=FOLDER"
                )
    return notes


def _sizes(split: str, counts: dict[str, int], known: dict[str, Any]) -> str:
    then = known["counts"].get(split)
    if counts[split] != then:
        return f"{counts[split]} now, {then} then"
    return f"{then} as then, but with different content"


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Validation and test metrics of the checkpoint's weights. `config` has the checkpoint's own options."""
    assert config.ckpt is not None
    session = Session(config, place, known_data(config)[1])
    model = load_checkpoint(config.ckpt, config.trust)
    task = build_task(config, model, session.data)
    if config.trainer.compile:
        task.run_compiled()
    trainer = build_trainer(config, place.folder, session.loggers.all, [])
    summary: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters())}
    torch.manual_seed(0)
    for split, evaluate in (("validation", trainer.validate), ("test", trainer.test)):
        if split in session.data.splits:
            summary |= evaluate(task, batches_of(session, trainer, split), verbose=False)[0]
    return session.finish(summary)
