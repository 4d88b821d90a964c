"""Attention and the feed-forward net of a Transformer's block."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normlab.models.activation import activation as make_activation
from normlab.norms.base import Norm

Rotation = tuple[Tensor, Tensor]
QueryKeyNorm = bool | Literal["joint", "l2"]


class Norms(NamedTuple):
    """What attention needs to know, above all of its norms.

    heads    of equal width
    causal   whether a position sees only earlier ones and its own
    qk       norms of queries and keys: False; True, each head alone; joint, over all heads; l2, cosines
    v        whether values have a norm, each head alone
    longest  positions of a sequence
    """

    heads: int
    causal: bool
    qk: QueryKeyNorm
    v: bool
    longest: int


class Attention(nn.Module):
    """Multi-head scaled dot-product attention softmax(q · k / √d) v, with norms inside as `Norms` says.

    q = N(W_q x), k = N(W_k x), v = N(W_v x), where there is an N. Source: Vaswani et al. 2017, arXiv:1706.03762, 3.2.

    With `qk=l2`, scores are scale · cos(q, k), with one learnt scale a head that starts at log₂(T² - T), for sequences
    of T positions (Henry et al. 2020, arXiv:2010.04245, 3.2), instead of q · k / √d.
    """

    def __init__(self, site: Callable[..., Norm], width: int, norms: Norms) -> None:
        super().__init__()
        heads = norms.heads
        self.heads = heads
        self.causal = norms.causal
        self.inward = nn.Linear(width, 3 * width)
        with_norm = norms.qk is True or norms.qk == "joint"
        self.norm_q = site("qk", parts=1 if norms.qk == "joint" else heads) if with_norm else None
        self.norm_k = site("qk", parts=1 if norms.qk == "joint" else heads) if with_norm else None
        self.norm_v = site("v", parts=heads) if norms.v else None
        start = math.log2(max(2, norms.longest**2 - norms.longest))
        self.qk_scale = nn.Parameter(torch.full((heads,), start)) if norms.qk == "l2" else None
        self.outward = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None, rotation: Rotation | None) -> Tensor:
        """x [B, T, width] → the same shape; outputs at padding are meaningless."""
        q, k, v = self.inward(x).chunk(3, -1)
        if self.norm_q is not None and self.norm_k is not None:
            q, k = self.norm_q(q, mask), self.norm_k(k, mask)
        if self.norm_v is not None:
            v = self.norm_v(v, mask)
        if rotation is not None:
            q, k = rotate(q, rotation, self.heads), rotate(k, rotation, self.heads)
        q, k, v = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (q, k, v))
        scale = None
        if self.qk_scale is not None:
            q, k, scale = F.normalize(q, dim=-1) * self.qk_scale[:, None, None], F.normalize(k, dim=-1), 1.0
        y = F.scaled_dot_product_attention(
            q.to(v.dtype), k.to(v.dtype), v, attn_mask=self._visible(mask), is_causal=self.causal, scale=scale
        )
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
    """Of the angles t · 10000^(-2i / head_width), for x [B, T, C]: cosine and, for a head's first half, minus sine.

    [T, C] each: along with x in memory, which is faster than a head's [T, head_width / 2].
    """
    half = head_width // 2
    exact = torch.promote_types(x.dtype, torch.float32)
    frequency = 10000.0 ** (-torch.arange(half, device=x.device, dtype=exact) / half)
    angle = torch.outer(torch.arange(x.shape[1], device=x.device, dtype=exact), frequency)
    cos, sin, heads = angle.cos(), angle.sin(), x.shape[-1] // head_width
    return torch.cat([cos, cos], -1).repeat(1, heads), torch.cat([-sin, sin], -1).repeat(1, heads)


def rotate(x: Tensor, rotation: Rotation, heads: int) -> Tensor:
    """Turn the channel pairs (i, i + half) of each head of x [B, T, C] by each position's angles."""
    cos, sin = rotation
    partner = x.unflatten(-1, (heads, 2, -1)).flip(-2).flatten(-3)
    return (x * cos + partner * sin).to(x.dtype)
