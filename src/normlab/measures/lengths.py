"""Train a language model, then score it on longer windows than it was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from normlab.config.measures.training import Lengths
from normlab.config.schema import InputError, RunConfig
from normlab.config.signature import read
from normlab.data.batch import Batch
from normlab.data.load import Data
from normlab.data.splits import Windows
from normlab.folder.place import Place
from normlab.measures import training
from normlab.models.base import Model, outputs_of
from normlab.models.checkpoint import load_checkpoint
from normlab.session.session import Session
from normlab.trust.names import named_modules


@dataclass(frozen=True)
class Scores:
    """Sums over windows, at each time step.

    loss    nats of the scored tokens, float64 [L]
    count   scored tokens, [L]
    rms     RMS over the units of the last layer's h_t, float64 [L]; 0 except for an LSTM
    states  windows that have that step, [L]
    """

    loss: Tensor
    count: Tensor
    rms: Tensor
    states: Tensor


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Train as with measure=training, then score the best checkpoint's weights on windows of other lengths.

    Every window starts without context: h = 0 in an LSTM, nothing to attend to in a Transformer. For windows of L
    tokens, of validation and (with test=true) of test, in bits per character:

        validation/bits_per_character@L       over adjacent windows: the same tokens for every L, each predicted once.
                                              At L = task.max_length, with tokens=null, it is that of training.
                                              Longer windows have more context on average, because fewer
                                              tokens are near the start.
        validation/late_bits_per_character@L  only the later half of each window, of windows that overlap by half: the
                                              same tokens for every L (all but the first few), each with a context of
                                              L/2 to L tokens. Beyond the trained length only steps that were never
                                              trained count, so that a model that fails there can't hide it.

    If batch norm keeps statistics per step, later steps use those of the last trained step (Cooijmans et al. 2017,
    arXiv:1603.09025). For an LSTM, with r_t the mean over the windows of RMS(h_t), h_t the last layer's:

        drift@L       standard deviation of r_t over t = 1 … L, divided by its mean: 0 is a state of steady size
        late_drift@L  the same over the later half of the steps, without the start where h grows from 0
        drift, late_drift   at the longest L

    The run's metrics have one row per step t of the longest window: `position/bits_per_character` and `state/rms`.

    Returns:
        The summary of measure=training and the above; null if training diverged before its first validation.

    Raises:
        InputError: a split is shorter than half of the longest window.
    """
    options = config.measure
    assert isinstance(options, Lengths)
    session = Session(config, place)
    names = ["validation", "test"] if config.test else ["validation"]
    start = first_scored(options.lengths)
    for name in names:
        if (found := _tokens(session.data, name, options).shape[0] - 1) <= start:
            raise InputError(
                f"measure.lengths: half of a window of {max(options.lengths)} tokens is no less than the {found} that "
                f"are read of the {name} split; use shorter ones"
            )
    summary = training.train(session)
    trained = summary.get("validation/loss") is not None
    own = named_modules(config.norm, config.model)
    model = load_checkpoint(place.best, own).to(session.device) if trained else None
    for name in names:
        rate = _tokens_per_character(session.data, name)
        for length in options.lengths:
            both = None
            if model is not None:
                tokens = _tokens(session.data, name, options).to(session.device)
                both = _both(model, Windows(tokens, length), start, config)
            summary[f"{name}/bits_per_character@{length}"] = both and bits(both[0], rate)
            summary[f"{name}/late_bits_per_character@{length}"] = both and bits(both[1], rate)
            if name == "validation":
                summary |= _of_state(config, both and both[0], length)
                if both and length == max(options.lengths):
                    _log_steps(session, both[0], rate)
    return session.finish(summary)


