"""A small convolutional network for images, plain or residual."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from normlab.config.schema import InputError, Sizes
from normlab.models.activation import activation as make_activation
from normlab.models.base import Model, Site
from normlab.norms.base import Norm, NormFactory
from normlab.norms.none import NoNorm
from normlab.norms.placed import Places
from normlab.weights.initial import initialise
from normlab.weights.parametrised import Weights, parametrise
from normlab.weights.scalars import Init, branch_parts, shrink_branch

_SUM = "it reads a sum of branches, not the output of one convolution"


class CNN(Model):
    """A 3×3 convolution, stages of blocks, mean over all positions, a linear output layer.

    For segmentation there is no mean: the output layer sees each position, and its logits are interpolated to the size
    of the image (bilinear; Long et al. 2015, arXiv:1411.4038, without their skips). `stem_stride=1` and fewer stages
    keep more detail.

    Stage i has width · 2^i channels; all but the first begin by halving the image. A block holds two 3×3
    convolutions, and with `residual` a shortcut around them: the identity, or a 1×1 convolution where the
    shape changes. Convolutions keep their bias under every norm, so that all norms share the same tensors.

    `post_conv` (He et al. 2016a, arXiv:1512.03385):
        y = norm₂(conv₂(act(norm₁(conv₁(x))))),  x ← act(y + shortcut(x))
    `pre_activation` (He et al. 2016b, arXiv:1603.05027):
        a = act(norm₁(x)),  y = conv₂(act(norm₂(conv₁(a)))),  x ← y + shortcut(x or a),
        and one more act(norm(x)) after the last block
    Without `residual` the shortcut term is left out. The norms are at `BCHW` sites, over whose axes each says what it
    takes its statistics: batch norm over B, H and W, layer norm over C, H and W.

    Args:
        norm: the norm of every convolution, at `BCHW` sites.
        sizes: of images.
        width: channels of the first stage.
        stages: number of stages, each of half the resolution and twice the channels of the one before.
        stem_stride: 2 lets the stem halve the image: a third of the computation for images of 28 × 28.
        depth: blocks of a stage; there are 2 · depth · stages + 1 convolutions on the main path.
        residual: shortcuts around the blocks.
        placement: norm after each convolution, or before it with the activation.
        zero_last_gain: the last norm of each residual block starts with gain 0, so the block starts as its shortcut
            (Goyal et al. 2017, arXiv:1706.02677); only after convolutions, and only norms that have a gain.
        activation: nonlinearity; `identity` for norms that have their own (frn, evo_b, evo_s).
        norm_at: other norms at some sites, see `Places`: `stem` (post_conv), of a block `norm1`, `norm2` and
            `shortcut`, `last` (pre_activation).
        weights: of the convolutions, see `normlab.weights.parametrised`.
        init: of the convolutions, see `Init`: he fits the activation; fixup and skipinit are for residual networks
            without norms, see `branch_parts`.

    Raises:
        InputError: there is no norm at the end of a branch whose gain could start at 0, or `init` does not fit the
        other options.
    """

    kinds: ClassVar[tuple[str, ...]] = ("images",)
    dense: ClassVar[bool] = True
    part: ClassVar[int | None] = 64
    layouts: ClassVar[tuple[str, ...]] = ("BCHW",)
    depth: ClassVar[tuple[str, ...]] = ("stages", "depth")
    roles: ClassVar[tuple[str, ...]] = ("stem", "norm1", "norm2", "shortcut", "last")
    normless: ClassVar[dict[str, tuple[str, ...]]] = {"init": ("fixup", "skipinit")}
    neutral: ClassVar[dict[str, Any]] = {"zero_last_gain": False, "norm_at": None, "weights": "plain", "init": "he"}

    def __init__(
        self,
        norm: NormFactory,
        sizes: Sizes,
        *,
        width: Annotated[int, Field(gt=0)] = 24,
        stem_stride: Literal[1, 2] = 2,
        stages: Annotated[int, Field(gt=0)] = 3,
        depth: Annotated[int, Field(gt=0)] = 1,
        residual: bool = True,
        placement: Literal["post_conv", "pre_activation"] = "post_conv",
        zero_last_gain: bool = False,
        activation: Literal["relu", "gelu", "silu", "tanh", "identity"] = "relu",
        norm_at: dict[str, NormFactory] | None = None,
        weights: Weights = "plain",
        init: Init = "he",
    ) -> None:
        super().__init__()
        if zero_last_gain and (placement != "post_conv" or not residual):
            raise InputError(
                "model.zero_last_gain=true needs a norm at the end of each residual branch: "
                "use model.placement=post_conv and model.residual=true"
            )
        self.placement = placement
        self.residual = residual
        self.per_pixel = sizes.dense
        places = Places(norm, norm_at)
        self.stem = nn.Conv2d(sizes.shape[0], width, 3, stem_stride, padding=1)
        make_block: Callable[..., nn.Module] = _PostConvBlock if placement == "post_conv" else _PreActivationBlock
        if zero_last_gain:
            make_block = partial(_PostConvBlock, last_gain=0.0)
        self.blocks = nn.ModuleList()
        channels = width
        for number in range(1, stages * depth + 1):
            stage, i = divmod(number - 1, depth)
            stride = 2 if stage > 0 and i == 0 else 1
            wide = width * 2**stage
            here = partial(_site, places, number)
            self.blocks.append(
                make_block(here, channels, wide, stride=stride, residual=residual, activation=activation, init=init)
            )
            channels = wide
        # post_conv normalises the stem's output, pre_activation that of the last block
        post = placement == "post_conv"
        self.norm = places("stem")(width, "BCHW") if post else places("last")(channels, "BCHW")
        places.check()
        self.activation = make_activation(activation)
        self.head = nn.Linear(channels, sizes.outputs)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                initialise(layer, activation)
        initialise(self.head)
        if init != "he":
            self._check_normless(init, weights)
        if init == "fixup":
            nn.init.zeros_(self.head.weight)
            for block in self.blocks:
                shrink_branch(block.get_submodule("conv1"), block.get_submodule("conv2"), len(self.blocks))
        parametrise([layer for layer in self.modules() if isinstance(layer, nn.Conv2d)], weights)

    def _check_normless(self, init: Init, weights: Weights) -> None:
        for norm in self.modules():
            if isinstance(norm, Norm) and not isinstance(norm, NoNorm):
                raise InputError(
                    f"model.init={init} is for networks without norms: use norm=none, or model.init=he with "
                    f"norm={norm.name}"
                )
        if not self.residual:
            raise InputError(f"model.init={init} is for residual branches: use model.residual=true")
        if init == "fixup" and (self.placement != "post_conv" or weights != "plain"):
            raise InputError(
                "model.init=fixup sets the last convolution of each branch to 0, and is for blocks that end in one: "
                "use model.placement=post_conv and model.weights=plain"
            )

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [B, outputs], or [B, outputs, H, W], for images [B, C, H, W], which have no padding for `mask`."""
        del mask
        x = self.stem(inputs)
        if self.placement == "post_conv":
            x = self.activation(self.norm(x))
        for block in self.blocks:
            x = block(x)
        if self.placement == "pre_activation":
            x = self.activation(self.norm(x))
        if self.per_pixel:
            each: Tensor = self.head(x.movedim(1, -1)).movedim(-1, 1)
            return F.interpolate(each, inputs.shape[2:], mode="bilinear", align_corners=False)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits

    def sites(self) -> list[Site]:
        """The sites; pre-activation norms after a shortcut's sum can't be folded."""
        post = self.placement == "post_conv"
        sites = [Site("norm", "stem")] if post else []
        previous = "stem"
        for i, block in enumerate(self.blocks):
            path = f"blocks.{i}"
            if post:
                sites += [Site(f"{path}.norm1", f"{path}.conv1"), Site(f"{path}.norm2", f"{path}.conv2")]
                if block.shortcut_norm is not None:
                    sites.append(Site(f"{path}.shortcut_norm", f"{path}.shortcut"))
            else:
                sites += [self._after(previous, f"{path}.norm1"), Site(f"{path}.norm2", f"{path}.conv1")]
            previous = f"{path}.conv2"
        return sites if post else [*sites, self._after(previous, "norm")]

    def hidden_layers(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.blocks)

    def _after(self, conv: str, norm: str) -> Site:
        """The site of a pre-activation norm; without shortcuts, only the convolution before it feeds it."""
        return Site(norm, None, _SUM) if self.residual else Site(norm, conv)


