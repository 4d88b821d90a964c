"""Modules that stand at a site of a network which isn't ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from normlab.norms.base import Norm
from normlab.norms.moments import at_least_float32

View = Literal["same", "flat", "times_first"]


class SwappedNorm(nn.Module):
    """Calls a norm with its input in the norm's layout, and returns the result in the input's.

    Args:
        norm: at layout `BTC` unless the view is `same`.
        like: a tensor of the dtype and on the device of the site.
        view: of the input. `flat`: [B, …, C] with any number of axes, or none, between; `times_first`: [T, B, C].
        then: what follows the norm within the module that this one replaces, such as its activation.
    """

    unit: Tensor | None

    def __init__(self, norm: Norm, like: Tensor, view: View = "same", then: nn.Module | None = None) -> None:
        super().__init__()
        self.norm = norm
        self.register_buffer("unit", like.new_ones(norm.num_features) if norm.gain is None else None, persistent=False)
        self.view = view
        self.then = then

    def forward(self, *arguments: Tensor, **named: Tensor) -> Tensor:
        """The norm of the only argument, by whatever name it is passed."""
        (x,) = (*arguments, *named.values())
        if self.view == "flat":
            y = self.norm(x.reshape(x.shape[0], -1, x.shape[-1])).reshape(x.shape)
        elif self.view == "times_first":
            y = self.norm(x.transpose(0, 1)).transpose(0, 1)
        else:
            y = self.norm(x)
        if self.norm.layout == "BTC":
            y = y.contiguous()  # as a norm of the last axis returns it: networks call `view`
        if self.norm.gain is None:  # no norm may return its input, which an activation in place would then change
            y = y.clone()
        return y if self.then is None else self.then(y)

    @property
    def weight(self) -> Tensor | None:
        """See `Norm.weight`; where there is no gain, ones."""
        if self.norm.gain is not None:
            return self.norm.gain
        return self.unit

    @property
    def bias(self) -> Tensor | None:
        """The norm's bias."""
        return self.norm.bias

    def extra_repr(self) -> str:
        """The view, for `print(net)`."""
        return self.view


class FrozenAffine(nn.Module):
    """y = gain · x + bias: batch norm in eval mode with its running statistics folded into gain and bias.

    Args:
        gain: [C].
        bias: [C].
        layout: of x, channels along its second axis.
    """

    def __init__(self, gain: Tensor, bias: Tensor, layout: str) -> None:
        super().__init__()
        self.gain = nn.Parameter(gain)
        self.bias = nn.Parameter(bias)
        self.axes = len(layout) - 2

    @property
    def weight(self) -> Tensor:
        """See `Norm.weight`."""
        return self.gain

    def forward(self, x: Tensor) -> Tensor:
        """The same in training and in eval mode."""
        shape = (-1, *[1] * self.axes)
        return torch.addcmul(self.bias.view(shape), x, self.gain.view(shape)).to(x.dtype)


def folded(
    statistics: tuple[Tensor, Tensor], eps: float, gain: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Gain and bias of batch norm's map in eval mode, [C] each, given its running mean and variance."""
    mean, var = statistics
    scale = torch.rsqrt(at_least_float32(var) + eps)
    scale = scale if gain is None else scale * gain
    return scale.detach(), (-mean * scale if bias is None else bias - mean * scale).detach()


@dataclass(frozen=True)
class OldBatchNorm:
    """Lets a state dict with a batch norm be loaded where its map in eval mode has replaced it.

    names   of its gain, bias, running_mean and running_var → as the state dict has them
    eps     its own
    inner   where the map is below the module at the site
    """

    names: dict[str, str]
    eps: float
    inner: str = ""

    def __call__(self, module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        """Replace the entries of the site in place."""
        if f"{prefix}{self.names['running_mean']}" not in state:
            return
        old = {role: state.pop(f"{prefix}{name}", None) for role, name in self.names.items()}
        state.pop(f"{prefix}num_batches_tracked", None)
        both = folded((old["running_mean"], old["running_var"]), self.eps, old.get("gain"), old.get("bias"))
        for name, value in zip(("gain", "bias"), both, strict=True):
            state[f"{prefix}{self.inner}{name}"] = value


class OldNames:
    """Lets a state dict of the network before the swap be loaded afterwards, as if it had been loaded before.

    Args:
        names: of the site's old parameters and buffers → of the new ones; None: no longer there.
        fresh: new ones that the old norm had nothing for; they keep their values.
    """

    def __init__(self, names: dict[str, str | None], fresh: tuple[str, ...]) -> None:
        self.names = names
        self.fresh = fresh

    def __call__(self, module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        """Rename the entries of the site in place."""
        if any(f"{prefix}{new}" in state for old, new in self.names.items() if old != new):
            return  # a state dict from after the swap
        known = [old for old in self.names if f"{prefix}{old}" in state]
        for old in known:
            value, new = state.pop(f"{prefix}{old}"), self.names[old]
            if new is not None:
                state[f"{prefix}{new}"] = value.view(1) if value.ndim == 0 else value  # torch counts in a scalar
        if known or not self.names:
            own = module.state_dict()
            # what is there is from after the swap, where the old names are the same
            fresh = {f"{prefix}{name}": own[name] for name in self.fresh if name in own}
            state.update({key: value for key, value in fresh.items() if key not in state})
