"""Small networks and their data, with and without a planted fault in their norms, for `monitored.py`.

Two disjoint sets: "set", on which the monitor's thresholds were chosen, and "tested", with other widths, depths,
batches, optimisers and seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CLASSES = 4
Loop = Literal["hand", "lightning", "sampling", "recalibrating", "processes"]  # of planted_loops.py


@dataclass
class Plan:
    """A training of a kind of network ("cnn", "mlp", "tcn", "transformer"), before its fault is planted."""

    kind: str
    seed: int
    tested: bool
    norm: Callable[[int], nn.Module] | None = None
    bias: bool = False
    activation: Callable[[], nn.Module] = nn.ReLU
    layers: int = 0
    batch: int = 0
    steps: int = 120
    decay: float = 0.0
    sgd: bool = False
    ordered: bool = False
    padded: bool = False
    checkpoints: bool = False
    passes: int = 1
    accumulated: int = 1
    thaws: bool = True  # norms in training mode
    last: bool = False
    turned: bool = False
    post: bool = False  # norms after each residual sum
    warmup: int = 0  # steps, before the rate falls linearly
    scale: float = 1.0
    lr: float = 0.0
    evaluates: bool = True  # in eval mode
    returns: bool = True  # to training mode
    shift: float = 0.0  # of the evaluated inputs
    loop: Loop = "hand"
    change: list[Callable[[nn.Module], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layers = self.layers or (4 if self.tested else 3)
        self.batch = self.batch or (24 if self.tested else 32)
        self.sgd = self.sgd or (self.tested and self.seed % 2 == 1)
        self.lr = self.lr or (0.05 if self.sgd else 0.003)

    @property
    def width(self) -> int:
        """Channels of all layers."""
        return 24 if self.tested else 16


class Block(nn.Module):
    """Layer, norm, activation; residual in an MLP of the tested set."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        width = plan.width
        self.plan = plan
        self.layer = {
            "cnn": lambda: nn.Conv2d(width, width, 3, padding=1, bias=plan.bias),
            "mlp": lambda: nn.Linear(width, width, bias=plan.bias),
            "tcn": lambda: nn.Conv1d(width, width, 3, padding=1, bias=plan.bias),
        }[plan.kind]()
        self.norm = norm_for(plan)
        self.act = plan.activation()
        self.shortcut = plan.kind == "mlp" and plan.tested and self.norm is not None

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape."""
        y = self.layer(x)
        y = y if self.norm is None else self.norm(y)
        return x + self.act(y) if self.shortcut else self.act(y)


class Attention(nn.Module):
    """A pre-norm block of a Transformer."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.before, self.between = norm_for(plan), norm_for(plan)
        self.mix = nn.MultiheadAttention(plan.width, 2, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(plan.width, 2 * plan.width), nn.GELU(), nn.Linear(2 * plan.width, plan.width)
        )

    def _normed(self, norm: nn.Module | None, x: Tensor) -> Tensor:
        if norm is None:
            return x
        return norm(x.transpose(1, 2)).transpose(1, 2) if self.plan.turned else norm(x)

    def forward(self, x: Tensor) -> Tensor:
        """Sequences of the same shape."""
        y = self._normed(self.before, x)
        x = x + self.mix(y, y, y, need_weights=False)[0]
        return x + self.mlp(self._normed(self.between, x))


class PostNorm(Attention):
    """A post-norm block of a Transformer."""

    def forward(self, x: Tensor) -> Tensor:
        """Sequences of the same shape."""
        assert self.before is not None
        assert self.between is not None
        x = self.before(x + self.mix(x, x, x, need_weights=False)[0])
        return self.between(x + self.mlp(x))


def block_for(plan: Plan) -> nn.Module:
    """A block of the plan's kind; torch's own Transformer layer, with its dropout, where a post-norm one is tested."""
    if plan.post and plan.tested:
        return nn.TransformerEncoderLayer(plan.width, 2, 2 * plan.width, batch_first=True)
    return PostNorm(plan) if plan.post else Attention(plan) if plan.kind == "transformer" else Block(plan)


