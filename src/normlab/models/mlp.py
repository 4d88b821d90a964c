"""A multi-layer perceptron, for studies of depth."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from normlab.config.schema import InputError, Sizes
from normlab.models.activation import activation as make_activation
from normlab.models.base import Model, Site
from normlab.norms.base import NormFactory
from normlab.norms.placed import Places
from normlab.weights.initial import initialise
from normlab.weights.parametrised import Weights, parametrise


class MLP(Model):
    """Hidden layers x ← act(norm(W x + b)), then a linear output layer.

    With `residual`, every hidden layer but the first is x ← x + act(norm(W x + b)). Weights are drawn from
    N(0, gain² / fan_in) with the gain that fits the activation (He et al. 2015, arXiv:1502.01852; LeCun et
    al. 1998), so that without a norm a relu net keeps the size of its signals at any depth.

    Args:
        norm: the norm of every hidden layer, at `BC` sites.
        sizes: of images, of sequences of one length, which are flattened, or of a table.
        width: units of a hidden layer.
        depth: number of hidden layers.
        activation: nonlinearity of the hidden layers.
        residual: identity shortcut around each hidden layer but the first (He et al. 2016, arXiv:1512.03385).
        norm_at: other norms in some of the layers, see `Places`.
        weights: of the hidden layers, see `normlab.weights.parametrised`.
    """

    kinds: ClassVar[tuple[str, ...]] = ("images", "features", "table")
    layouts: ClassVar[tuple[str, ...]] = ("BC",)
    depth: ClassVar[tuple[str, ...]] = ("depth",)
    neutral: ClassVar[dict[str, Any]] = {"norm_at": None, "weights": "plain"}

    def __init__(
        self,
        norm: NormFactory,
        sizes: Sizes,
        *,
        width: Annotated[int, Field(gt=0)] = 128,
        depth: Annotated[int, Field(gt=0)] = 4,
        activation: Literal["relu", "gelu", "silu", "tanh", "sigmoid"] = "relu",
        residual: bool = False,
        norm_at: dict[str, NormFactory] | None = None,
        weights: Weights = "plain",
    ) -> None:
        super().__init__()
        self.shape = sizes.shape
        self.residual = residual
        widths = [math.prod(sizes.shape), *[width] * depth]
        linears = [nn.Linear(widths[i], widths[i + 1]) for i in range(depth)]
        self.linears = nn.ModuleList(linears)
        places = Places(norm, norm_at)
        self.norms = nn.ModuleList(places(f"layer{i}")(width, "BC") for i in range(1, depth + 1))
        places.check()
        self.ends = nn.ModuleList(
            nn.Identity() for _ in range(depth)
        )  # after each hidden layer, so that hooks can be attached
        self.activation = make_activation(activation)
        self.head = nn.Linear(width, sizes.outputs)
        for linear in linears:
            initialise(linear, activation)
        initialise(self.head)
        parametrise(linears, weights)

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [B, outputs] for inputs [B, *shape].

        Raises:
            InputError: an example has another shape than the model was built for.
        """
        if mask is not None or inputs.shape[1:] != self.shape:
            raise InputError(f"model=mlp needs examples of shape {self.shape}; model=lstm accepts any length")
        x = inputs.flatten(1)
        for i, (linear, norm, end) in enumerate(zip(self.linears, self.norms, self.ends, strict=True)):
            y = self.activation(norm(linear(x)))
            x = end(x + y if self.residual and i > 0 else y)
        logits: Tensor = self.head(x)
        return logits

    def hidden_layers(self) -> list[nn.Module]:
        """The outputs of the hidden layers, including shortcuts."""
        return list(self.ends)

    def sites(self) -> list[Site]:
        """The sites; every norm follows its linear layer."""
        return [Site(f"norms.{i}", f"linears.{i}") for i in range(len(self.linears))]
