"""Over which axes a norm computes its statistics, determined from its output alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from normlab.config.measures.dependence import Axes
from normlab.config.schema import RunConfig
from normlab.config.seeds import derive
from normlab.folder.place import Place
from normlab.measures.sample_coupling import LENGTHS as STEPS
from normlab.measures.sample_coupling import SITES, norm_sites
from normlab.norms.base import Norm
from normlab.session.session import Session

LENGTHS = {"T": STEPS["T"], "H": 4, "W": 3}  # no step beyond those for which a norm keeps statistics
# claim → kind of site → the axes that one set of statistics pools, if the claim is true; recurrent: one set per step
OVER = {
    "batch": {"BC": "B", "BCHW": "BHW", "BTC": "BT", "recurrent": "B"},
    "features": {"BC": "C", "BCHW": "CHW", "BTC": "C", "recurrent": "C"},
}


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Moments of a norm's output over both sets of axes, and what changes it, in training and in eval mode.

    Everything is float64 on the CPU, of the norm alone at each kind of site (see `sample_coupling`), with gain 1 and
    bias 0, at a random input whose mean and spread differ from example to example and from feature to feature.

        train/site/BC/mean_over_batch         of the means of y over B (BHW, BT), one per feature, the furthest from 0
        train/site/BC/variance_over_batch     of its biased variances there, the furthest from 1; it is not exactly 1
                                              where the norm's own is: that has σ² / (σ² + eps)
        train/site/BC/square_over_batch       likewise the mean squares, which are 1 where a norm does not centre
        train/site/BC/mean_over_features      the same over C (CHW), one mean per example and time step; and so on
        train/site/BC/moved_by/B              greatest change of y at index 0 of axis B when all that lies at the
                                              other indices of that axis is replaced; exactly 0.0 if nothing of it
                                              counts there
        eval/…                                the same in eval mode, after one forward pass in training
        site/BC/train_eval_difference         greatest difference of y between the two modes
        over_batch_error, over_features_error over all sites in training, how far those means are from 0 and variances
                                              from 1 at most
        moved_by_examples, moved_by_features  the greatest moved_by/B and moved_by/C over all sites in training
        train_eval_difference                 the greatest over all sites
        as_declared                           what moves a site in training is what the norm says: couples_examples,
                                              couples_positions

    A norm's statistics run over the axes that move it. Moments that are 0 and 1 over some axes are so over more axes
    too: instance norm's, over HW, are so over BHW and over CHW.

    Sources: Ioffe and Szegedy 2015, arXiv:1502.03167; Ba et al. 2016, arXiv:1607.06450, section 3.
    """
    options = config.measure
    assert isinstance(options, Axes)
    session = Session(config, place)
    seed = session.seed("inputs")
    summary: dict[str, Any] = {}
    sites = norm_sites(config.norm, gain_init=1.0)
    for kind, norm in sites.items():
        summary |= site_axes(norm, kind, options.examples, seed)
    summary = {**over_all(summary), **summary}
    summary["as_declared"] = all(_as_declared(norm, kind, summary) for kind, norm in sites.items())
    summary["parameters"] = sum(p.numel() for p in session.model().parameters())
    return session.finish(summary)


@torch.no_grad()
def site_axes(norm: Norm, kind: str, examples: int, seed: int) -> dict[str, float]:
    """Everything that `measure` reports for one site. Running statistics are updated."""
    axes, lengths = SITES[kind][1], {"B": examples, "C": norm.num_features, **LENGTHS}
    x, other = (site_input(axes, lengths, derive(seed, name)) for name in ("one", "other"))
    outputs = {"train": norm.train()(x), "eval": norm.eval()(x)}
    difference = float((outputs["train"] - outputs["eval"]).abs().max())
    found = {f"site/{kind}/train_eval_difference": difference}
    for mode, y in outputs.items():
        norm.train(mode == "train")
        for name, over in OVER.items():
            values = furthest_moments(y, [axes.index(axis) for axis in over[kind]])
            found |= {f"{mode}/site/{kind}/{moment}_over_{name}": value for moment, value in values.items()}
        for i, axis in enumerate(axes):
            found[f"{mode}/site/{kind}/moved_by/{axis}"] = _moved(norm, x, other, i)
    return found


def over_all(found: dict[str, float]) -> dict[str, float]:
    """The greatest errors, movements and differences over all sites."""
    training = {name: value for name, value in found.items() if name.startswith("train/")}

    def greatest(values: dict[str, float], ending: str, right: float = 0.0) -> float:
        return max(abs(value - right) for name, value in values.items() if name.endswith(ending))

    errors = {
        f"over_{name}_error": max(
            greatest(training, f"/mean_over_{name}"), greatest(training, f"/variance_over_{name}", 1)
        )
        for name in OVER
    }
    moved = {
        f"moved_by_{name}": greatest(training, f"/moved_by/{axis}")
        for name, axis in (("examples", "B"), ("features", "C"))
    }
    return errors | moved | {"train_eval_difference": greatest(found, "/train_eval_difference")}


def site_input(axes: str, lengths: dict[str, int], seed: int) -> Tensor:
    """Random float64; each index of each axis has its own mean from N(0, 1) and scale between 1/2 and 2."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn([lengths[axis] for axis in axes], generator=generator, dtype=torch.float64)
    for i, axis in enumerate(axes):
        along = [-1 if i == j else 1 for j in range(len(axes))]
        mean = torch.randn(lengths[axis], generator=generator, dtype=torch.float64)
        exponent = 2 * torch.rand(lengths[axis], generator=generator, dtype=torch.float64) - 1
        x = x * 2 ** exponent.view(along) + mean.view(along)
    return x


def furthest_moments(y: Tensor, over: list[int]) -> dict[str, float]:
    """Over some axes of y: the mean furthest from 0, and the variance and the mean square furthest from 1."""
    means = y.mean(over).flatten()
    variances = y.var(over, correction=0).flatten()
    squares = y.square().mean(over).flatten()
    return {
        "mean": float(means[means.abs().argmax()]),
        "variance": float(variances[(variances - 1).abs().argmax()]),
        "square": float(squares[(squares - 1).abs().argmax()]),
    }


def _moved(norm: Norm, x: Tensor, other: Tensor, axis: int) -> float:
    """Change of y at index 0 of an axis when x becomes `other` at all its other indices."""
    changed = torch.cat([x.narrow(axis, 0, 1), other.narrow(axis, 1, x.shape[axis] - 1)], axis)
    return float((norm(changed) - norm(x)).narrow(axis, 0, 1).abs().max())


def _as_declared(norm: Norm, kind: str, summary: dict[str, Any]) -> bool:
    found = tuple(summary.get(f"train/site/{kind}/moved_by/{axis}", 0.0) > 0 for axis in "BT")
    return found == (norm.couples_examples, norm.couples_positions)