class Net(nn.Module):
    """A stem, blocks, a mean over positions and a head."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        width = plan.width
        stems = {"cnn": lambda: nn.Conv2d(3, width, 3, padding=1), "mlp": lambda: nn.Linear(20, width),
                 "tcn": lambda: nn.Conv1d(6, width, 3, padding=1),
                 "transformer": lambda: nn.Linear(6, width)}  # fmt: skip
        self.stem = stems[plan.kind]()
        self.blocks = nn.ModuleList(block_for(plan) for _ in range(plan.layers))
        self.head = nn.Linear(width, CLASSES)
        self.final = nn.BatchNorm1d(CLASSES) if plan.last else None

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.stem(x) * self.plan.scale
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.plan.checkpoints else block(x)
        x = x.mean(1) if self.plan.kind == "transformer" else x.flatten(2).mean(2) if x.ndim > 2 else x
        y = self.head(x)
        return y if self.final is None else self.final(y)


class HalfRMSNorm(nn.RMSNorm):
    """RMS norm that squares in float16, as hand-written ones do under mixed precision."""

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape and precision."""
        half = x.half()
        y = half * torch.rsqrt(half.square().mean(-1, keepdim=True) + 1e-5)
        return y.to(x.dtype) * self.weight


class HalfFirst(nn.Module):
    """Casts to float16 in front of such a norm; channels are axis 1 or the last."""

    def __init__(self, width: int, axis: int) -> None:
        super().__init__()
        self.axis, self.norm = axis, HalfRMSNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape, in float32."""
        return self.norm(x.movedim(self.axis, -1).half()).movedim(-1, self.axis).float()


def norm_for(plan: Plan) -> nn.Module | None:
    """The plan's norm; by default batch norm, in a Transformer layer norm."""
    if plan.norm is not None:
        made = plan.norm(plan.width)
        return None if isinstance(made, nn.Identity) else made
    default = {"cnn": nn.BatchNorm2d, "mlp": nn.BatchNorm1d, "tcn": nn.BatchNorm1d, "transformer": nn.LayerNorm}
    return default[plan.kind](plan.width)


def data(plan: Plan, count: int = 512) -> tuple[Tensor, Tensor]:
    """Classes with their own means, noise around them; sequences have 16 or 20 positions."""
    shape = {"cnn": (3, 8, 8), "mlp": (20,), "tcn": (6, 16), "transformer": (20, 6)}[plan.kind]
    means = torch.randn(CLASSES, *shape)
    y = torch.arange(count) * CLASSES // count if plan.ordered else torch.randint(0, CLASSES, (count,))
    x = 0.7 * means[y] + torch.randn(count, *shape)
    if plan.padded:
        lengths = torch.randint(4, 13, (count, 1, 1))
        x = x * (torch.arange(16) < lengths)
    return x, y


def start(plan: Plan) -> tuple[nn.Module, Tensor, Tensor]:
    """The network with its fault, and the examples, from the plan's seed."""
    torch.manual_seed(plan.seed)
    net = Net(plan)
    for change in plan.change:
        change(net)
    return net, *data(plan)


def optimizer_for(plan: Plan, net: nn.Module) -> torch.optim.Optimizer:
    """Of all that is trained."""
    trained = [value for value in net.parameters() if value.requires_grad]
    if plan.sgd:
        return torch.optim.SGD(trained, lr=plan.lr, weight_decay=plan.decay, momentum=0.9)
    return torch.optim.AdamW(trained, lr=plan.lr, weight_decay=plan.decay)


def norms(net: nn.Module) -> list[Any]:
    """The blocks' norms."""
    return [module for path, module in net.named_modules() if "norm" in type(module).__name__.lower()]


def setting(**values: Any) -> Callable[[nn.Module], None]:
    """Sets attributes of all norms."""

    def change(net: nn.Module) -> None:
        for norm in norms(net):
            for name, value in values.items():
                setattr(norm, name, value)

    return change


def filling(name: str, value: float, trains: bool = True) -> Callable[[nn.Module], None]:
    """Fills a parameter of all norms."""

    def change(net: nn.Module) -> None:
        for norm in norms(net):
            parameter = getattr(norm, name)
            nn.init.constant_(parameter, value)
            parameter.requires_grad_(trains)

    return change


def freeze(net: nn.Module) -> None:
    """All but the head."""
    for path, value in net.named_parameters():
        value.requires_grad_(path.startswith("head"))


def enlarge(net: nn.Module) -> None:
    """Initial weights 8 times as large."""
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            module.weight.data *= 8


def bare(_: int) -> nn.Module:
    return nn.Identity()


def over_positions(plan: Plan) -> Callable[[int], nn.Module]:
    """Layer norm over the last axis, where the positions are."""
    length = {"cnn": 8, "tcn": 16, "transformer": 20}[plan.kind]
    return lambda _: nn.LayerNorm(length)


def half(plan: Plan) -> Callable[[int], nn.Module]:
    return lambda width: HalfFirst(width, -1 if plan.kind in ("mlp", "transformer") else 1)
