"""Networks of public packages: all their norms found, every norm swapped in, and the same norm the same network.

`python tests/unit/test_architectures.py` prints the table of docs/your-network.md.
"""

from __future__ import annotations

import copy
import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import normlab
from architectures import ARCHITECTURES, Built, tensors
from normlab.config.schema import InputError
from normlab.sites.options import names
from normlab.sites.swap import SwapReport

pytestmark = pytest.mark.slow

# not to be replaced: norms that take a gate, and functions
NOT_MODULES = {"Swin UNETR": {"swinViT"}}
GATED = {"Mamba 2": {"backbone.layers.0.mixer.norm"}}


def build(name: str) -> Built:
    pytest.importorskip(ARCHITECTURES[name][1])
    torch.manual_seed(0)
    net, x = ARCHITECTURES[name][2](name)
    with torch.no_grad():  # as if the norms had learnt something
        for path, value in (*net.named_parameters(), *net.named_buffers()):
            if value.ndim == 1 and value.is_floating_point() and re.search("norm|ln_|bn|running|LayerNorm", path):
                value.add_(0.2 * torch.rand_like(value))
    return net, x


def run(net: nn.Module, x: Any, training: bool) -> list[Tensor]:
    torch.manual_seed(0)
    np.random.seed(0)
    net.train(training)
    return list(tensors(net(**x) if isinstance(x, dict) else net(x)))


def train(net: nn.Module, x: Any) -> None:
    """A step of SGD with finite gradients, which reach the norms."""
    loss = torch.stack([y.square().mean() for y in run(net, x, True)]).sum()
    loss.backward()
    gradients = [value.grad for value in net.parameters() if value.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    torch.optim.SGD(net.parameters(), 1e-3).step()


def swapped(net: nn.Module, norm: str, x: Any) -> SwapReport | str:
    """What was done, or why it was refused."""
    try:
        return normlab.swap_norms(net, norm, x, **({"groups": 2} if norm == "group" else {}))
    except InputError as error:
        return str(error)


def by_name(net: nn.Module) -> set[str]:
    """Norms counted by the names of classes alone; those inside others are parts of them."""
    pattern = r"(?<!Weight)Norm(\dd|Gated)?$"  # weight norm is no norm of activations
    named = [path for path, module in net.named_modules() if re.search(pattern, type(module).__name__)]
    return {path for path in named if not any(path.startswith(f"{other}.") for other in named)}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_all_norms_are_found(name: str) -> None:
    net, x = build(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    sites = normlab.norm_sites(net, x)
    assert {site.path for site in sites} - NOT_MODULES.get(name, set()) == by_name(net)
    left = {site.path for site in sites if site.obstacle}
    assert left == NOT_MODULES.get(name, set()) | GATED.get(name, set())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


# the usual norms everywhere, and each of the others in a sixth of the networks
USUAL = ("batch", "layer", "group", "rms")
CASES = [
    (name, norm)
    for i, name in enumerate(ARCHITECTURES)
    for j, norm in enumerate(names())
    if norm in USUAL or (i + j) % 6 == 0
]


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_every_norm_trains_or_is_refused(name: str, norm: str) -> None:
    net, x = build(name)
    modules = [id(module) for module in net.modules()]
    report = swapped(net, norm, x)
    if isinstance(report, str):
        assert [id(module) for module in net.modules()] == modules
        assert re.search(r"^\S+ \(\w+ at .*Nothing was replaced$|^regularized_batch adds terms to the loss", report)
        return
    assert len(report.done) == len(by_name(net) | {site.site.path for site in report}) - len(GATED.get(name, ()))
    train(net, x)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_same_norm_is_the_same_network(name: str) -> None:
    net, x = build(name)
    sites = normlab.norm_sites(net, x).swappable
    for norm in {site.norm for site in sites} & {*names()}:
        same, twin = copy.deepcopy(net), copy.deepcopy(net)
        report = normlab.swap_norms(same, norm, x, only=[site.path for site in sites if site.norm == norm])
        assert not any(site.lost for site in report)
        tolerance = 1e-6 if norm in ("batch", "layer") else 1e-5
        for training in (True, False):
            for ours, theirs in zip(run(same, x, training), run(twin, x, training), strict=True):
                assert (ours - theirs).abs().max() <= tolerance * (1 + theirs.abs().max())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_frozen_map_is_batch_norm(name: str) -> None:
    net, x = build(name)
    if not any(site.norm == "batch" for site in normlab.norm_sites(net, x)):
        return
    frozen = copy.deepcopy(net)
    normlab.swap_norms(frozen, "frozen", x)
    for ours, theirs in zip(run(frozen, x, False), run(net, x, False), strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * (1 + theirs.abs().max())
    train(frozen, x)


def table() -> Iterator[str]:
    """Sites and swaps of every network."""
    yield "| network | package | norms | sites | swappable | refused |"
    yield "|---|---|---|---|---|---|"
    for name, (_, package, _build) in ARCHITECTURES.items():
        net, x = build(name)
        sites = normlab.norm_sites(net, x)
        refused = [f"`{norm}`" for norm in names() if isinstance(swapped(copy.deepcopy(net), norm, x), str)]
        kinds = Counter(f"`{site.norm}` {site.layout}" for site in sites if not site.obstacle)
        counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        cells = (name, package, counted, str(len(sites)), str(len(sites.swappable)), ", ".join(refused) or "–")
        yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in table())
