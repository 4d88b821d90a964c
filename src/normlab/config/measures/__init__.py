"""The measures, each declared by a class in a module of this package, where it is found. Imports no torch."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from normlab.config.measures.base import Measure


def _declared() -> list[type[Measure]]:
    """Every measure that can be chosen; a class without a name, such as Timing, is only a base of some."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    measures = [
        value for value in found if issubclass(value, Measure) and "name" in vars(value).get("__annotations__", {})
    ]
    return sorted((measure for measure in measures if measure is not Measure), key=lambda measure: measure.__name__)


MEASURES = _declared()

# What a run measures, with the options of that measure alone.
if TYPE_CHECKING:
    MeasureConfig = Measure
else:
    MeasureConfig = Annotated[Union[tuple(MEASURES)], Field(discriminator="name")]  # noqa: UP007
