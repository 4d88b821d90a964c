"""A Transformer, encoder or causal, with options for the places of its norms."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from normlab.config.schema import InputError, Sizes
from normlab.models.activation import activation as make_activation
from normlab.models.activation import initialise
from normlab.models.base import Model
from normlab.models.padding import masked_mean
from normlab.norms.base import Norm, NormFactory

Rotation = tuple[Tensor, Tensor]


class Transformer(Model):
    """Embedding, blocks of self-attention and a feed-forward net, a linear output layer.

    With a separate norm N at each place, and f first attention, then the feed-forward net, a block is:

        pre       x ← x + f(N(x))     Xiong et al. 2020, arXiv:2002.04745
        post      x ← N(x + f(x))     Vaswani et al. 2017, arXiv:1706.03762
        sandwich  x ← x + N(f(N(x)))  Ding et al. 2021 (CogView), arXiv:2105.13290

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
        norm_position: `pre`, `post` or `sandwich`, see above.
        qk_norm: normalise queries and keys, each head alone (Henry et al. 2020, arXiv:2010.04245; with a
            learned gain per channel).
        final_norm: a norm before the output layer; `post` ends in one already and gets no other.
        position_encoding: `rotary` turns queries and keys (Su et al. 2021, arXiv:2104.09864) and takes any
            length; `learned` adds a vector a position.
        tie_embedding: in language modelling, the output layer shares the token vectors (Press & Wolf 2017).
        dropout: share of the embedding and of each branch's output set to 0 in training.

    Raises:
        InputError: the options contradict each other, or the norm would let a position see later ones.
    """

    kinds: ClassVar[tuple[str, ...]] = ("features", "tokens")
    layouts: ClassVar[tuple[str, ...]] = ("BTC",)
    depth: ClassVar[tuple[str, ...]] = ("layers",)
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
        norm_position: Literal["pre", "post", "sandwich"] = "pre",
        qk_norm: bool = False,
        final_norm: bool = True,
        position_encoding: Literal["rotary", "learned"] = "rotary",
        tie_embedding: bool = True,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise InputError(f"model.width={width} is not divisible by model.heads={heads}")
        if position_encoding == "rotary" and width // heads % 2:
            raise InputError(
                f"model.position_encoding=rotary rotates pairs of channels, but a head has {width // heads}; "
                f"choose model.width and model.heads so that a head has an even number"
            )
        if sizes.causal and attention == "full":
            raise InputError(
                "model.attention=full sees later positions, which language modelling must not; use model.attention=auto"
            )
        self.per_position = sizes.causal
        self.longest = sizes.shape[0]
        self.head_width = width // heads
        causal = sizes.causal or attention == "causal"

        def site(parts: int = 1) -> Norm:
            made = norm(width, "BTC", parts=parts, positions=sizes.positions)
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
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(
                site,
                norm_position,
                Attention(site, width, heads, causal, qk_norm),
                feed_forward(width, int(width * mlp_ratio), activation),
                dropout,
            )
            for _ in range(layers)
        )
        self.final_norm = site() if final_norm and norm_position != "post" else None
        self.head = nn.Linear(width, sizes.outputs)
        self._initialise(tie_embedding and sizes.causal)

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
        x = self._embed(inputs)
        rotation = rotary_angles(x, self.head_width) if self.places is None else None
        for block in self.blocks:
            x = block(x, mask, rotation)
        if self.final_norm is not None:
            x = self.final_norm(x, mask)
        logits: Tensor = self.head(x if self.per_position else masked_mean(x, mask))
        return logits

    def _embed(self, inputs: Tensor) -> Tensor:
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
        embedded: Tensor = self.dropout(x)
        return embedded

    def hidden_layers(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.blocks)

    def token_vectors(self) -> nn.Module:
        """The embedding."""
        return self.embedding


class Block(nn.Module):
    """Attention, then the feed-forward net, each a branch with norms as `norm_position` says."""

    def __init__(
        self,
        site: Callable[[], Norm],
        norm_position: str,
        attention: Attention,
        feed_forward: nn.Module,
        dropout: float,
    ) -> None:
        super().__init__()
        self.norm_position = norm_position
        self.before = nn.ModuleList(site() for _ in range(2 if norm_position != "post" else 0))
        self.attention = attention
        self.feed_forward = feed_forward
        self.after = nn.ModuleList(site() for _ in range(2 if norm_position != "pre" else 0))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None, rotation: Rotation | None) -> Tensor:
        """x [B, T, width] → the same shape."""
        x = self._add(x, partial(self.attention, mask=mask, rotation=rotation), mask, 0)
        return self._add(x, self.feed_forward, mask, 1)

    def _add(self, x: Tensor, branch: Callable[[Tensor], Tensor], mask: Tensor | None, i: int) -> Tensor:
        if self.norm_position == "post":
            y: Tensor = self.after[i](x + self.dropout(branch(x)), mask)
            return y
        y = branch(self.before[i](x, mask))
        if self.norm_position == "sandwich":
            y = self.after[i](y, mask)
        return x + self.dropout(y)


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, 3.2)."""

    def __init__(self, site: Callable[..., Norm], width: int, heads: int, causal: bool, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.inward = nn.Linear(width, 3 * width)
        self.norm_q = site(parts=heads) if qk_norm else None
        self.norm_k = site(parts=heads) if qk_norm else None
        self.outward = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None, rotation: Rotation | None) -> Tensor:
        """x [B, T, width] → the same shape; outputs at padding are meaningless."""
        q, k, v = self.inward(x).chunk(3, -1)
        if self.norm_q is not None and self.norm_k is not None:
            q, k = self.norm_q(q, mask), self.norm_k(k, mask)
        q, k, v = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (q, k, v))
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=self._visible(mask), is_causal=self.causal)
        out: Tensor = self.outward(y.transpose(1, 2).flatten(2))
        return out

    def _visible(self, mask: Tensor | None) -> Tensor | None:
        """The keys that a query may see, [B, 1, 1, T]; None: all, or all up to its own position."""
        if mask is None or self.causal:
            # padding comes last, so causal attention never lets a real position see it
            return None
        # a sequence without a real position sees its padding: a softmax over nothing would be NaN
        return (mask | ~mask.any(1, keepdim=True))[:, None, None]


def feed_forward(width: int, hidden: int, activation: str) -> nn.Module:
    """Two linear layers at each position (Vaswani et al. 2017, 3.3)."""
    return nn.Sequential(nn.Linear(width, hidden), make_activation(activation), nn.Linear(hidden, width))


def rotary_angles(x: Tensor, head_width: int) -> Rotation:
    """Cosine and sine, [T, head_width / 2] each, of the angles t · 10000^(-2i / head_width) for x [B, T, C]."""
    half = head_width // 2
    exact = torch.promote_types(x.dtype, torch.float32)
    frequency = 10000.0 ** (-torch.arange(half, device=x.device, dtype=exact) / half)
    angle = torch.outer(torch.arange(x.shape[1], device=x.device, dtype=exact), frequency)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the channel pairs (i, i + half) of x [B, heads, T, D] by each position's angles."""
    cos, sin = rotation
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)
