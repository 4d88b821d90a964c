"""The norms and layers of a network that a monitor looks at."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy

from normlab.diagnoses.observed import Site
from normlab.norms import base
from normlab.norms.batch import BatchNorm
from normlab.sites.kinds import Kind, kind_as, torch_kind

UNKNOWN = "unknown"  # a module named like a norm; what it computes is not known
LAYERS = (nn.Linear, _ConvNd, nn.Embedding)


@dataclass(frozen=True)
class Norm:
    """A norm's module, and what it computes."""

    path: str
    module: nn.Module
    kind: Kind

    @property
    def statistics(self) -> tuple[Tensor, Tensor] | None:
        """Running mean and variance [C]; None if it has none of this shape."""
        kind, buffers = self.kind, self.module._buffers.values()
        if not all(value is None or any(value is held for held in buffers) for value in (kind.mean, kind.var)):
            kind = _kind(self.module) or kind  # which have been replaced since
        if kind.mean is None or kind.var is None or kind.mean.numel() != kind.mean.shape[-1]:
            return None
        return kind.mean.detach().reshape(-1), kind.var.detach().reshape(-1)

    @property
    def affine(self) -> list[Tensor]:
        """Gain and bias, where they are parameters."""
        return [value for value in (self.kind.gain, self.kind.bias) if isinstance(value, nn.Parameter)]

    def live(self) -> bool:
        """Whether a call now would change running statistics."""
        return self.module.training and self.statistics is not None


def norms_of(net: nn.Module) -> list[Norm]:
    """All norms; without an example, other libraries' are known by their class name alone."""
    found = []
    for path, module in net.named_modules():
        kind = None if any(map(is_lazy, module.parameters(recurse=False))) else _kind(module)
        if kind is None and "norm" in type(module).__name__.lower() and not list(module.children()):
            kind = Kind(UNKNOWN, -1)
        if kind is not None and kind.name != "none":
            found.append(Norm(path, module, kind))
    return found


def _kind(module: nn.Module) -> Kind | None:
    """As `torch_kind`, and of normlab's batch norm, whose forward pass is its own."""
    if not isinstance(module, BatchNorm):
        return torch_kind(module)
    kind = kind_as(module, base.Norm)
    # others are recomputed before an evaluation
    return kind if module.evaluation == "running" else replace(kind, mean=None, var=None)


def layers_of(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """Linear layers, convolutions and embeddings."""
    return [(path, module) for path, module in net.named_modules() if isinstance(module, LAYERS)]


def site_of(norm: Norm) -> Site:
    """What is known before the first step."""
    kind = norm.kind
    frozen = bool(norm.affine) and not any(value.requires_grad for value in norm.affine)
    return Site(
        norm.path, type(norm.module).__name__, kind.name,
        eps=float(kind.options.get("eps") or 0), momentum=kind.options.get("momentum"),
        channels=kind.gain.numel() if kind.gain is not None else 0, frozen=frozen,
        tracked=norm.statistics is not None,
        synchronised=isinstance(norm.module, nn.SyncBatchNorm) or bool(getattr(norm.module, "sync", False)),
    )  # fmt: skip


def values_per_statistic(norm: Norm, x: Tensor) -> int:
    """How many numbers of its input one mean and variance of a norm are taken over."""
    kind = norm.kind
    channels, positions = x.shape[kind.axis], math.prod(x.shape[1:]) // max(1, x.shape[kind.axis])
    if kind.name == "batch":
        return x.numel() // channels
    if kind.name == "group":
        return channels // int(kind.options.get("groups", 1)) * positions
    if kind.name == "instance":
        return positions
    if isinstance(norm.module, nn.LayerNorm | nn.RMSNorm):
        return math.prod(norm.module.normalized_shape)
    return channels * positions if kind.axis == 1 else channels


def tracked_batches(norm: Norm) -> int:
    """A count that rises with each update of its running statistics, without reading the device; 0 if it has none."""
    counted = norm.module.num_batches_tracked if isinstance(norm.module, _BatchNorm) else None
    return 0 if counted is None else counted._version
