"""An LSTM with the norm inside the cell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from normlab.config.schema import InputError, Sizes
from normlab.kernels.arguments import Sequences, Weights
from normlab.models import fused
from normlab.models.activation import initialise
from normlab.models.base import Model
from normlab.models.padding import last_real, masked_mean, reverse
from normlab.norms.base import Norm, NormFactory

GATES = 4  # in this order: forget, input, output, candidate


class LSTM(Model):
    """Embedding or raw features, recurrent layers, a linear output layer.

    A cell with norms N (Ba et al. 2016, arXiv:1607.06450, eq. 20-22; Cooijmans et al. 2017, arXiv:1603.09025):

        (f, i, o, g) = N_h(W_h h) + N_x(W_x x) + b
        c ← σ(f) c + σ(i) tanh(g)
        h ← σ(o) tanh(N_c(c))

    N_h and N_x have a gain but no bias of their own, since b already is one; c itself is never normalised.
    A norm that pools over examples keeps its statistics for each time step.

    Padding is at the end of a sequence, where the state does not change. Weights on the input are drawn
    Glorot-uniform for each gate; biases are 0, except 1 in the forget gate (Jozefowicz et al. 2015).

    Args:
        norm: at recurrent sites (`BC` with positions).
        sizes: of features [B, T, F] or tokens [B, T].
        width: hidden units H of a layer and direction.
        layers: recurrent layers.
        bidirectional: a second cell per layer reads each sequence from its last real step to its first.
        placement: `inside` as above; `input` has only N_x (Laurent et al. 2016, arXiv:1510.01378);
            `between` has a plain cell, and a norm on each layer's output.
        gates: example-wise norms see all 4H gate inputs as one vector (`joint`), or each gate's H alone.
        cell_norm: N_c; without it h ← σ(o) tanh(c). Only for placement=inside.
        recurrent_init: of W_h for each gate: `orthogonal` (Saxe et al. 2014); `identity` for the candidate
            and orthogonal for the rest (Cooijmans's released code); `uniform` in ±1/√H (torch.nn.LSTM).
        pooling: classify from the `last` real state of each direction, or the `mean` over real steps.
        embedding: size of a token's vector.
        dropout: share of each layer's outputs set to 0 in training.
        state_noise: standard deviation of the initial h in training. Batch norm needs some if all examples
        start alike, because their variance is 0 there (Cooijmans's released code: 0.1).
        kernel: of the recurrence: `fused` is compiled for this CPU or GPU, `plain` is the tensor code below, and
            equal up to rounding; `auto` uses the fused one if it supports the norm, but on a GPU the plain one.

    Raises:
        InputError: a bidirectional model would see later positions in language modelling, or kernel=fused doesn't
        support the norm.
    """

    kinds: ClassVar[tuple[str, ...]] = ("features", "tokens")
    layouts: ClassVar[tuple[str, ...]] = ("BC",)
    depth: ClassVar[tuple[str, ...]] = ("layers",)
    recurrent: ClassVar[bool] = True
    obstacle: ClassVar[str] = "a recurrent site sees padding, and may keep statistics for each time step"

    def __init__(
        self,
        norm: NormFactory,
        sizes: Sizes,
        *,
        width: Annotated[int, Field(gt=0)] = 256,
        layers: Annotated[int, Field(gt=0)] = 1,
        bidirectional: bool = False,
        placement: Literal["inside", "input", "between"] = "inside",
        gates: Literal["joint", "separate"] = "joint",
        cell_norm: bool = True,
        recurrent_init: Literal["orthogonal", "identity", "uniform"] = "orthogonal",
        pooling: Literal["last", "mean"] = "last",
        embedding: Annotated[int, Field(gt=0)] = 64,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        state_noise: Annotated[float, Field(ge=0)] = 0.0,
        kernel: Literal["auto", "plain", "fused"] = "auto",
    ) -> None:
        super().__init__()
        if sizes.causal and bidirectional:
            raise InputError(
                "model.bidirectional=true reads later positions, which language modelling must not see; "
                "set model.bidirectional=false"
            )
        self.causal = sizes.causal
        self.bidirectional = bidirectional
        self.pooling = pooling
        self.embedding = nn.Embedding(sizes.vocabulary, embedding) if sizes.vocabulary else None
        self.layers = nn.ModuleList()
        self.between = nn.ModuleList()
        features = embedding if sizes.vocabulary else sizes.shape[-1]
        for _ in range(layers):
            directions = [
                LSTMCell(
                    norm,
                    features,
                    width,
                    positions=sizes.positions,
                    placement=placement,
                    gates=gates,
                    cell_norm=cell_norm,
                    recurrent_init=recurrent_init,
                    state_noise=state_noise,
                    kernel=kernel,
                )
                for _ in range(2 if bidirectional else 1)
            ]
            self.layers.append(LSTMLayer(*directions))
            features = width * len(directions)
            if placement == "between":
                # gain 1, because a norm's smaller gain at recurrent sites is for values that pass through many steps
                self.between.append(norm(features, "BC", positions=sizes.positions, gain_init=1.0))
        self.dropout = nn.Dropout(dropout)
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

    @property
    def kernel(self) -> str:
        """The kernel that its cells use, `plain` or `fused`."""
        return self._cells()[0].kernel

    def facts(self) -> dict[str, Any]:
        """The kernel of the recurrence."""
        return {"kernel": self.kernel}

    def hidden_layers(self) -> list[nn.Module]:
        """The recurrent layers; each returns its hidden state after each step."""
        return list(self.layers)

    @contextmanager
    def unfused(self) -> Iterator[None]:
        """Let all cells use the plain kernel, because the fused one calls no norm."""
        kernels = {cell: cell.kernel for cell in self._cells()}
        try:
            for cell in kernels:
                cell.kernel = "plain"
            yield
        finally:
            for cell, kernel in kernels.items():
                cell.kernel = kernel

    def _cells(self) -> list[LSTMCell]:
        return [module for module in self.modules() if isinstance(module, LSTMCell)]


class LSTMLayer(nn.Module):
    """One cell, or two that read in opposite directions, whose outputs are concatenated."""

    def __init__(self, forwards: LSTMCell, backwards: LSTMCell | None = None) -> None:
        super().__init__()
        self.forwards = forwards
        self.backwards = backwards

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x [B, T, features] → [B, T, H], or [B, T, 2H] for two directions."""
        y: Tensor = self.forwards(x, mask)
        if self.backwards is None:
            return y
        return torch.cat([y, reverse(self.backwards(reverse(x, mask), mask), mask)], -1)


class LSTMCell(nn.Module):
    """One direction of one layer: the recurrence of `LSTM`, over all steps of a batch.

    This is plain tensor code; `kernels/` has the fused version, which is tested against it.

    Args:
        features: size of an input vector.
        positions: time steps for which norms with statistics per step keep them.
        The others are those of `LSTM`.

    Attributes:
        kernel: `plain` or `fused`.
    """

    def __init__(
        self,
        norm: NormFactory,
        features: int,
        width: int,
        *,
        positions: int | None,
        placement: str = "inside",
        gates: str = "joint",
        cell_norm: bool = True,
        recurrent_init: str = "orthogonal",
        state_noise: float = 0.0,
        kernel: Literal["auto", "plain", "fused"] = "plain",
    ) -> None:
        super().__init__()
        self.width = width
        self.state_noise = state_noise
        self.weight_x = nn.Parameter(torch.empty(GATES * width, features))
        self.weight_h = nn.Parameter(torch.empty(GATES * width, width))
        self.bias = nn.Parameter(torch.zeros(GATES * width))
        self._initialise(recurrent_init)

        def gate_norm() -> Norm:
            parts = GATES if gates == "separate" else 1
            return norm(GATES * width, "BC", parts=parts, positions=positions, bias=False)

        inside = placement == "inside"
        self.norm_x: Norm | None = gate_norm() if inside or placement == "input" else None
        self.norm_h: Norm | None = gate_norm() if inside else None
        self.norm_c: Norm | None = norm(width, "BC", positions=positions) if inside and cell_norm else None
        self.forced = kernel == "fused"
        self.kernel = fused.choose(kernel, self._norms())

    def _norms(self) -> fused.Norms:
        return self.norm_x, self.norm_h, self.norm_c

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The hidden state after each step, [B, T, H], for x [B, T, features] and mask [B, T]."""
        norms = self._norms()
        if self.kernel == "fused" and (self.forced or fused.serves(x)) and not fused.collecting(norms):
            weights = Weights(self.weight_x, self.weight_h, self.bias)
            return fused.run(Sequences(x, *self._begin(x), mask), weights, norms)
        inputs = F.linear(x, self.weight_x)
        if self.norm_x is not None:
            inputs = self.norm_x(inputs, mask)
        inputs = inputs + self.bias
        # unbinding once costs one gather in the backward pass; indexing would cost one per step
        steps = inputs.transpose(0, 1).unbind(0)
        real = None if mask is None else mask.unbind(1)
        h, c = self._begin(x)
        outputs = []
        for t, gates in enumerate(steps):
            here = None if real is None else real[t]
            new_h, new_c = self._step(gates, h, c, here, t)
            if here is None:
                h, c = new_h, new_c
            else:
                h, c = torch.where(here[:, None], new_h, h), torch.where(here[:, None], new_c, c)
            outputs.append(h)
        return torch.stack(outputs, 1)

    def _step(self, gates: Tensor, h: Tensor, c: Tensor, real: Tensor | None, t: int) -> tuple[Tensor, Tensor]:
        recurrent = F.linear(h, self.weight_h)
        if self.norm_h is not None:
            recurrent = self.norm_h(recurrent, real, t)
        opening, candidate = (gates + recurrent).split([3 * self.width, self.width], -1)
        f, i, o = opening.sigmoid().chunk(3, -1)
        c = f * c + i * candidate.tanh()
        output = c if self.norm_c is None else self.norm_c(c, real, t)
        return o * output.tanh(), c

    def _begin(self, x: Tensor) -> tuple[Tensor, Tensor]:
        zeros = x.new_zeros(x.shape[0], self.width)
        if self.training and self.state_noise > 0:
            return self.state_noise * torch.randn_like(zeros), zeros
        return zeros, zeros

    @torch.no_grad()
    def _initialise(self, recurrent_init: str) -> None:
        nn.init.ones_(self.bias[: self.width])  # forget gate
        for weight_x, weight_h in zip(self.weight_x.chunk(GATES), self.weight_h.chunk(GATES), strict=True):
            nn.init.xavier_uniform_(weight_x)
            if recurrent_init == "uniform":
                bound = self.width**-0.5
                nn.init.uniform_(weight_h, -bound, bound)
            else:
                nn.init.orthogonal_(weight_h)
        if recurrent_init == "identity":
            nn.init.eye_(self.weight_h.chunk(GATES)[-1])
