"""A Transformer, encoder or causal, with options for the places of its norms."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from normlab.config.schema import InputError, Sizes
from normlab.models.attention import Attention, Norms, Rotation, feed_forward, rotary_angles
from normlab.models.base import Model
from normlab.models.padding import masked_mean
from normlab.norms.base import Norm, NormFactory
from normlab.norms.placed import Places
from normlab.weights.initial import initialise
from normlab.weights.parametrised import Weights, parametrise


class Transformer(Model):
    """Embedding, blocks of self-attention and a feed-forward net, a linear output layer.

    With a separate norm N at each place, and f first attention, then the feed-forward net, a block is:

        pre       x ← x + f(N(x))     Xiong et al. 2020, arXiv:2002.04745
        post      x ← N(x + f(x))     Vaswani et al. 2017, arXiv:1706.03762
        sandwich  x ← x + N(f(N(x)))  Ding et al. 2021 (CogView), arXiv:2105.13290; `peri`, as it is called since
                                      Kim et al. 2025, arXiv:2502.02732, is another name for it
        inside    x ← x + N(f(x))     Team OLMo 2025 (OLMo 2), arXiv:2501.00656
        hybrid    x ← x + f(x), with norms of queries, keys and values in the attention f; then y = N(x), x ← y + f(y)
                                      HybridNorm, Zhuo et al. 2025, arXiv:2503.04598
        deepnorm  x ← N(α x + f(x))   Wang et al. 2022, arXiv:2203.00555: with L blocks α = (2L)^¼, and the initial
                                      weights of values, outputs and feed-forward nets times (8L)^-¼

    Every N is at a `BTC` site, over whose axes the norm says what it takes its statistics: layer norm over the channels
    C of each position alone, batch norm over B and T. Norms of each head alone are over its C/heads channels.

    Token vectors are drawn from N(0, 1/width) and multiplied by √width (Vaswani et al. 2017, 3.4); linear
    layers from N(0, 1/fan_in), biases 0. Classification reads the mean over real positions.

    Args:
        norm: at `BTC` sites.
        sizes: of features [B, T, F] or tokens [B, T].
        width: size of a position's vector.
        layers: blocks.
        heads: attention heads; must divide width.
        mlp_ratio: hidden units of the feed-forward net, as a multiple of width.
        activation: of the feed-forward net.
        attention: `full` sees all real positions, `causal` only earlier ones and its own; `auto` is causal in
            language modelling, else full.
        norm_position: see above.
        qk_norm: q = N(W_q x) and k = N(W_k x), each head alone (Henry et al. 2020, arXiv:2010.04245; with a
            learned gain per channel); `joint` over all heads (Team OLMo 2025, arXiv:2501.00656); `l2` is the paper's
            own: scores are cosines with a learnt scale, whatever the norm.
        v_norm: v = N(W_v x), each head alone (HybridNorm, Zhuo et al. 2025, arXiv:2503.04598).
        final_norm: N(x) before the output layer; `post` and `deepnorm` end in one already and get no other.
        embedding_norm: N of the embedding (BLOOM, Le Scao et al. 2022, arXiv:2211.05100).
        depth_scale: in block l = 1, 2, … f reads N(x) / √l (Sun et al. 2025, The Curse of Depth, arXiv:2502.05795).
        position_encoding: `rotary` turns queries and keys (Su et al. 2021, arXiv:2104.09864) and takes any
            length; `learned` adds a vector a position.
        tie_embedding: in language modelling, the output layer shares the token vectors (Press & Wolf 2017,
            arXiv:1608.05859).
        dropout: share of the embedding and of each branch's output set to 0 in training.
        norm_at: other norms at some sites, see `Places`: `embedding`; of a block `attention`, `feed_forward` (before or
            after them), `qk`, `v`; `final`.
        weights: of the linear layers in the blocks, see `normlab.weights.parametrised`.

    Raises:
        InputError: the options contradict each other, or the norm would let a position see later ones.
    """

    kinds: ClassVar[tuple[str, ...]] = ("features", "tokens")
    layouts: ClassVar[tuple[str, ...]] = ("BTC",)
    depth: ClassVar[tuple[str, ...]] = ("layers",)
    part: ClassVar[int | None] = 64
    aliases: ClassVar[dict[str, dict[str, str]]] = {"norm_position": {"peri": "sandwich"}}
    neutral: ClassVar[dict[str, Any]] = {
        "v_norm": False,
        "embedding_norm": False,
        "depth_scale": False,
        "norm_at": None,
        "weights": "plain",
    }
    roles: ClassVar[tuple[str, ...]] = ("embedding", "attention", "feed_forward", "qk", "v", "final")
    obstacle: ClassVar[str] = "it sees padding, and it reads or feeds a sum of branches"

    def __init__(
        self,
        norm: NormFactory,
        sizes: Sizes,
        *,
        width: Annotated[int, Field(gt=0)] = 128,
        layers: Annotated[int, Field(gt=0)] = 3,
        heads: Annotated[int, Field(gt=0)] = 4,
        mlp_ratio: Annotated[float, Field(gt=0)] = 4.0,
        activation: Literal["relu", "gelu", "silu"] = "gelu",
        attention: Literal["auto", "full", "causal"] = "auto",
        norm_position: Literal["pre", "post", "sandwich", "peri", "inside", "hybrid", "deepnorm"] = "pre",
        qk_norm: bool | Literal["joint", "l2"] = False,
        v_norm: bool = False,
        final_norm: bool = True,
        embedding_norm: bool = False,
        depth_scale: bool = False,
        position_encoding: Literal["rotary", "learned"] = "rotary",
        tie_embedding: bool = True,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        norm_at: dict[str, NormFactory] | None = None,
        weights: Weights = "plain",
    ) -> None:
        super().__init__()
        if width % heads:
            raise InputError(f"model.width={width} is not divisible by model.heads={heads}")
        if int(width * mlp_ratio) < 1:
            raise InputError(
                f"model.mlp_ratio={mlp_ratio} of model.width={width} leaves the feed-forward net no hidden unit: use a "
                "larger one, such as 4"
            )
        if position_encoding == "rotary" and width // heads % 2:
            raise InputError(
                f"model.position_encoding=rotary rotates pairs of channels, but a head has {width // heads}; "
                f"choose model.width and model.heads so that a head has an even number"
            )
        if sizes.causal and attention == "full":
            raise InputError(
                "model.attention=full sees later positions, which language modelling must not; use model.attention=auto"
            )
        norm_position = self.aliases["norm_position"].get(norm_position, norm_position)  # type: ignore[assignment]
        if depth_scale and norm_position not in ("pre", "sandwich"):
            raise InputError(
                f"model.depth_scale=true scales the norm before each branch, and model.norm_position={norm_position} "
                f"has none there; use pre or sandwich"
            )
        self.per_position = sizes.causal
        self.longest = sizes.shape[0]
        self.head_width = width // heads
        causal = sizes.causal or attention == "causal"

        norms = Places(norm, norm_at)

        def site(role: str, parts: int = 1, layer: int | None = None) -> Norm:
            chosen = norms(role if layer is None else f"layer{layer}.{role}")
            made = chosen(width, "BTC", parts=parts, positions=sizes.positions)
            if causal and not made.causal:
                raise InputError(
                    f"norm={made.name} pools over time, so a position of causal attention would see later ones; "
                    f"use norm={made.nearest}"
                )
            return made

        self.embedding = (
            nn.Embedding(sizes.vocabulary, width) if sizes.vocabulary else nn.Linear(sizes.shape[-1], width)
        )
        self.places = nn.Parameter(torch.empty(self.longest, width)) if position_encoding == "learned" else None
        self.embedding_norm = site("embedding") if embedding_norm else None
        self.dropout = nn.Dropout(dropout)
        hybrid = norm_position == "hybrid"
        inner = Norms(heads, causal, qk_norm or hybrid, v_norm or hybrid, self.longest)
        blocks = []
        for number in range(1, layers + 1):
            here = partial(site, layer=number)
            hidden = feed_forward(width, int(width * mlp_ratio), activation)
            blocks.append(Block(here, norm_position, Attention(here, width, inner), hidden, dropout))
        for number, block in enumerate(blocks, 1):
            block.before_scale = number**-0.5 if depth_scale else 1.0
            block.shortcut_scale = (2 * layers) ** 0.25 if norm_position == "deepnorm" else 1.0
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = site("final") if final_norm and norm_position not in ("post", "deepnorm") else None
        self.head = nn.Linear(width, sizes.outputs)
        self._initialise(tie_embedding and sizes.causal)
        if norm_position == "deepnorm":
            for block in blocks:
                block.shrink((8 * layers) ** -0.25)
        norms.check()
        parametrise((module for module in self.blocks.modules() if isinstance(module, nn.Linear)), weights)

    def _initialise(self, tie_embedding: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                initialise(module)
        if isinstance(self.embedding, nn.Embedding):
            nn.init.normal_(self.embedding.weight, std=self.embedding.embedding_dim**-0.5)
            if tie_embedding:
                self.head.weight = self.embedding.weight
        if self.places is not None:
            nn.init.normal_(self.places, std=0.02)

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [B, outputs], or [B, T, outputs] in language modelling.

        Args:
            inputs: float [B, T, F] or int64 [B, T].
            mask: bool [B, T], true where real, a sequence's real steps first; None: all real.

        Raises:
            InputError: the sequences are longer than the learned positions.
        """
        x = self._embed(inputs, mask)
        rotation = rotary_angles(x, self.head_width) if self.places is None else None
        for block in self.blocks:
            x = block(x, mask, rotation)
        if self.final_norm is not None:
            x = self.final_norm(x, mask)
        logits: Tensor = self.head(x if self.per_position else masked_mean(x, mask))
        return logits

    def _embed(self, inputs: Tensor, mask: Tensor | None) -> Tensor:
        """[B, T] or [B, T, F] → [B, T, width]."""
        x = self.embedding(inputs)
        if isinstance(self.embedding, nn.Embedding):
            x = x * math.sqrt(self.embedding.embedding_dim)
        if self.places is not None:
            if inputs.shape[1] > self.longest:
                raise InputError(
                    f"a sequence has {inputs.shape[1]} time steps, but this model learned {self.longest} positions; "
                    f"model.position_encoding=rotary accepts any length"
                )
            x = x + self.places[: inputs.shape[1]]
        if self.embedding_norm is not None:
            x = self.embedding_norm(x, mask)
        embedded: Tensor = self.dropout(x)
        return embedded

    def hidden_layers(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.blocks)

    def token_vectors(self) -> nn.Module:
        """The embedding."""
        return self.embedding


