"""A task's data as tensors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from normlab.config.schema import InputError, Sizes, TaskConfig
from normlab.data.fitted import Fitted
from normlab.data.material import Material
from normlab.data.splits import Examples, Split, Windows
from normlab.data.store import prepare
from normlab.views.text import Vocabulary


@dataclass(frozen=True)
class Data:
    """A task's data.

    splits       train, validation and, if there is one, test
    classes      their names; None in language modelling and regression
    target       regression: mean and standard deviation of the training targets
    vocabulary   the text of token ids; None for images and series
    characters   predicted characters of each split, for bits per character; None in classification
    permutation  int64 [T]: the pixel of each time step; only for permuted_pixels
    fingerprint  hash of the content
    source       where it came from, in words
    absent       test → why it can't be used, although the source has one
    record       what a checkpoint must store about it, as plain values
    """

    name: str
    sizes: Sizes
    splits: dict[str, Split]
    fingerprint: str
    source: str
    classes: tuple[str, ...] | None = None
    target: tuple[float, float] | None = None
    vocabulary: Vocabulary | None = None
    characters: dict[str, int] | None = None
    permutation: Tensor | None = None
    absent: dict[str, str] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)

    def split(self, name: str) -> Split:
        """One split.

        Raises:
            InputError: there is no such split, or it can't be used.
        """
        if name in self.absent:
            raise InputError(f"the {name} split can't be used: {self.absent[name]}")
        if name not in self.splits:
            raise InputError(f"task={self.name} has no {name} split; it has: {', '.join(self.splits)}")
        return self.splits[name]

    def to(self, device: torch.device | str) -> Data:
        """The same data on `device`, where batches will be gathered."""
        return replace(self, splits={name: split.to(device) for name, split in self.splits.items()})


def load(task: TaskConfig, cache: Path, known: Fitted | None = None) -> Data:
    """A task's data, from the cache or (the first time) from its source; for `known` see `prepare`.

    Raises:
        InputError: the source can't be read, or the cache can't be written.
    """
    prepared = prepare(task, cache, known)
    found = prepared.material
    tensors = {name: torch.from_numpy(array) for name, array in (found.arrays | found.fitted.arrays).items()}
    splits = {name: _split(found, tensors, name) for name in found.counts()}
    return Data(
        name=task.name,
        sizes=_measured(found.sizes, splits["train"]) if "train" in splits else found.sizes,
        splits=splits,
        fingerprint=prepared.fingerprint,
        source=found.source,
        classes=found.fitted.classes,
        target=found.fitted.target,
        vocabulary=found.fitted.vocabulary,
        characters=found.characters,
        permutation=tensors.get("permutation"),
        absent=found.absent,
        record=prepared.record(),
    )


def _measured(sizes: Sizes, train: Split) -> Sizes:
    """The sizes, including those that only the training split determines."""
    if sizes.kind in ("images", "table"):
        return replace(sizes, examples=len(train))
    lengths = train.lengths if isinstance(train, Examples) else None
    shortest = sizes.shape[0] if lengths is None else int(lengths.min())
    return replace(sizes, examples=len(train), shortest=shortest)


def _split(found: Material, tensors: dict[str, Tensor], name: str) -> Split:
    if found.sizes.causal:
        return Windows(tensors[f"{name}.tokens"], length=found.sizes.shape[0])
    return Examples(
        tensors[f"{name}.inputs"],
        tensors[f"{name}.targets"],
        lengths=tensors.get(f"{name}.lengths"),
        mean=tensors.get("mean", tensors.get("feature_mean")),
        std=tensors.get("std", tensors.get("feature_std")),
        scale=found.fitted.target,
    )