class _PostConvBlock(nn.Module):
    """y = norm₂(conv₂(act(norm₁(conv₁(x))))), then act(y + shortcut(x))."""

    def __init__(
        self,
        norm: Callable[[str], NormFactory],
        inner: int,
        outer: int,
        *,
        stride: int,
        residual: bool,
        activation: str,
        init: Init,
        last_gain: float | None = None,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, padding=1)
        self.norm1 = norm("norm1")(outer, "BCHW")
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1)
        self.norm2 = norm("norm2")(outer, "BCHW", gain_init=last_gain)
        if last_gain is not None:
            _check_last_gain(self.norm2)
        self.activation = make_activation(activation)
        project = residual and _reshapes(inner, outer, stride)
        self.shortcut = nn.Conv2d(inner, outer, 1, stride) if project else None
        self.shortcut_norm = norm("shortcut")(outer, "BCHW") if project else None
        self.shift1, self.shift2, self.scale = branch_parts(init)

    def forward(self, x: Tensor) -> Tensor:
        a = self.shift1(x)
        y = self.activation(self.norm1(self.conv1(a)))
        y = self.scale(self.norm2(self.conv2(self.shift2(y))))
        if self.shortcut is not None and self.shortcut_norm is not None:
            x = self.shortcut_norm(self.shortcut(a))
        out: Tensor = self.activation(y + x if self.residual else y)
        return out


