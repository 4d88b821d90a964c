"""Which norm stands at which site of a model: its `norm_at`."""

from __future__ import annotations

from collections.abc import Mapping

from normlab.config.schema import InputError
from normlab.norms.base import NormFactory


class Places:
    """The norms of one model: `norm` at every site, except where `norm_at` names another.

    A site's name is a layer and a part, as in `layer2.attention`, or a part alone, such as the final norm. A key of
    `norm_at` is such a name, or only the part (at those sites of all layers), or only the layer (at all its sites). If
    several hold, the whole name decides before the part, and the part before the layer.

    Args:
        norm: at all other sites.
        norm_at: site → norm; None: no exceptions.
    """

    def __init__(self, norm: NormFactory, norm_at: Mapping[str, NormFactory] | None) -> None:
        self.norm = norm
        self.norm_at = dict(norm_at or {})
        self.sites: list[str] = []
        self._decided: set[str] = set()

    def __call__(self, site: str) -> NormFactory:
        """The norm at a site."""
        self.sites.append(site)
        layer, _, role = site.rpartition(".")
        for key in (site, role, layer):
            if key in self.norm_at:
                self._decided.add(key)
                return self.norm_at[key]
        return self.norm

    def check(self) -> None:
        """Check, once the model is built, that every key decided something.

        Raises:
            InputError: the model has no norm at one, with its other options.
        """
        for key in self.norm_at:
            if key not in self._decided:
                raise InputError(
                    f"model.norm_at: with these options no norm of the model is left for {key}; "
                    f"it has {', '.join(dict.fromkeys(self.sites))}"
                )
