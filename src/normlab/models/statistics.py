"""Refuses statistics over a single value before training.

If a norm's statistics are of one value, that value is its own mean: for any input, centred norms return the bias, and a
root mean square returns only the sign. Such a network trains without an error, but stays at chance.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from normlab.config.schema import InputError, Sizes
from normlab.models.base import Model
from normlab.norms.base import Norm


def check_statistics(model: Model, sizes: Sizes, examples: int | None = None) -> None:
    """Refuse a model in which a norm takes its statistics over a single value.

    The actual sizes at the norms count: images after the model's stages, and the shortest training sequence. If the
    number of channels alone doesn't decide, the model is run once, in eval mode and without gradients, to find them.

    Args:
        model: as built.
        sizes: of the data.
        examples: in the smallest training batch of one process. None: two, or all if there are fewer.

    Raises:
        InputError: there is such a site; the message names the first, and what would work.
    """
    batch = min(2, sizes.examples or 2) if examples is None else examples
    norms = {path: module for path, module in model.named_modules() if isinstance(module, Norm)}
    doubtful = {path: norm for path, norm in norms.items() if norm.values_per_statistic({"B": batch}) == 1}
    if not doubtful:
        return
    needs_a_pass = any(set(norm.pooled) & set("LDHWT") for norm in doubtful.values())
    lengths = _lengths(model, sizes) if needs_a_pass else {}
    for path, norm in doubtful.items():
        here: Mapping[str, int] = {**lengths.get(path, {}), "B": batch}
        if norm.values_per_statistic(here) == 1:
            raise InputError(_refusal(path, norm, here, sizes))


def _lengths(model: Model, sizes: Sizes) -> dict[str, dict[str, int]]:
    """Lengths of the axes at each norm, for one example as small as any in the data; without B."""
    found: dict[str, dict[str, int]] = {}
    handles = []
    for path, module in model.named_modules():
        if isinstance(module, Norm):

            def keep(norm: nn.Module, arguments: tuple[Tensor, ...], path: str = path) -> None:
                x = arguments[0]
                assert isinstance(norm, Norm)
                letters = norm.layout if x.ndim == len(norm.layout) else "BTC"  # inside a recurrence: all its steps
                axes = zip(letters, x.shape, strict=True)
                found.setdefault(path, {axis: length for axis, length in axes if axis not in "BC"})

            handles.append(module.register_forward_pre_hook(keep))
    training = model.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), model.unfused():
            model.eval()(_smallest(model, sizes))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return found


def _smallest(model: Model, sizes: Sizes) -> Tensor:
    like = next(model.parameters())
    shape = sizes.shape if sizes.kind in ("images", "table") else (sizes.shortest or sizes.shape[0], *sizes.shape[1:])
    dtype = torch.long if sizes.kind == "tokens" else like.dtype
    return torch.zeros(1, *shape, dtype=dtype, device=like.device)


def _refusal(path: str, norm: Norm, lengths: Mapping[str, int], sizes: Sizes) -> str:
    few = f"; the training split has {sizes.examples}" if sizes.examples == 1 else ""
    by_axis = {  # what is wrong, and what would be right
        "B": (f"1 of {lengths.get('B', 1)} examples{few}", "batches of at least 2 examples for each statistic"),
        "C": (f"1 of {norm.num_features} channels", "more channels for each statistic"),
        "H": (f"the image is {lengths.get('H', 1)} x {lengths.get('W', 1)} there", "larger images, fewer stages"),
        "L": ("the signal has 1 value there", "longer signals, fewer stages"),
        "D": (f"the volume has depth {lengths.get('D', 1)} there", "larger volumes, fewer stages"),
        "T": ("the shortest training sequence has 1 time step", "longer sequences"),
    }
    said = [by_axis[axis] for axis in norm.pooled if axis in by_axis]
    other = [f"norm={norm.nearest}"] if norm.nearest != norm.name and "C" not in norm.pooled else []
    return (
        f"norm={norm.name} would take its statistics over a single value at {path} "
        f"({', '.join(reason for reason, _ in said)}), so its output would not depend on its input: "
        f"use {', or '.join([', '.join(remedy for _, remedy in said), *other])}"
    )
