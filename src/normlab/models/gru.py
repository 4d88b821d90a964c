"""A GRU with the norm inside the cell."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from normlab.config.schema import Sizes
from normlab.models.recurrent import Recurrent, Shape, draw, starting_state
from normlab.norms.base import Norm, NormFactory
from normlab.norms.placed import Places
from normlab.weights.parametrised import parametrise

GATES = 3  # in this order, which is torch.nn.GRU's: reset, update, candidate


class GRU(Recurrent):
    """Embedding or raw features, recurrent layers, a linear output layer.

    A cell (Cho et al. 2014, arXiv:1406.1078), in the variant of cuDNN and torch.nn.GRU that applies the reset gate
    after the product with W_h, with norms N where Ba et al. 2016, arXiv:1607.06450, have them in the GRU of their
    supplement and in their released code:

        (r, z) = N_h(W_h h) + N_x(W_x x) + b
        n = tanh(M_x(U_x x) + b_n + σ(r) (M_h(U_h h) + b_m))
        h ← (1 - σ(z)) n + σ(z) h

    Each norm has a gain but no bias of its own, since b, b_n and b_m already are; h itself is never normalised.
    Statistics are those of a `BC` site at each time step: example-wise norms over the 2H gate inputs of N_h and N_x and
    the H channels of M_h and M_x, norms that pool examples over B, with a set for each time step.

    Padding is at the end of a sequence, where the state does not change. Weights on the input are drawn
    Glorot-uniform for each gate; biases are 0.

    Args:
        norm: at recurrent sites (`BC` with positions).
        sizes: of features [B, T, F] or tokens [B, T].
        width: hidden units H of a layer and direction.
        layers: recurrent layers.
        bidirectional: a second cell per layer reads each sequence from its last real step to its first.
        placement: `inside` as above; `input` has only N_x and M_x (as Laurent et al. 2016, arXiv:1510.01378);
            `between` has a plain cell, and the next layer reads N(h).
        gates: example-wise norms see both gates' inputs as one vector (`joint`, as in the paper), or each alone.
        recurrent_init: of W_h and U_h for each gate, as in the LSTM.
        pooling: classify from the `last` real state of each direction, or the `mean` over real steps.
        embedding: size of a token's vector.
        dropout: share of each layer's outputs set to 0 in training.
        state_noise: standard deviation of the initial h in training, as in the LSTM.
        norm_at: other norms at some sites, see `Places`: `gates` (N_h and N_x), `candidate` (M_h and M_x), `output`
            (of a layer).
        weights: `weight_norm` splits the weights into lengths and directions (Salimans and Kingma 2016,
            arXiv:1602.07868).

    Raises:
        InputError: a bidirectional model would see later positions in language modelling.
    """

    roles: ClassVar[tuple[str, ...]] = ("gates", "candidate", "output")

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
        recurrent_init: Literal["orthogonal", "identity", "uniform"] = "orthogonal",
        pooling: Literal["last", "mean"] = "last",
        embedding: Annotated[int, Field(gt=0)] = 64,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        state_noise: Annotated[float, Field(ge=0)] = 0.0,
        norm_at: dict[str, NormFactory] | None = None,
        weights: Literal["plain", "weight_norm"] = "plain",
    ) -> None:
        places = Places(norm, norm_at)

        def cell(layer: int, features: int) -> GRUCell:
            made = GRUCell(features, width, recurrent_init=recurrent_init, state_noise=state_noise)
            if placement != "between":
                of_gates, of_candidate = places(f"layer{layer}.gates"), places(f"layer{layer}.candidate")
                parts, inside = 2 if gates == "separate" else 1, placement == "inside"

                def pair(present: bool) -> nn.ModuleList | None:
                    if not present:
                        return None
                    return nn.ModuleList(
                        [
                            of_gates(2 * width, "BC", parts=parts, positions=sizes.positions, bias=False),
                            of_candidate(width, "BC", positions=sizes.positions, bias=False),
                        ]
                    )

                made.norms_x, made.norms_h = pair(True), pair(inside)
            return made

        def output(layer: int, features: int) -> Norm:
            # gain 1, because a norm's smaller gain at recurrent sites is for values that pass through many steps
            return places(f"layer{layer}.output")(features, "BC", positions=sizes.positions, gain_init=1.0)

        shape = Shape(width, layers, bidirectional, pooling, embedding, dropout=dropout)
        super().__init__(sizes, shape, cell, output if placement == "between" else None)
        places.check()
        cells = [module for module in self.modules() if isinstance(module, GRUCell)]
        parametrise(cells, weights, ("weight_x", "weight_h"))


class GRUCell(nn.Module):
    """One direction of one layer: the recurrence of `GRU`, over all steps of a batch.

    Args:
        features: size of an input vector.
        The others are those of `GRU`.

    Attributes:
        norms_x: N_x and M_x; None: there are none.
        norms_h: N_h and M_h; None: there are none.
    """

    norms_x: nn.ModuleList | None
    norms_h: nn.ModuleList | None

    def __init__(self, features: int, width: int, *, recurrent_init: str, state_noise: float) -> None:
        super().__init__()
        self.width = width
        self.state_noise = state_noise
        self.weight_x = nn.Parameter(torch.empty(GATES * width, features))
        self.weight_h = nn.Parameter(torch.empty(GATES * width, width))
        self.bias = nn.Parameter(torch.zeros(GATES * width))  # b and b_n
        self.bias_h = nn.Parameter(torch.zeros(width))  # b_m, within the reset
        draw(self.weight_x, self.weight_h, GATES, recurrent_init)
        self.norms_x, self.norms_h = None, None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The hidden state after each step, [B, T, H], for x [B, T, features] and mask [B, T]."""
        gates, candidate = self._apart(F.linear(x, self.weight_x), self.norms_x, mask, None)
        gates, candidate = gates + self.bias[: 2 * self.width], candidate + self.bias[2 * self.width :]
        steps = zip(gates.transpose(0, 1).unbind(0), candidate.transpose(0, 1).unbind(0), strict=True)
        real = None if mask is None else mask.unbind(1)
        h = starting_state(x, self.width, self.state_noise if self.training else 0.0)
        weight_h = self.weight_h  # once, not at each step: it may be a function of other parameters
        outputs = []
        for t, (gates_x, candidate_x) in enumerate(steps):
            here = None if real is None else real[t]
            gates_h, candidate_h = self._apart(F.linear(h, weight_h), self.norms_h, here, t)
            reset, update = (gates_x + gates_h).sigmoid().chunk(2, -1)
            new = (candidate_x + reset * (candidate_h + self.bias_h)).tanh()
            new = new + update * (h - new)
            h = new if here is None else torch.where(here[:, None], new, h)
            outputs.append(h)
        return torch.stack(outputs, 1)

    def _apart(
        self, inputs: Tensor, norms: nn.ModuleList | None, real: Tensor | None, step: int | None
    ) -> tuple[Tensor, Tensor]:
        """The inputs of both gates and those of the candidate, normalised if there are norms."""
        gates, candidate = inputs.split([2 * self.width, self.width], -1)
        if norms is None:
            return gates, candidate
        return norms[0](gates, real, step), norms[1](candidate, real, step)
