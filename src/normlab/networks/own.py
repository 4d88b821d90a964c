"""The network's own norms, as they are."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from normlab.config.errors import InputError
from normlab.norms.base import Norm


class OwnNorm(Norm):
    """Stands for the norms that the network of `model=module` or a Lightning project has, the control of a comparison.

    It is never built.
    """

    layouts = ()

    def __init__(self, *_site: Any, **_named: Any) -> None:
        raise InputError(
            "norm=own keeps the norms of a network of your own: it works only with model=module or project=..."
        )

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Never called."""
        raise NotImplementedError
