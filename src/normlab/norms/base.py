"""The contract of a norm: how a model builds one, and what it can rely on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from normlab.config.schema import InputError

Layout = Literal["BC", "BCL", "BCHW", "BCDHW", "BTC"]
Epsilon = Annotated[float, Field(ge=1.2e-38)]  # float32, in which statistics are computed, has no smaller normal number


def axes_of(letters: str, layout: str) -> tuple[int, ...]:
    """The axes of a tensor of this layout that the letters name, counted from the end, so further ones may precede."""
    return tuple(layout.index(letter) - len(layout) for letter in letters)


def pooled_at(layout: str, axes: Mapping[str, str]) -> str:
    """The letters that a norm's `axes` give for a layout; signals and volumes are treated as images are."""
    images = layout[-1] != "C"
    return axes.get("BCHW", "").replace("HW", layout[2:]) if images else axes.get(layout, "")


class NormFactory(Protocol):
    """A norm with its options bound, from which a model builds the norm of each of its sites."""

    def __call__(
        self,
        num_features: int,
        layout: Layout,
        *,
        parts: int = 1,
        positions: int | None = None,
        bias: bool = True,
        gain_init: float | None = None,
    ) -> Norm:
        """A norm for one site; the arguments are those of `Norm`."""


class Norm(nn.Module, ABC):
    """A norm at one site: y = gain · x̂ + bias, where the subclass defines x̂.

    Layouts. `BC`: x [B, C]. `BCHW`: x [B, C, H, W]. `BTC`: x [B, T, C]. A site inside a recurrence is `BC`
    with `positions`: it sees one step, x [B, C] and its time index `step`, or all steps at once, x [B, T, C].
    Signals, `BCL`: x [B, C, L], and volumes, `BCDHW`: x [B, C, D, H, W], are treated as images are: what a norm says of
    H and W holds for L and for D, H and W. Any [B, …, C] can be flattened to `BTC`.

    Mask. Bool, x's shape without channels, true where real. Statistics never see padding, and padded outputs
    are 0, as long as padding is finite. Without a mask everything is real.

    A subclass states `axes`, its own options as keyword-only parameters, and `normalise`; the site's parameters pass
    through it to this constructor, where alone they are written down:

        def __init__(self, *site: Any, eps: float = 1e-5, **named: Any) -> None:
            super().__init__(*site, **named)

    A subclass of another norm that changes only `normalise` needs no constructor: it has that norm's options.

    A norm is built without drawing a random number, so norms leave a model's other initial values alone.
    Statistics are computed in float32 at least; y has x's dtype. Under `torch.func.vmap` parameters and
    buffers are stacked over seeds.

    Args:
        num_features: channels C.
        layout: shape of the site.
        parts: number of equal blocks of channels; norms that look at one example at a time treat each alone
            (LSTM gates, attention heads), norms per channel ignore it.
        positions: longest sequence, in time steps, at recurrent and `BTC` sites.
        bias: whether the norm adds a learnt bias.
        gain_init: initial gain; None is the norm's own default.

    Raises:
        InputError: the norm is not valid at this site.
    """

    # Plain literals: an option check reads them from the source, without importing torch.
    layouts: tuple[str, ...] = ("BC", "BCL", "BCHW", "BCDHW", "BTC")  # layouts at which the norm is valid
    # layout → the axes over which one set of statistics is taken, in letters of the layout; absent: no statistics.
    # `BCHW` stands for `BCL` and `BCDHW` too.
    axes: ClassVar[dict[str, str]] = {}
    causal = True  # valid at a `BTC` site whose positions must not see later ones
    counted: tuple[str, ...] = ()  # options in training steps, of which a run must do at least so many
    nearest = "layer"  # the norm to suggest where this one is refused
    in_loss = False  # whether it adds to the loss, in training, and appends a scalar to `terms` in each forward pass

    kernel: str | None = None  # `compiled` or `plain`, where the norm has a compiled kernel of ours at this site

    terms: list[Tensor] | None = None  # of `in_loss`: a list only while a task collects them

    gain: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        num_features: int,
        layout: Layout,
        parts: int = 1,
        positions: int | None = None,
        bias: bool = True,
        gain_init: float | None = None,
    ) -> None:
        super().__init__()
        if layout not in self.layouts:
            raise InputError(
                f"norm={self.name} is not valid at a {layout} site, only at {', '.join(self.layouts)}; "
                f"use norm={self.nearest}"
            )
        if num_features % parts:
            raise InputError(f"{num_features} channels can't be split into {parts} equal parts")
        self.num_features = num_features
        self.layout = layout
        self.parts = parts
        self.positions = positions
        self.gain_init = gain_init
        initial = torch.full((num_features,), 1.0 if gain_init is None else float(gain_init))
        self.register_parameter("gain", nn.Parameter(initial))
        self.register_parameter("bias", nn.Parameter(torch.zeros(num_features)) if bias else None)

    @property
    def name(self) -> str:
        """The name in a config, which is its module's: each norm has its own file."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def weight(self) -> Tensor | None:
        """The gain by PyTorch's name, for networks that read it, or its dtype, of their norms."""
        return self.gain

    @property
    def pooled(self) -> str:
        """The axes over which one set of statistics is taken here, in letters of the layout; empty: no statistics."""
        return pooled_at(self.layout, self.axes)

    @property
    def channels_first(self) -> bool:
        """Whether positions follow the channels, as in images."""
        return self.layout[-1] != "C"

    @property
    def couples_examples(self) -> bool:
        """Whether, in training, an output depends on other examples of the batch."""
        return "B" in self.pooled

    @property
    def couples_positions(self) -> bool:
        """Whether, in training, an output depends on other time positions of its sequence."""
        return "T" in self.pooled

    @property
    def pooled_channels(self) -> int:
        """Channels that share a set of statistics if `pooled` has C: those of one of `parts` blocks."""
        return self.num_features // self.parts

    def values_per_statistic(self, lengths: Mapping[str, int]) -> int | None:
        """How many values one set of statistics pools in training; None: the norm has no statistics.

        With a single value, a norm's output does not depend on its input, so a model is refused if this is 1.

        Args:
            lengths: of the input's axes other than C, such as `{"B": 64, "H": 7, "W": 7}`; one that is absent counts 1.
        """
        known = {**lengths, "C": self.pooled_channels}
        return math.prod(known.get(axis, 1) for axis in self.pooled) if self.pooled else None

    def eval_affine(self, step: int | None = None) -> tuple[Tensor, Tensor] | None:
        """Scale and shift, [C] each, if the norm is a fixed affine map per channel in eval mode; otherwise None.

        `step` is the time index at a site that keeps one set of statistics per position.
        """
        del step
        return None

    def forward(self, x: Tensor, mask: Tensor | None = None, step: int | None = None) -> Tensor:
        """Normalise x; see the class for shapes."""
        y = self.normalise(x, mask, step)
        if mask is not None:
            y = y * mask.unsqueeze(self._channel_axis).to(y.dtype)  # torch.where costs six times as much
        return y if y.dtype == x.dtype else y.to(x.dtype)

    @abstractmethod
    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """x̂ for the real entries of x; padded ones may become anything finite."""

    def split(self, x: Tensor, mask: Tensor | None, blocks: int) -> tuple[Tensor, Tensor | None]:
        """x with its channels in equal blocks, [..., blocks, C/blocks, ...], and a mask of matching shape."""
        axis = self._channel_axis
        parted = x.unflatten(axis, (blocks, -1))
        if mask is None:
            return parted, None
        return parted, mask.unsqueeze(axis).unsqueeze(axis)

    @property
    def block_axes(self) -> tuple[int, ...]:
        """The axes over which statistics are taken, of x as `split` returns it."""
        return axes_of(self.pooled, self.layout.replace("C", "GC"))

    def scale_and_shift(self, x: Tensor) -> Tensor:
        """gain · x + bias, along x's channels."""
        if self.gain is None:
            return x
        if self.bias is None:
            return x * self._along_channels(self.gain)
        return torch.addcmul(self._along_channels(self.bias), x, self._along_channels(self.gain))

    def axes_within_blocks(self, letters: str) -> tuple[int, ...]:
        """The axes that letters of the layout name, of x as `split` returns it."""
        return axes_of(letters, self.layout.replace("C", "GC"))

    def extra_repr(self) -> str:
        """The site, for `print(model)`."""
        site = {"parts": self.parts, "positions": self.positions, "bias": self.bias is not None}
        return ", ".join([f"{self.num_features}, {self.layout}", *(f"{k}={v}" for k, v in site.items())])

    @property
    def _channel_axis(self) -> int:
        return 1 if self.channels_first else -1

    def _along_channels(self, values: Tensor) -> Tensor:
        return values[(slice(None), *[None] * (len(self.layout) - 2))] if self.channels_first else values