class Block(nn.Module):
    """Attention, then the feed-forward net, each a branch with norms as `norm_position` says.

    before_scale multiplies what the branches read from the norms before them, shortcut_scale the shortcut to a norm
    after the sum. With `hybrid`, `between` is the norm that the feed-forward net and its shortcut read.
    """

    before_scale = 1.0
    shortcut_scale = 1.0

    def __init__(
        self,
        site: Callable[[str], Norm],
        norm_position: str,
        attention: Attention,
        feed_forward: nn.Module,
        dropout: float,
    ) -> None:
        super().__init__()
        self.sum_first = norm_position in ("post", "deepnorm")
        branches = ("attention", "feed_forward")
        self.before = nn.ModuleList(site(f) for f in branches if norm_position in ("pre", "sandwich"))
        self.attention = attention
        self.feed_forward = feed_forward
        self.between = site("feed_forward") if norm_position == "hybrid" else None
        self.after = nn.ModuleList(site(f) for f in branches if norm_position not in ("pre", "hybrid"))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None, rotation: Rotation | None) -> Tensor:
        """x [B, T, width] → the same shape."""
        x = self._add(x, partial(self.attention, mask=mask, rotation=rotation), mask, 0)
        if self.between is not None:
            x = self.between(x, mask)
        return self._add(x, self.feed_forward, mask, 1)

    @torch.no_grad()
    def shrink(self, factor: float) -> None:
        """Multiply the weights of values, attention's outputs and the feed-forward net."""
        self.attention.inward.weight.chunk(3)[2].mul_(factor)
        linears = [module for module in self.feed_forward.modules() if isinstance(module, nn.Linear)]
        for linear in (self.attention.outward, *linears):
            linear.weight.mul_(factor)

    def _add(self, x: Tensor, branch: Callable[[Tensor], Tensor], mask: Tensor | None, i: int) -> Tensor:
        if self.sum_first:
            shortcut = x if self.shortcut_scale == 1 else self.shortcut_scale * x
            y: Tensor = self.after[i](shortcut + self.dropout(branch(x)), mask)
            return y
        y = self.before[i](x, mask) if self.before else x
        y = branch(y if self.before_scale == 1 else self.before_scale * y)
        if self.after:
            y = self.after[i](y, mask)
        return x + self.dropout(y)
