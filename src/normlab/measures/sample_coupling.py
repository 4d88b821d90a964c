"""Which examples and positions of a batch depend on each other, determined exactly from the Jacobian."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from normlab.config.measures.dependence import SampleCoupling
from normlab.config.schema import InputError, RunConfig
from normlab.data.batch import Batch
from normlab.folder.place import Place
from normlab.models.base import Model
from normlab.models.build import factory
from normlab.norms.base import Norm
from normlab.session.session import Session

# kind of site → its layout and the axes of its input; recurrent: all steps of a recurrence at once
SITES = {"BC": ("BC", "BC"), "BCHW": ("BCHW", "BCHW"), "BTC": ("BTC", "BTC"), "recurrent": ("BC", "BTC")}
LENGTHS = {"B": 3, "T": 4, "H": 2, "W": 2}


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Coupling of the model's outputs, and along each axis of a norm site, in training and in eval mode.

    A coupling is the greatest |∂y_i/∂x_j| over pairs i ≠ j, divided by the greatest over i = j: how much another
    input changes an output, relative to its own input. Without coupling it is exactly 0.0, because a gradient that is
    not connected, or only through products with 0, is exactly 0. Everything is float64 and runs on the CPU.

        train/examples    y_i the output of example i, x_j the input of example j (tokens: their vectors)
        train/positions   of language models: output at t of the first example, its input at s ≠ t
        train/future      likewise, s > t: more than 0 means that a model sees what it should predict
        train/site/BTC/T  of one norm at a `BTC` site: y and x differ along T alone. The axes above 0 are those of the
                          norm's statistics, as far as gradients see them (not those of detached_layer)
        eval/…            the same in eval mode
        as_declared       a site's couplings in training are as the norm declares: couples_examples, couples_positions

    The model is untrained, on real examples. For each output, v · y is differentiated, with v ~ N(0, 1) for each entry:
    this is 0 if and only if all of ∂y/∂x is 0, with probability 1. At the sites, the whole Jacobian is computed at
    random inputs.
    """
    options = config.measure
    assert isinstance(options, SampleCoupling)
    session = Session(config, place)
    model = session.model().double()
    torch.manual_seed(session.seed("noise"))
    batch = session.sample(options.examples, "measure.examples")
    if session.data.sizes.causal:
        batch = beginnings(batch, options.positions)
    summary: dict[str, Any] = {}
    sites = norm_sites(config.norm)
    for mode in ("train", "eval"):
        found = model_couplings(model.train(mode == "train"), batch.inputs, batch.mask)
        for kind, norm in sites.items():
            couplings = site_couplings(norm.train(mode == "train"), SITES[kind][1])
            found |= {f"site/{kind}/{axis}": value for axis, value in couplings.items()}
        summary |= {f"{mode}/{name}": value for name, value in found.items()}
    summary["as_declared"] = all(_as_declared(norm, kind, summary) for kind, norm in sites.items())
    summary["parameters"] = sum(p.numel() for p in model.parameters())
    return session.finish(summary)


def model_couplings(model: Model, inputs: Tensor, mask: Tensor | None = None) -> dict[str, float | None]:
    """`examples` and, for language models, `positions` and `future`, of one forward pass."""
    x, y = _forward(model, inputs, mask)
    v = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=y.dtype)
    sizes = torch.stack([_sizes(y[i], x, v[i], 1) for i in range(len(y))])  # [i, j]
    found = {"examples": coupling(sizes)}
    if y.ndim == 3:
        sizes = torch.stack([_sizes(y[0, t], x, v[0, t], 2)[0] for t in range(y.shape[1])])  # [t, s]
        found |= {"positions": coupling(sizes), "future": coupling(sizes, future=True)}
    return found


def _forward(model: Model, inputs: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The model's input as a leaf of the graph (for tokens, their vectors), and its output."""
    if inputs.is_floating_point():
        leaf = inputs.double().requires_grad_()
        return leaf, model(leaf, mask)
    leaves: list[Tensor] = []

    def cut(_module: nn.Module, _arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[0]

    handle = model.token_vectors().register_forward_hook(cut)
    y = model(inputs, mask)
    handle.remove()
    return leaves[0], y


def _sizes(y: Tensor, x: Tensor, v: Tensor, axes: int) -> Tensor:
    """Greatest |∂(v · y)/∂x| at each index of x's first `axes` axes."""
    (gradient,) = torch.autograd.grad(y, x, v, retain_graph=True)
    return gradient.abs().flatten(axes).amax(-1)


def coupling(sizes: Tensor, *, future: bool = False) -> float | None:
    """Greatest of sizes [i, j] over j ≠ i (`future`: j > i), relative to that over j = i; None if that is 0."""
    others = sizes.triu(1) if future else sizes - torch.diag(sizes.diag())
    own = sizes.diag().max()
    return float(others.max() / own) if own > 0 else None


def norm_sites(node: dict[str, Any], gain_init: float | None = None) -> dict[str, Norm]:
    """The norm of the config alone, at each kind of site where it is valid."""
    channels = 2 * int(node.get("groups", 8))
    sites = {}
    for kind, (layout, axes) in SITES.items():
        positions = LENGTHS["T"] if "T" in axes else None
        try:
            sites[kind] = factory(node)(channels, layout, positions=positions, gain_init=gain_init).double()
        except InputError:  # the norm is not valid there
            continue
    return sites


def site_couplings(norm: Norm, axes: str) -> dict[str, float | None]:
    """Coupling along each axis, by the whole Jacobian at a random input."""
    shape = [norm.num_features if axis == "C" else LENGTHS[axis] for axis in axes]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(norm, x)
    return {axis: coupling(_along(jacobian, i)) for i, axis in enumerate(axes)}


def _along(jacobian: Tensor, axis: int) -> Tensor:
    """Greatest |∂y_p/∂x_q| over p and q that differ along one axis alone, by their indices there: [n, n]."""
    rank = jacobian.ndim // 2
    moved = jacobian.abs().movedim((axis, rank + axis), (0, rank))
    length, rest = moved.shape[0], moved.shape[1:rank].numel()
    return moved.reshape(length, rest, length, rest).diagonal(dim1=1, dim2=3).amax(-1)


def _as_declared(norm: Norm, kind: str, summary: dict[str, Any]) -> bool:
    found = tuple(bool(summary.get(f"train/site/{kind}/{axis}")) for axis in "BT")
    return found == (norm.couples_examples, norm.couples_positions)


def beginnings(batch: Batch, steps: int) -> Batch:
    """The batch with only the first time steps of every window."""
    mask = None if batch.mask is None else batch.mask[:, :steps]
    return Batch(batch.inputs[:, :steps], batch.targets[:, :steps], mask, batch.total)
