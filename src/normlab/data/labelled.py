"""Labelled examples: a class or a number for each. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normlab.config.schema import InputError, TaskConfig
from normlab.data import source
from normlab.data.convert import converter
from normlab.data.fitted import Fitted
from normlab.data.held_out import check_groups, check_kept, held_out
from normlab.data.material import Builder, Material
from normlab.files.folders import SPLITS
from normlab.files.tables import Part
from normlab.views import columns, doubts, targets
from normlab.views.columns import Column

Targets = NDArray[np.int64] | NDArray[np.float64]


def labelled(builder: Builder, read: source.Read, origin: str) -> Material:
    """Inputs of any view, each with a class or a number."""
    task, known = builder.task, builder.known
    inputs: dict[str, list[Column]] = {}
    answers: dict[str, Targets] = {}
    groups: dict[str, Column] = {}
    fitted = known or Fitted()
    for split in builder.wanted(read):
        with builder.of(split):
            parts = read[split]()
            found = inputs_of(task, parts, builder.names)
            if known is None and split == "train":
                if task.content == "table" and task.inputs is None:
                    builder.said += doubts.check_features(found)
                fitted = _fit_target(builder, parts)
            answers[split] = _answers(task, fitted, parts)
            inputs[split] = found
            if task.groups is not None:
                groups[split] = columns.groups(parts, task.groups)
    check_groups(groups, inputs, builder)
    if "validation" not in inputs and "train" in inputs:
        kept, held = held_out(len(answers["train"]), task.validation, groups.get("train"), builder)
        whole, answer = inputs["train"], answers["train"]
        inputs |= {"train": [each.take(kept) for each in whole], "validation": [each.take(held) for each in whole]}
        answers |= {"train": answer[kept], "validation": answer[held]}
        builder.held_out = True
    if known is not None:
        inputs.pop("train", None)
    if task.source == "path" and fitted.classes is not None:
        used = {split: answers[split] for split in inputs if split not in builder.absent}
        builder.said += doubts.without_examples(fitted.classes, used, held_out=builder.held_out)
    if fitted.classes is None:
        fitted = _standardised(builder, fitted, answers)
    ordered = {split: inputs[split] for split in SPLITS if split in inputs}
    sizes, fitted, arrays = converter(task.content)(builder, ordered, fitted)
    if builder.held_out and known is None and fitted.classes is not None:
        check_kept(fitted.classes, answers["train"], groups=task.groups is not None)
    return builder.finish(sizes, fitted, {f"{split}.targets": t for split, t in answers.items()} | arrays, origin)


def inputs_of(task: TaskConfig, parts: list[Part], names: Sequence[str]) -> list[Column]:
    """The columns of the input of one split."""
    gaps = task.content == "table"  # whose gaps are refused with what to do about them
    found = [columns.column(parts, name, gaps=gaps) for name in names]
    return [columns.texts(each) for each in found] if task.content == "text" else found


def _fit_target(builder: Builder, parts: list[Part]) -> Fitted:
    """The classes of the training split; nothing if its targets are numbers to predict."""
    task, target = builder.task, str(builder.task.target)
    goal: str = task.goal
    if goal == "auto":
        goal, why = targets.inferred(columns.column(parts, target))
        builder.said.append(why)
    if goal == "regression":
        return Fitted()
    labels = _labels(task, parts)
    if task.content == "table" and not targets.numbered(labels):
        labels = targets.texts_of(labels)
    classes, numbered = columns.classes_of(labels, parts[0].names, typed=_typed(task, parts))
    if task.source == "path" and parts[0].names is None:
        if task.content != "images":  # of which a class may have few
            doubts.check_classes(labels, classes)
        doubts.check_alike(labels, classes)
        builder.said += doubts.doubtful(classes)
    return Fitted(classes=classes, numbered=numbered)


def _labels(task: TaskConfig, parts: list[Part], known: tuple[str, ...] | None = None) -> Column:
    found = columns.labels(parts, str(task.target), known)
    return targets.as_names(found) if task.content == "table" else found


def _typed(task: TaskConfig, parts: list[Part]) -> bool:
    return task.content == "table" or all(part.typed for part in parts)


def _answers(task: TaskConfig, fitted: Fitted, parts: list[Part]) -> Targets:
    """The targets of one split, as class numbers or in their own unit."""
    if fitted.classes is None:
        return targets.decode(columns.column(parts, str(task.target)))
    labels = _labels(task, parts, fitted.classes if fitted.numbered else None)
    if task.content == "table" and not fitted.numbered:
        labels = targets.texts_of(labels)
    return columns.encode_labels(labels, fitted.classes, fitted.numbered)


def _standardised(builder: Builder, fitted: Fitted, answers: dict[str, Any]) -> Fitted:
    """The mean and deviation of the training targets; and what is to be said of those of other splits."""
    name = str(builder.task.target)
    for split in ("validation", "test"):
        if split in answers:
            with builder.of(split):
                targets.check_evaluated(split, name, answers[split])
    if builder.known is not None:
        return fitted
    train = answers["train"]
    targets.check_training(name, train)
    low, high = float(train.min()), float(train.max())
    builder.said.append(f"target {name!r} in training: {low:g} to {high:g}, mean {train.mean():.6g}")
    for split in ("validation", "test"):
        if split in answers and split not in builder.absent:
            beyond = int(((answers[split] < low) | (answers[split] > high)).sum())
            if beyond:
                builder.said.append(
                    f"{beyond} of {len(answers[split])} {split} targets are outside the range of training"
                )
    mean, std = np.float64(train.mean()), np.float64(train.std())
    if not (np.isfinite(mean) and np.isfinite(std) and std > 0):
        raise InputError(f"the target {name!r} has no finite mean and deviation: scale its values")
    return fitted.with_arrays(target_mean=np.array(mean), target_std=np.array(std))
