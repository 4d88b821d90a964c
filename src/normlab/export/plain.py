"""Norms that are left after folding."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from normlab.kernels import rows
from normlab.norms.eager import eager
from normlab.norms.moments import at_least_float32
from normlab.norms.rms import RMSNorm


class PlainNorm(nn.Module):
    """Layer norm, or RMS norm if `centred`, with whatever of gain and bias is left; for inference.

    Args:
        width: channels C.
        blocks: equal blocks of channels that are normalised separately.
        eps: added to the variance, or to the mean square.
        centred: the mean over the channels of a block is 0 already, so it is not subtracted.
        channels_first: of x: [B, C, …] instead of [..., C].
    """

    gain: nn.Parameter | None
    bias: nn.Parameter | None
    unit: Tensor

    def __init__(self, width: int, blocks: int, eps: float, *, centred: bool, channels_first: bool = False) -> None:
        super().__init__()
        self.width, self.blocks, self.eps = width, blocks, eps
        self.centred, self.channels_first = centred, channels_first
        self.register_parameter("gain", None)
        self.register_parameter("bias", None)
        self.register_buffer("unit", torch.ones(width // blocks), persistent=False)
        self.compiled = centred and rows.choose() == "compiled"

    def forward(self, x: Tensor, mask: Tensor | None = None, step: int | None = None) -> Tensor:
        """The norm of x, at padding too, which nothing reads: `mask` and `step` are ignored."""
        del mask, step
        if self.channels_first:
            return self._last(x.movedim(1, -1)).movedim(-1, 1)
        return self._last(x)

    def _last(self, x: Tensor) -> Tensor:
        if self.compiled and eager(x) and (self.gain is None or self.gain.dtype == x.dtype):
            return rows.rescale(x, self.gain, self.bias, self.blocks, self.eps)
        size = (self.width // self.blocks,)
        if not self.centred and self.blocks == 1:
            return functional.layer_norm(x, size, self.gain, self.bias, self.eps)
        split = x if self.blocks == 1 else x.unflatten(-1, (self.blocks, size[0]))
        gain = self.gain
        if self.centred:
            # always with a gain: without one, ONNX Runtime would make one at each call
            inside = self.unit if gain is None or self.blocks > 1 else gain
            y = functional.rms_norm(at_least_float32(split), size, inside.to(at_least_float32(split).dtype), self.eps)
            y = y.to(x.dtype)
            gain = gain if self.blocks > 1 else None
        else:
            y = functional.layer_norm(split, size, eps=self.eps)
        y = y if self.blocks == 1 else y.flatten(-2)
        y = y if gain is None else y * gain
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """What it computes, for `print(model)`."""
        return f"{self.width}, blocks={self.blocks}, eps={self.eps}, centred={self.centred}"

    @classmethod
    def of(cls, norm: RMSNorm) -> PlainNorm:
        """An RMS norm, at a site whose channels are the last axis, as this one."""
        made = cls(norm.num_features, norm.parts, norm.eps, centred=True)
        made.gain, made.bias = norm.gain, norm.bias  # type: ignore[assignment]
        made.unit = norm.gain.detach().new_ones(made.unit.shape)
        return made


class Folded(nn.Module):
    """Stands where a norm was that other layers now compute."""

    def forward(self, x: Tensor, mask: Tensor | None = None, step: int | None = None) -> Tensor:
        """x itself, at padding too, which nothing reads."""
        del mask, step
        return x
