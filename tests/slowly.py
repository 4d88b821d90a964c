"""Values of a parametrised test, of which `make test` tries some and `make test-all` all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def some(values: Iterable[Any], every: int = 3) -> list[Any]:
    """The first of every few values as they are, the others marked slow."""
    return [
        value if number % every == 0 else pytest.param(*_arguments(value), marks=pytest.mark.slow)
        for number, value in enumerate(values)
    ]


def _arguments(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
