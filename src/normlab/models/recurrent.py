"""What recurrent networks share: all but the cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from normlab.config.schema import InputError, Sizes
from normlab.models.base import Model
from normlab.models.padding import last_real, masked_mean, reverse
from normlab.norms.base import Norm
from normlab.weights.initial import initialise


class Shape(NamedTuple):
    """The options of a recurrent network that its cells don't know; see `normlab.models.lstm.LSTM`."""

    width: int
    layers: int
    bidirectional: bool
    pooling: str
    embedding: int
    dropout: float


class Recurrent(Model):
    """Embedding or raw features, recurrent layers, a linear output layer.

    Args:
        sizes: of features [B, T, F] or tokens [B, T].
        shape: of the network.
        cell: layer (from 1), size of its inputs → a cell for one direction, a module x [B, T, features], mask [B, T] →
            hidden states [B, T, H].
        output: layer, size of its outputs → the norm of these; None: there are none.

    Raises:
        InputError: a bidirectional model would see later positions in language modelling.
    """

    kinds: ClassVar[tuple[str, ...]] = ("features", "tokens")
    layouts: ClassVar[tuple[str, ...]] = ("BC",)
    depth: ClassVar[tuple[str, ...]] = ("layers",)
    recurrent: ClassVar[bool] = True
    obstacle: ClassVar[str] = "a recurrent site sees padding, and may keep statistics for each time step"

    part: ClassVar[int | None] = 128

    def __init__(
        self,
        sizes: Sizes,
        shape: Shape,
        cell: Callable[[int, int], nn.Module],
        output: Callable[[int, int], Norm] | None,
    ) -> None:
        super().__init__()
        if sizes.causal and shape.bidirectional:
            raise InputError(
                "model.bidirectional=true reads later positions, which language modelling must not see; "
                "set model.bidirectional=false"
            )
        self.causal = sizes.causal
        self.bidirectional = shape.bidirectional
        self.pooling = shape.pooling
        self.embedding = nn.Embedding(sizes.vocabulary, shape.embedding) if sizes.vocabulary else None
        self.layers = nn.ModuleList()
        self.between = nn.ModuleList()
        features = shape.embedding if sizes.vocabulary else sizes.shape[-1]
        for number in range(1, shape.layers + 1):
            directions = [cell(number, features) for _ in range(2 if shape.bidirectional else 1)]
            self.layers.append(RecurrentLayer(*directions))
            features = shape.width * len(directions)
            if output is not None:
                self.between.append(output(number, features))
        self.dropout = nn.Dropout(shape.dropout)
        self.head = nn.Linear(features, sizes.outputs)
        initialise(self.head)

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [B, outputs], or [B, T, outputs] in language modelling.

        Args:
            inputs: float [B, T, F] or int64 [B, T].
            mask: bool [B, T], true where real, a sequence's real steps first; None: all real.
        """
        x = inputs if self.embedding is None else self.embedding(inputs)
        for i, layer in enumerate(self.layers):
            x = layer(x, mask)
            if self.between:
                x = self.between[i](x, mask)
            x = self.dropout(x)
        logits: Tensor = self.head(x if self.causal else self._pool(x, mask))
        return logits

    def _pool(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """[B, T, D] → [B, D]: the input of the classification layer."""
        if self.pooling == "mean":
            return masked_mean(x, mask)
        last = last_real(x, mask)
        if not self.bidirectional:
            return last
        forwards, _ = last.chunk(2, -1)
        _, backwards = x[:, 0].chunk(2, -1)
        return torch.cat([forwards, backwards], -1)

    def hidden_layers(self) -> list[nn.Module]:
        """The recurrent layers; each returns its hidden state after each step."""
        return list(self.layers)


class RecurrentLayer(nn.Module):
    """One cell, or two that read in opposite directions, whose outputs are concatenated."""

    def __init__(self, forwards: nn.Module, backwards: nn.Module | None = None) -> None:
        super().__init__()
        self.forwards = forwards
        self.backwards = backwards

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x [B, T, features] → [B, T, H], or [B, T, 2H] for two directions."""
        y: Tensor = self.forwards(x, mask)
        if self.backwards is None:
            return y
        return torch.cat([y, reverse(self.backwards(reverse(x, mask), mask), mask)], -1)


@torch.no_grad()
def draw(weight_x: Tensor, weight_h: Tensor, gates: int, recurrent_init: str) -> None:
    """Initial weights of a cell, for each of its gates, the candidate last: Glorot-uniform for the input, and for W_h:

    `orthogonal` (Saxe et al. 2014); `identity` for the candidate and orthogonal for the rest (Cooijmans's released
    code); `uniform` in ±1/√H (torch.nn.LSTM).
    """
    for of_x, of_h in zip(weight_x.chunk(gates), weight_h.chunk(gates), strict=True):
        nn.init.xavier_uniform_(of_x)
        if recurrent_init == "uniform":
            bound = of_h.shape[1] ** -0.5
            nn.init.uniform_(of_h, -bound, bound)
        else:
            nn.init.orthogonal_(of_h)
    if recurrent_init == "identity":
        nn.init.eye_(weight_h.chunk(gates)[-1])


def starting_state(x: Tensor, width: int, noise: float) -> Tensor:
    """h before the first step, [B, H]: 0, plus noise of that standard deviation."""
    zeros = x.new_zeros(x.shape[0], width)
    return noise * torch.randn_like(zeros) if noise > 0 else zeros
