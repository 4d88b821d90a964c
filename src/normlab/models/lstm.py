"""An LSTM with the norm inside the cell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from normlab.config.schema import Sizes
from normlab.fused import cell as fused
from normlab.kernels.arguments import Sequences, Weights
from normlab.models.recurrent import Recurrent, Shape, draw, starting_state
from normlab.norms.base import Norm, NormFactory
from normlab.norms.placed import Places
from normlab.weights.parametrised import parametrise

GATES = 4  # in this order: forget, input, output, candidate


class LSTM(Recurrent):
    """Embedding or raw features, recurrent layers, a linear output layer.

    A cell with norms N (Ba et al. 2016, arXiv:1607.06450, eq. 20-22; Cooijmans et al. 2017, arXiv:1603.09025):

        (f, i, o, g) = N_h(W_h h) + N_x(W_x x) + b
        c ← σ(f) c + σ(i) tanh(g)
        h ← σ(o) tanh(N_c(c))

    N_h and N_x have a gain but no bias of their own, since b already is one; c itself is never normalised. Statistics
    are those of a `BC` site at each time step: example-wise norms over the 4H gate inputs of N_h and N_x and the H
    channels of N_c, norms that pool examples over B, with a set for each time step.

    Padding is at the end of a sequence, where the state does not change. Weights on the input are drawn
    Glorot-uniform for each gate; biases are 0, except 1 in the forget gate (Jozefowicz et al. 2015).

    Args:
        norm: at recurrent sites (`BC` with positions).
        sizes: of features [B, T, F] or tokens [B, T].
        width: hidden units H of a layer and direction.
        layers: recurrent layers.
        bidirectional: a second cell per layer reads each sequence from its last real step to its first.
        placement: `inside` as above; `input` has only N_x: (f, i, o, g) = W_h h + N_x(W_x x) + b (Laurent et al. 2016,
            arXiv:1510.01378); `between` has a plain cell, and the next layer reads N(h).
        gates: example-wise norms see all 4H gate inputs as one vector (`joint`), or each gate's H alone.
        cell_norm: N_c; without it h ← σ(o) tanh(c). Only for placement=inside.
        recurrent_init: of W_h for each gate: `orthogonal` (Saxe et al. 2014, arXiv:1312.6120); `identity` for the
            candidate and orthogonal for the rest (Cooijmans's released code); `uniform` in ±1/√H (torch.nn.LSTM).
        pooling: classify from the `last` real state of each direction, or the `mean` over real steps.
        embedding: size of a token's vector.
        dropout: share of each layer's outputs set to 0 in training.
        state_noise: standard deviation of the initial h in training. Batch norm needs some if all examples
        start alike, because their variance is 0 there (Cooijmans's released code: 0.1).
        kernel: of the recurrence: `fused` is compiled for this CPU or GPU, `plain` is the tensor code below, and
            equal up to rounding; `auto` uses the fused one if it supports the norm, but on a GPU the plain one.
        norm_at: other norms at some sites, see `Places`: `gates` (N_h and N_x), `cell` (N_c), `output` (of a layer).
        weights: `weight_norm` splits W_x and W_h into lengths and directions (Salimans and Kingma 2016,
            arXiv:1602.07868).

    Raises:
        InputError: a bidirectional model would see later positions in language modelling, or kernel=fused doesn't
        support the norm.
    """

    roles: ClassVar[tuple[str, ...]] = ("gates", "cell", "output")
    neutral: ClassVar[dict[str, Any]] = {"norm_at": None, "weights": "plain"}

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
        norm_at: dict[str, NormFactory] | None = None,
        weights: Literal["plain", "weight_norm"] = "plain",
    ) -> None:
        places = Places(norm, norm_at)

        def cell(layer: int, features: int) -> LSTMCell:
            return LSTMCell(
                places(f"layer{layer}.gates") if placement != "between" else norm,
                features,
                width,
                positions=sizes.positions,
                placement=placement,
                gates=gates,
                cell_norm=cell_norm,
                recurrent_init=recurrent_init,
                state_noise=state_noise,
                kernel=kernel,
                norm_c=places(f"layer{layer}.cell") if placement == "inside" and cell_norm else None,
            )

        def output(layer: int, features: int) -> Norm:
            # gain 1, because a norm's smaller gain at recurrent sites is for values that pass through many steps
            return places(f"layer{layer}.output")(features, "BC", positions=sizes.positions, gain_init=1.0)

        shape = Shape(width, layers, bidirectional, pooling, embedding, dropout=dropout)
        super().__init__(sizes, shape, cell, output if placement == "between" else None)
        places.check()
        parametrise(self._cells(), weights, ("weight_x", "weight_h"))

    @property
    def kernel(self) -> str:
        """The kernel that its cells use, `plain` or `fused`."""
        return self._cells()[0].kernel

    def facts(self) -> dict[str, Any]:
        """The kernel of the recurrence."""
        return {"kernel": self.kernel}

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


class LSTMCell(nn.Module):
    """One direction of one layer: the recurrence of `LSTM`, over all steps of a batch.

    This is plain tensor code; `kernels/` has the fused version, which is tested against it.

    Args:
        features: size of an input vector.
        positions: time steps for which norms with statistics per step keep them.
        norm_c: of the cell's state; None: `norm`.
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
        norm_c: NormFactory | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        self.state_noise = state_noise
        self.weight_x = nn.Parameter(torch.empty(GATES * width, features))
        self.weight_h = nn.Parameter(torch.empty(GATES * width, width))
        self.bias = nn.Parameter(torch.zeros(GATES * width))
        with torch.no_grad():
            nn.init.ones_(self.bias[:width])  # forget gate
        draw(self.weight_x, self.weight_h, GATES, recurrent_init)

        def gate_norm() -> Norm:
            parts = GATES if gates == "separate" else 1
            return norm(GATES * width, "BC", parts=parts, positions=positions, bias=False)

        inside = placement == "inside"
        self.norm_x: Norm | None = gate_norm() if inside or placement == "input" else None
        self.norm_h: Norm | None = gate_norm() if inside else None
        has_c = inside and cell_norm
        self.norm_c: Norm | None = (norm_c or norm)(width, "BC", positions=positions) if has_c else None
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
        weight_h = self.weight_h  # once, not at each step: it may be a function of other parameters
        outputs = []
        for t, gates in enumerate(steps):
            here = None if real is None else real[t]
            new_h, new_c = self._step(gates + self._recurrent(h, weight_h, here, t), c, here, t)
            if here is None:
                h, c = new_h, new_c
            else:
                h, c = torch.where(here[:, None], new_h, h), torch.where(here[:, None], new_c, c)
            outputs.append(h)
        return torch.stack(outputs, 1)

    def _recurrent(self, h: Tensor, weight_h: Tensor, real: Tensor | None, t: int) -> Tensor:
        recurrent = F.linear(h, weight_h)
        return recurrent if self.norm_h is None else self.norm_h(recurrent, real, t)

    def _step(self, gates: Tensor, c: Tensor, real: Tensor | None, t: int) -> tuple[Tensor, Tensor]:
        opening, candidate = gates.split([3 * self.width, self.width], -1)
        f, i, o = opening.sigmoid().chunk(3, -1)
        c = f * c + i * candidate.tanh()
        output = c if self.norm_c is None else self.norm_c(c, real, t)
        return o * output.tanh(), c

    def _begin(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = starting_state(x, self.width, self.state_noise if self.training else 0.0)
        return h, torch.zeros_like(h)
