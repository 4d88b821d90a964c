"""The Transformer against a naive float64 write-out; causality; padding."""

import math
from functools import partial
from itertools import product

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.autograd.functional import jacobian

from normlab.config.components import canonical, decisive
from normlab.config.schema import InputError, Sizes
from normlab.config.shipped import CONF
from normlab.config.signature import read
from normlab.models.transformer import Transformer
from normlab.norms.batch import BatchNorm
from normlab.norms.detached_layer import DetachedLayerNorm
from normlab.norms.dyt import DynamicTanh
from normlab.norms.group import GroupNorm
from normlab.norms.instance import InstanceNorm
from normlab.norms.layer import LayerNorm
from normlab.norms.layer_channel import LayerChannelNorm
from normlab.norms.none import NoNorm
from normlab.norms.rms import RMSNorm

B, T, F, D = 4, 5, 3, 8
LENGTHS = torch.tensor([5, 2, 4, 1])
MASK = torch.arange(T) < LENGTHS[:, None]
SEQUENCES = Sizes("features", (T, F), outputs=6, positions=T, causal=True)  # one output a position
CLASSES = Sizes("features", (T, F), outputs=6, positions=T)
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def build(norm, sizes=CLASSES, **options) -> Transformer:
    """A float64 model, all its parameters random."""
    torch.manual_seed(0)
    model = Transformer(norm, sizes, **{"width": D, "layers": 2, "heads": 2, **options}).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def inputs() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(B, T, F, dtype=torch.float64, requires_grad=True)


def layer_norm(x: torch.Tensor, norm, parts: int = 1) -> torch.Tensor:
    """One vector's layer norm, each part alone."""
    blocks = [(b - b.mean()) / torch.sqrt(b.var(correction=0) + 1e-5) for b in x.chunk(parts)]
    return torch.cat(blocks) * norm.gain + norm.bias


