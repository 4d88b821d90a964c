"""Builds a data set from rows, once; then it is stored. Imports no torch."""

from __future__ import annotations

from dataclasses import replace

from normlab.config.schema import TaskConfig
from normlab.data import source
from normlab.data.fitted import Fitted
from normlab.data.labelled import labelled
from normlab.data.language import language
from normlab.data.material import Builder, Material
from normlab.data.segmentation import segmentation
from normlab.files.folders import Layout, told_apart
from normlab.views.overlap import repeated
from normlab.views.sequences import Arrays

_BUILDERS = {"language_modelling": language, "segmentation": segmentation}


def build(task: TaskConfig, found: Layout | None, known: Fitted | None = None) -> Material:
    """Read, check and convert all rows of a task.

    Args:
        task: what to read, and in which view.
        found: its files; None for the hub.
        known: what was fitted before. Then only validation and test data are built, and nothing is fitted.

    Raises:
        InputError: the source can't be read, or a value is not what the task needs.
    """
    names = source.features(task, found, known)
    read, origin = source.read(task, found, names)
    material = _BUILDERS.get(task.goal, labelled)(Builder(task, known, names), read, origin)
    if task.source == "path":
        apart = told_apart(found) if found is not None and known is None else []
        again = [] if material.sizes.causal else repeated(material.arrays)
        material = replace(material, said=[*material.said, *again, *apart])
    return material if known is None else replace(material, arrays=_without_training(material.arrays))


def _without_training(arrays: Arrays) -> Arrays:
    return {name: array for name, array in arrays.items() if not name.startswith("train.")}