class _PreActivationBlock(nn.Module):
    """a = act(norm₁(x)), y = conv₂(act(norm₂(conv₁(a)))), then y + x, or y + shortcut(a)."""

    def __init__(
        self,
        norm: Callable[[str], NormFactory],
        inner: int,
        outer: int,
        *,
        stride: int,
        residual: bool,
        activation: str,
        init: Init,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.norm1 = norm("norm1")(inner, "BCHW")
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, padding=1)
        self.norm2 = norm("norm2")(outer, "BCHW")
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1)
        self.activation = make_activation(activation)
        project = residual and _reshapes(inner, outer, stride)
        self.shortcut = nn.Conv2d(inner, outer, 1, stride) if project else None
        *_, self.scale = branch_parts(init)

    def forward(self, x: Tensor) -> Tensor:
        a = self.activation(self.norm1(x))
        y: Tensor = self.scale(self.conv2(self.activation(self.norm2(self.conv1(a)))))
        if self.shortcut is not None:
            x = self.shortcut(a)
        return y + x if self.residual else y


@torch.no_grad()
def _check_last_gain(norm: Norm) -> None:
    """Does an initial gain of 0 make the output 0?"""
    x = torch.linspace(-1, 1, 8 * norm.num_features).view(2, norm.num_features, 2, 2)
    if norm.eval()(x).any():
        raise InputError(
            "model.zero_last_gain=true needs a norm with a gain at the end of each residual branch, and "
            f"norm={norm.name} has none that makes its output 0: leave the option out, or use a norm such as layer"
        )
    norm.train()


def _site(places: Places, number: int, role: str) -> NormFactory:
    return places(f"layer{number}.{role}")


def _reshapes(inner: int, outer: int, stride: int) -> bool:
    return stride > 1 or inner != outer