def turn(x: torch.Tensor, t: int) -> torch.Tensor:
    """RoFormer, eq. 15: pair i of one head's vector turns by t · 10000^(-2i/D)."""
    half = len(x) // 2
    turned = x.clone()
    for i in range(half):
        angle = t * 10000 ** (-2 * i / len(x))
        turned[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
        turned[i + half] = x[i] * math.sin(angle) + x[i + half] * math.cos(angle)
    return turned


def score(attention, head: int, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    if attention.qk_scale is None:
        return q @ k / math.sqrt(D / 2)
    return attention.qk_scale[head] * (q @ k) / torch.sqrt((q @ q) * (k @ k))


def attend(attention, xs: list, causal: bool, rotary: bool) -> list:
    """Multi-head attention over the real positions of one sequence, a position and a head at a time."""
    q, k, v = ([], [], [])
    for t, x in enumerate(xs):
        a, b, c = (attention.inward.weight @ x + attention.inward.bias).chunk(3)
        if attention.norm_q is not None:
            parts = attention.norm_q.parts
            a, b = layer_norm(a, attention.norm_q, parts), layer_norm(b, attention.norm_k, parts)
        if attention.norm_v is not None:
            c = layer_norm(c, attention.norm_v, parts=2)
        q.append([turn(h, t) if rotary else h for h in a.chunk(2)])
        k.append([turn(h, t) if rotary else h for h in b.chunk(2)])
        v.append(c.chunk(2))
    out = []
    for t in range(len(xs)):
        heads, seen = [], range(t + 1 if causal else len(xs))
        for h in range(2):
            scores = torch.stack([score(attention, h, q[t][h], k[s][h]) for s in seen])
            weights = torch.exp(scores) / torch.exp(scores).sum()
            heads.append(sum(w * v[s][h] for w, s in zip(weights, seen, strict=True)))
        out.append(attention.outward.weight @ torch.cat(heads) + attention.outward.bias)
    return out


def naive(
    model, sequence: torch.Tensor, norm_position: str, causal: bool, rotary: bool, depth_scale: bool = False
) -> torch.Tensor:
    """Logits of one sequence of real positions."""
    xs = [model.embedding.weight @ x + model.embedding.bias for x in sequence]
    if not rotary:
        xs = [x + model.places[t] for t, x in enumerate(xs)]
    if model.embedding_norm is not None:
        xs = [layer_norm(x, model.embedding_norm) for x in xs]
    for number, block in enumerate(model.blocks, 1):
        feed = [
            lambda ys, b=block: attend(b.attention, ys, causal, rotary),
            lambda ys, b=block: [b.feed_forward(y) for y in ys],
        ]
        for i, branch in enumerate(feed):
            if norm_position == "hybrid":
                xs = xs if i == 0 else [layer_norm(x, block.between) for x in xs]
                xs = [x + y for x, y in zip(xs, branch(xs), strict=True)]
                continue
            if norm_position in ("post", "deepnorm"):
                alpha = 4**0.25 if norm_position == "deepnorm" else 1  # (2 · 2 blocks)^¼
                added = [alpha * x + y for x, y in zip(xs, branch(xs), strict=True)]
                xs = [layer_norm(x, block.after[i]) for x in added]
                continue
            read = xs if norm_position == "inside" else [layer_norm(x, block.before[i]) for x in xs]
            ys = branch([x / math.sqrt(number) for x in read] if depth_scale else read)
            if norm_position in ("sandwich", "inside"):
                ys = [layer_norm(y, block.after[i]) for y in ys]
            xs = [x + y for x, y in zip(xs, ys, strict=True)]
    if norm_position not in ("post", "deepnorm"):
        xs = [layer_norm(x, model.final_norm) for x in xs]
    return torch.stack(xs)


OPTIONS = [
    {"norm_position": position, "qk_norm": qk, "position_encoding": encoding}
    for position, qk, encoding in product(["pre", "post", "sandwich"], [False, True], ["rotary", "learned"])
] + [
    {"norm_position": "inside", "v_norm": True},
    {"norm_position": "deepnorm", "embedding_norm": True},
    {"norm_position": "hybrid"},
    {"norm_position": "pre", "qk_norm": "joint", "depth_scale": True},
    {"norm_position": "sandwich", "qk_norm": "l2", "depth_scale": True},
    {"norm_position": "inside", "qk_norm": "l2", "position_encoding": "learned"},
]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_equals_a_naive_write_out(options, causal):
    model = build(partial(LayerNorm), SEQUENCES if causal else CLASSES, **options)
    x = inputs()
    rotary = options.get("position_encoding") != "learned"
    how = (options["norm_position"], causal, rotary, options.get("depth_scale", False))
    states = [naive(model, x[b, : LENGTHS[b]], *how) for b in range(B)]
    if causal:
        ours = model(x, MASK)[MASK]
        expected = model.head(torch.cat(states))
    else:
        ours = model(x, MASK)
        expected = model.head(torch.stack([state.mean(0) for state in states]))
    torch.testing.assert_close(ours, expected, **EXACT)
    weights = torch.randn_like(ours)
    (gradient,) = torch.autograd.grad((ours * weights).sum(), x)
    (reference,) = torch.autograd.grad((expected * weights).sum(), x)
    torch.testing.assert_close(gradient, reference, rtol=1e-10, atol=1e-10)


def future_influence(model) -> float:
    """Largest |∂y_t / ∂x_s| over s > t, of any example on any other or itself."""
    derivative = jacobian(model, inputs().detach())  # [B, T, outputs, B, T, F]
    later = torch.ones(T, T, dtype=torch.bool).triu(1)  # [t, s]
    return derivative.permute(1, 4, 0, 2, 3, 5)[later].abs().max().item()


@pytest.mark.parametrize("norm_position", ["pre", "post", "sandwich", "inside", "hybrid"])
@pytest.mark.parametrize("norm", [NoNorm, LayerNorm, DetachedLayerNorm, LayerChannelNorm, RMSNorm, DynamicTanh])
def test_is_causal(norm, norm_position):
    assert future_influence(build(partial(norm), SEQUENCES, norm_position=norm_position, qk_norm=True)) == 0


def test_batch_norm_pooled_over_time_breaks_causality_in_training():
    model = build(partial(BatchNorm, pool="tokens"), SEQUENCES)
    assert future_influence(model.train()) > 1e-3
    assert future_influence(model.eval()) == 0


def test_batch_norm_per_position_is_causal():
    model = build(partial(BatchNorm, pool="positions"), SEQUENCES)
    assert future_influence(model.train()) == 0


def test_full_attention_sees_later_positions():
    per_position = build(partial(LayerNorm), SEQUENCES)
    for block in per_position.blocks:
        block.attention.causal = False
    assert future_influence(per_position) > 1e-3


NORMS = [
    partial(NoNorm),
    partial(LayerNorm),
    partial(BatchNorm),
    partial(BatchNorm, pool="positions"),
    partial(InstanceNorm),
    partial(GroupNorm, groups=2),
    partial(RMSNorm),
]


@pytest.mark.parametrize("norm_position", ["pre", "post", "sandwich", "deepnorm"])
@pytest.mark.parametrize("norm", NORMS)
def test_padding_changes_nothing(norm, norm_position):
    model = build(norm, norm_position=norm_position, qk_norm=True, v_norm=True, embedding_norm=True)
    x = inputs()
    reference = model(x, MASK)
    torch.testing.assert_close(model(torch.where(MASK[..., None], x, 1e3), MASK), reference, **EXACT)
    longer = torch.cat([x, torch.full((B, 2, F), 7.0)], 1).to(x.dtype)
    torch.testing.assert_close(model(longer, nn.functional.pad(MASK, (0, 2))), reference, **EXACT)
    (gradient,) = torch.autograd.grad(reference.square().sum(), x)
    assert torch.equal(gradient[~MASK], torch.zeros_like(gradient[~MASK]))


@pytest.mark.parametrize("norm", NORMS)
def test_a_sequence_of_padding_only_gives_no_nan(norm):
    model = build(norm)
    mask = MASK.clone()
    mask[0] = False
    output = model(inputs(), mask)
    output.square().sum().backward()
    assert output.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_mask_without_padding_changes_nothing():
    model, x = build(partial(LayerNorm)), inputs()
    torch.testing.assert_close(model(x, torch.ones_like(MASK)), model(x), **EXACT)


def test_rotary_positions_take_longer_sequences_and_learned_refuse_them():
    longer = torch.randn(2, T + 3, F, dtype=torch.float64)
    assert build(partial(LayerNorm))(longer).shape == (2, 6)
    with pytest.raises(InputError, match=f"{T + 3} time steps.*learned {T}.*rotary"):
        build(partial(LayerNorm), position_encoding="learned")(longer)


@pytest.mark.parametrize(
    ("options", "sizes", "message"),
    [
        ({"heads": 3}, CLASSES, "heads=3"),
        ({"heads": 8}, CLASSES, "even number"),
        ({"attention": "full"}, SEQUENCES, "later positions"),
        ({"depth_scale": True, "norm_position": "inside"}, CLASSES, "use pre or sandwich"),
        ({"mlp_ratio": 0.01}, CLASSES, "no hidden unit: use a larger one"),
    ],
)
def test_refuses_contradicting_options(options, sizes, message):
    with pytest.raises(InputError, match=message):
        build(partial(LayerNorm), sizes, **options)


@pytest.mark.parametrize("norm", [InstanceNorm, GroupNorm])
@pytest.mark.parametrize(("sizes", "attention"), [(SEQUENCES, "auto"), (CLASSES, "causal")])
def test_refuses_norms_that_pool_over_time_where_causal(norm, sizes, attention):
    options = {"groups": 2} if norm is GroupNorm else {}
    with pytest.raises(InputError, match=r"use norm=\w+"):
        build(partial(norm, **options), sizes, attention=attention)


@pytest.mark.parametrize("tie_embedding", [True, False])
def test_language_modelling_ties_the_embedding(tie_embedding):
    sizes = Sizes("tokens", (T,), outputs=11, vocabulary=11, positions=T, causal=True)
    model = build(partial(LayerNorm), sizes, tie_embedding=tie_embedding)
    assert (model.head.weight is model.embedding.weight) == tie_embedding
    assert model(torch.randint(11, (B, T))).shape == (B, T, 11)


def test_the_final_norm_is_an_option_and_post_has_none():
    assert build(partial(LayerNorm), final_norm=False).final_norm is None
    assert build(partial(LayerNorm), norm_position="post").final_norm is None
    assert build(partial(LayerNorm), norm_position="sandwich").final_norm is not None


def test_peri_is_sandwich_under_another_name():
    """And a run under either name has the same id."""
    torch.manual_seed(0)
    one, other = build(partial(LayerNorm), norm_position="peri"), build(partial(LayerNorm), norm_position="sandwich")
    assert torch.equal(one(inputs(), MASK), other(inputs(), MASK))
    node = {"_target_": "normlab.models.transformer.Transformer", "norm_position": "peri", "width": 8}
    signature = read(node["_target_"])
    assert canonical(node, signature) == {**node, "norm_position": "sandwich"}
    assert canonical({**node, "norm_position": "pre"}, signature)["norm_position"] == "pre"


def test_neutral_options_are_no_part_of_a_runs_identity():
    node = {"_target_": "normlab.models.transformer.Transformer", "width": 8, "v_norm": False, "depth_scale": True}
    assert decisive(node) == {key: value for key, value in node.items() if key != "v_norm"}
    listed = OmegaConf.to_container(OmegaConf.load(CONF / "model" / "transformer.yaml"))
    assert Transformer.neutral.items() <= listed.items()


def test_deepnorm_starts_with_smaller_weights():
    """(8 · 2 blocks)^-¼ = 1/2 of values, outputs and the feed-forward net; queries, keys and embedding as ever."""
    made = []
    for position in ("post", "deepnorm"):
        torch.manual_seed(0)
        made.append(Transformer(partial(LayerNorm), CLASSES, width=D, layers=2, heads=2, norm_position=position))
    post, deep = (dict(model.named_parameters()) for model in made)
    for name, weight in post.items():
        factor = torch.ones(())
        if "feed_forward" in name or "outward" in name:
            factor = torch.tensor(0.5) if name.endswith("weight") else factor
        if name.endswith("inward.weight"):
            factor = torch.tensor([1.0] * 2 * D + [0.5] * D)[:, None]
        assert torch.equal(deep[name], weight * factor), name


def test_cosine_attention_starts_at_the_papers_scale():
    model = Transformer(partial(LayerNorm), CLASSES, width=D, layers=1, heads=2, qk_norm="l2")
    assert model.blocks[0].attention.qk_scale.tolist() == pytest.approx([math.log2(T * T - T)] * 2)
    assert model.blocks[0].attention.norm_q is None
