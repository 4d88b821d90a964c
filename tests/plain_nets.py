"""Networks in plain PyTorch, as people write them, with norms as libraries name them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Bottleneck(nn.Module):
    """A residual block with activations in place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + x)


class ResNet(nn.Module):
    """Four sites: three of images and one behind the pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.layer1 = nn.Sequential(Bottleneck(8))
        self.head_norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.head_norm(self.layer1(self.stem(x)).mean((2, 3))))


class T5Norm(nn.Module):
    """RMS norm by the formula, as T5 and its descendants have it."""

    def __init__(self, width: int, eps: float = 1e-6, offset: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width) - offset)
        self.variance_epsilon = eps
        self.offset = offset

    def forward(self, hidden_states: Tensor) -> Tensor:
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        return (self.offset + self.weight) * (hidden_states * torch.rsqrt(variance + self.variance_epsilon))


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = T5Norm(width // 2)
        self.norm2 = nn.LayerNorm(width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(self.q_norm(hidden_states=q), k, v)
        x = x + y.transpose(1, 2).flatten(2)
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Seven sites: three per layer, of which one has four axes, and a last one."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.layers = nn.ModuleList(Layer(16) for _ in range(2))
        self.norm = T5Norm(16, offset=1.0)
        self.head = nn.Linear(16, 20)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class ChannelsFirst(nn.Module):
    """Layer norm of the channels at each position of a signal."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width, 1))
        self.beta = nn.Parameter(torch.zeros(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(1, keepdim=True)
        return self.gamma * x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-5) + self.beta


class Volumes(nn.Module):
    """Five sites: of volumes and of signals; one module stands in two places."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.GroupNorm(2, 8)
        self.down = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.InstanceNorm3d(8), nn.PReLU())
        self.first = nn.Sequential(nn.Conv3d(8, 8, 3, padding=1), shared, nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.Conv3d(8, 8, 3, padding=1), shared, nn.ReLU(inplace=True))
        self.signal = nn.Sequential(nn.Conv1d(8, 8, 3, padding=1), nn.BatchNorm1d(8), nn.ReLU(), ChannelsFirst(8))
        self.head = nn.Linear(8, 3)
        self.last = nn.LayerNorm(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(self.down(x)))
        return self.last(self.head(self.signal(x.flatten(2)).mean(2)))


NETS: dict[str, tuple[type[nn.Module], Tensor, int]] = {  # with an input and the number of sites
    "resnet": (ResNet, torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)), 4),
    "transformer": (Transformer, torch.arange(24).view(4, 6) % 20, 7),
    "volumes": (Volumes, torch.randn(3, 1, 4, 3, 2, generator=torch.Generator().manual_seed(0)), 5),
}


def trained(name: str) -> tuple[nn.Module, Tensor]:
    """A network whose norms have learnt something, and an input."""
    kind, x, _ = NETS[name]
    torch.manual_seed(1)
    net = kind()
    with torch.no_grad():
        for path, value in (*net.named_parameters(), *net.named_buffers()):
            if value.is_floating_point() and value.ndim == 1 and "conv" not in path:
                value.add_(0.3 * torch.rand_like(value))
    return net, x
