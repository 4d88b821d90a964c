"""A data set as arrays, and what every builder of one needs. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from normlab.config.schema import InputError, Sizes, TaskConfig
from normlab.data.fitted import Fitted
from normlab.files.folders import SPLITS
from normlab.views.sequences import Arrays


@dataclass(frozen=True)
class Material:
    """A data set as arrays.

    sizes       what a model must know
    fitted      what was fitted to the training split and used to make the arrays
    arrays      `<split>.inputs` with `<split>.targets`, and `<split>.lengths` if they differ; or `<split>.tokens`
    source      where the rows came from, in words
    characters  predicted characters of each split, for language modelling
    held_out    validation is a share of the training split, because the source has no validation split
    absent      test → why it can't be used, although the source has one
    done        how many images or numbers each rule has changed
    said        sentences for the user about what was decided by looking at the data
    """

    sizes: Sizes
    fitted: Fitted
    arrays: Arrays
    source: str
    characters: dict[str, int] | None = None
    held_out: bool = False
    absent: dict[str, str] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Examples of each split, or tokens of a text."""
        names = {split: f"{split}.{'tokens' if self.sizes.causal else 'targets'}" for split in SPLITS}
        return {split: len(self.arrays[name]) for split, name in names.items() if name in self.arrays}

    def check_split(self, split: str, task: str) -> None:
        """Check that there is such a split.

        Raises:
            InputError: there is none, or it can't be used.
        """
        if split in self.absent:
            raise InputError(f"the {split} split can't be used: {self.absent[split]}")
        if split not in self.counts():
            raise InputError(f"task={task} has no {split} split; it has: {', '.join(self.counts())}")


class Builder:
    """Turns rows into arrays. An error in the test split is raised only if the test split is requested.

    Args:
        task: what to read.
        known: what was fitted before; None: it is fitted now.
        names: the columns of the input.
    """

    def __init__(self, task: TaskConfig, known: Fitted | None, names: Sequence[str]) -> None:
        self.task = task
        self.known = known
        self.names = names
        self.absent: dict[str, str] = {}
        self.done: Counter[str] = Counter()
        self.said: list[str] = []
        self.held_out = False

    @contextmanager
    def of(self, split: str) -> Iterator[None]:
        """What is done within the context is about that split."""
        try:
            yield
        except InputError as error:
            if split != "test" or self.known is not None:
                raise
            self.absent[split] = str(error)

    def finish(self, sizes: Sizes, fitted: Fitted, arrays: Arrays, origin: str) -> Material:
        """The data set, without splits that can't be used."""
        arrays = {name: array for name, array in arrays.items() if name.split(".")[0] not in self.absent}
        material = Material(sizes, fitted, arrays, origin, held_out=self.held_out, absent=self.absent)
        return replace(material, done=dict(self.done), said=self.said)

    def wanted(self, read: Iterable[str]) -> list[str]:
        """The splits to read; with `known`, those that are evaluated, and train only if rows must be held out."""
        if self.known is None or "validation" not in read:
            return [split for split in SPLITS if split in read]
        return [split for split in SPLITS[1:] if split in read]