def first_scored(lengths: tuple[int, ...]) -> int:
    """The first token (from 0) that is in the later half of a window of any of these lengths."""
    return max(length - length // 2 for length in lengths)


def _tokens(data: Data, name: str, options: Lengths) -> Tensor:
    """The tokens that are used: one more than are predicted."""
    split = data.split(name)
    assert isinstance(split, Windows)
    return split.tokens if options.tokens is None else split.tokens[: options.tokens + 1]


def _tokens_per_character(data: Data, name: str) -> float:
    split = data.split(name)
    assert isinstance(split, Windows)
    assert data.characters is not None
    return split.predicted / data.characters[name]


def _both(model: Model, split: Windows, start: int, config: RunConfig) -> tuple[Scores, Scores]:
    """Of adjacent windows, and of later halves."""
    # as many tokens per batch as in training's validations
    count = max(1, config.task.eval_batch_size * (config.task.max_length or split.length) // split.length)
    whole = score(model, split, split.in_order(), 0, count)
    return whole, score(model, split, late_windows(split, start), split.length - split.length // 2, count)


def late_windows(split: Windows, start: int) -> Tensor:
    """Starts of windows whose later halves contain every token from the one at `start` on exactly once."""
    half = split.length // 2
    lead = split.length - half
    return torch.arange(start - lead, split.predicted - lead, half)


@torch.no_grad()
def score(model: Model, split: Windows, index: Tensor, skip: int, count: int) -> Scores:
    """Scores of the windows that start at `index`, except their first `skip` tokens; `count` windows per batch."""
    zeros = torch.zeros(split.length, dtype=torch.float64)
    loss, scored, rms, states = zeros.clone(), zeros.clone(), zeros.clone(), zeros.clone()
    with outputs_of(model.hidden_layers()[-1:] if model.recurrent else []) as kept:
        for part in index.split(count):
            batch = split.gather(part)
            real = (torch.ones_like(batch.targets) if batch.mask is None else batch.mask).double()
            losses = _losses(model(batch.inputs, batch.mask), batch)
            late = real.clone()
            late[:, :skip] = 0
            loss += (losses * late).sum(0).cpu()
            scored += late.sum(0).cpu()
            states += real.sum(0).cpu()
            if kept:
                rms += (kept.pop().double().square().mean(-1).sqrt() * real).sum(0).cpu()
    return Scores(loss, scored, rms, states)


def _losses(logits: Tensor, batch: Batch) -> Tensor:
    """Nats of each token, [B, L]."""
    flat = F.cross_entropy(logits.flatten(0, 1).float(), batch.targets.flatten(), reduction="none")
    return torch.where(flat.isfinite(), flat.double(), math.nan).view_as(batch.targets)


def bits(scores: Scores, tokens_per_character: float) -> float:
    """Bits per character."""
    return float(scores.loss.sum() / scores.count.sum()) / math.log(2) * tokens_per_character


def _of_state(config: RunConfig, scores: Scores | None, length: int) -> dict[str, float | None]:
    """The drifts of a recurrent model."""
    if not read(config.model["_target_"]).constants["recurrent"]:
        return {}
    sizes = None if scores is None else scores.rms / scores.states
    found = {
        f"drift@{length}": None if sizes is None else drift(sizes),
        f"late_drift@{length}": None if sizes is None else drift(sizes[length - length // 2 :]),
    }
    assert isinstance(config.measure, Lengths)
    longest = length == max(config.measure.lengths)
    return found | ({name.partition("@")[0]: value for name, value in found.items()} if longest else {})


def drift(sizes: Tensor) -> float:
    """Standard deviation over time divided by the mean."""
    return float(sizes.std(correction=0) / sizes.mean())


def _log_steps(session: Session, scores: Scores, tokens_per_character: float) -> None:
    """Log one row per step of the window."""
    columns = {"position/bits_per_character": scores.loss / scores.count / math.log(2) * tokens_per_character}
    if scores.rms.any():
        columns["state/rms"] = scores.rms / scores.states
    for i in range(len(scores.loss)):
        session.log({name: float(values[i]) for name, values in columns.items()}, i + 1)
