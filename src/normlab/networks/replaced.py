"""The norms of a network of the user's, replaced as the config says."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from torch import nn

from normlab.config.errors import InputError
from normlab.networks.own import OwnNorm
from normlab.norms.base import Norm
from normlab.sites.find import norm_sites
from normlab.sites.swap import SwapReport, swap_for_our_training


class Named(NamedTuple):
    """How messages name the network, and the option that chooses among its norms."""

    network: str
    only: str


def replaced(
    net: nn.Module, norm: partial[Norm], example: Any, only: str | list[str], named: Named
) -> SwapReport | None:
    """Replace the norms of a network; None if it keeps its own.

    Args:
        norm: with its options bound, which hold at all sites.
        example: as for `norm_sites`.
        only: patterns of the paths of the norms to replace.

    Raises:
        InputError: it has no norms, or the norm isn't valid at one.
    """
    kind = norm.func
    assert isinstance(kind, type)
    if kind is OwnNorm:
        return None
    sites = norm_sites(net, example)
    stuck = [site for site in sites if site.obstacle]
    if not sites.swappable:
        why = f" ({stuck[0].path}: {stuck[0].obstacle})" if stuck else ""
        raise InputError(f"{named.network} has no norm that another could replace{why}: norm=own trains it as it is")
    if stuck and only == "*":
        raise InputError(
            f"{named.network}: {len(stuck)} of {len(sites)} norms can't be replaced ({stuck[0].path}: "
            f"{stuck[0].obstacle}): {named.only}=PATTERN names those to replace, such as {sites.swappable[0].path}"
        )
    try:
        return swap_for_our_training(net, kind, example, only=only, **norm.keywords)
    except InputError as error:
        reason = str(error).removesuffix(". Nothing was replaced")
        raise InputError(f"{named.network}: {reason}") from None


def facts_of_swap(report: SwapReport | None) -> dict[str, Any]:
    """How many norms were replaced, and which were not, if any; nothing if the network keeps its own."""
    if report is None:
        return {}
    left = [site.path for site in report.left if site.obstacle]
    return {"norms_replaced": len(report.done), **({"norms_left": left} if left else {})}
