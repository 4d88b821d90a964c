"""What a module computes, if it is a norm: one of torch's, or one that behaves as one of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from normlab.norms.base import Norm


@dataclass(frozen=True)
class Kind:
    """A norm y = gain · x̂ + bias.

    name      of normlab's norm that computes x̂; one that normlab doesn't have can stand here too
    axis      of the channels: 1 or -1
    options   of normlab's norm, with which it is the same
    gain      [C], a parameter of the module where it is one; None: 1
    bias      [C], likewise; None: 0
    names     the module's parameters that are gain and bias as they are, as state dicts name them → normlab's names
    mean, var the running statistics, if there are
    tracked   the number of batches in them
    then      names of the module's children through which y goes
    unbatched number of axes of an input without a batch axis, where the norm takes such
    obstacle  why such a norm can't be replaced
    """

    name: str
    axis: int
    options: dict[str, Any] = field(default_factory=dict)
    gain: Tensor | None = None
    bias: Tensor | None = None
    names: dict[str, str] = field(default_factory=dict)
    mean: Tensor | None = None
    var: Tensor | None = None
    tracked: Tensor | None = None
    then: tuple[str, ...] = ()
    unbatched: int | None = None
    obstacle: str = ""

    @property
    def frozen(self) -> bool:
        """Whether it has a gain or a bias, and neither is trained."""
        own = [value for value in (self.gain, self.bias) if isinstance(value, nn.Parameter)]
        return bool(own) and not any(value.requires_grad for value in own)


_WEIGHTS = {"weight": "gain", "bias": "bias"}


def torch_kind(module: nn.Module) -> Kind | None:
    """The kind of one of torch's norms, or of a subclass that doesn't change what it computes."""
    base = torch_base(module)
    if base is None or type(module).forward is not base.forward or "forward" in vars(module):
        return None
    return kind_as(module, base)


def torch_base(module: nn.Module) -> type[nn.Module] | None:
    """The norm of torch that a module is an instance of."""
    return next((base for base in _READ if isinstance(module, base)), None)


def kind_as(module: nn.Module, base: type[nn.Module]) -> Kind:
    """The kind that a module would be if it computed what this base class does."""
    kind: Kind = _READ[base](module)
    made = [name for name in ("weight", "bias") if _computed(module, name)]
    if made:
        return replace(kind, obstacle=f"its {made[0]} is computed from other parameters, as by weight_norm or pruning")
    return kind


def _computed(module: nn.Module, name: str) -> bool:
    """Whether a value is neither a parameter nor a buffer, so that others are trained and stored in its place."""
    value = None if isinstance(module, Norm) else getattr(module, name, None)
    return isinstance(value, Tensor) and name not in module._parameters and name not in module._buffers


def _affine(module: nn.Module) -> dict[str, Any]:
    gain, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    return {"gain": gain, "bias": bias, "names": _WEIGHTS}


def _batch(module: Any) -> Kind:
    options = {"eps": module.eps, "momentum": module.momentum}
    if isinstance(module, nn.SyncBatchNorm):
        options["sync"] = True
    if module.running_mean is None:
        options |= {"evaluation": "batch"} | ({"momentum": 0.1} if module.momentum is None else {})
    names = _WEIGHTS | {name: name for name in ("running_mean", "running_var")}
    if module.momentum is None:
        names["num_batches_tracked"] = "num_batches_tracked"
    statistics = (module.running_mean, module.running_var, module.num_batches_tracked)
    kind = Kind("batch", 1, options, module.weight, module.bias, names=names)
    return replace(kind, **dict(zip(("mean", "var", "tracked"), statistics, strict=True)))


def _instance(module: Any) -> Kind:
    why = "it normalises with running statistics in eval mode" if module.track_running_stats else ""
    unbatched = module._get_no_batch_dim()
    return Kind("instance", 1, {"eps": module.eps}, **_affine(module), obstacle=why, unbatched=unbatched)


def _group(module: Any) -> Kind:
    return Kind("group", 1, {"eps": module.eps, "groups": module.num_groups}, **_affine(module))


def _several(module: Any) -> str:
    axes = len(module.normalized_shape)
    return f"its gain is over {axes} axes, and which of them are the channels is not known" if axes > 1 else ""


def _layer(module: Any) -> Kind:
    return Kind("layer", -1, {"eps": module.eps}, **_affine(module), obstacle=_several(module))


def _rms(module: Any) -> Kind:
    eps = module.eps
    if eps is None:  # that of the type in which torch computes, which is no half one
        dtype = torch.float32 if module.weight is None else module.weight.dtype
        eps = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    return Kind("rms", -1, {"eps": eps}, module.weight, names={"weight": "gain"}, obstacle=_several(module))


def _local_response(module: Any) -> Kind:
    del module
    return Kind("local_response", 1, obstacle="it divides by its neighbours, and none of normlab's norms does")


def _ours(module: Any) -> Kind:
    axis = 1 if module.channels_first else -1
    why = "it is inside a recurrence" if module.layout == "BC" and module.positions is not None else ""
    options = {name: getattr(module, name) for name in ("eps", "momentum", "groups") if hasattr(module, name)}
    mean, var = getattr(module, "running_mean", None), getattr(module, "running_var", None)
    names = {name: name for name in module.state_dict()}
    return Kind(module.name, axis, options, module.gain, module.bias, names=names, mean=mean, var=var, obstacle=why)


_READ: dict[type[nn.Module], Any] = {
    Norm: _ours,
    nn.SyncBatchNorm: _batch,
    _BatchNorm: _batch,
    _InstanceNorm: _instance,
    nn.GroupNorm: _group,
    nn.LayerNorm: _layer,
    nn.RMSNorm: _rms,
    nn.LocalResponseNorm: _local_response,
    nn.CrossMapLRN2d: _local_response,
}
