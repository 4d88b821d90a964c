"""A trained network's predictions for examples of the validation split, as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from normlab.data.batch import IGNORE, Batch
from normlab.data.load import Data
from normlab.data.splits import Examples

SHOWN = 24  # examples
TAIL = 60  # characters of a window's text before the token to predict


@dataclass(frozen=True)
class Samples:
    """A few examples.

    rows    one per example; under `image` an array [H, W] or [H, W, C] of uint8
    """

    columns: list[str]
    rows: list[list[Any]]


def sample_predictions(model: nn.Module, data: Data) -> Samples:
    """Let the model predict the first examples of the validation split. It stays in eval mode."""
    model.eval()
    split = data.split("validation")
    batch = split.gather(split.in_order()[:SHOWN])
    logits = _logits(model, batch)
    if isinstance(split, Examples) and split.dense:
        return _segmented(split, data, logits.argmax(dim=1), batch.targets.cpu())
    if isinstance(split, Examples) and split.scale is not None:
        return _numbers(split, data, logits[:, 0], batch.targets.cpu())
    if isinstance(split, Examples):
        return _labelled(split, data, logits.softmax(dim=1), batch.targets.cpu())
    return _continued(data, batch, logits)


def class_names(data: Data) -> list[str]:
    """Names of the outputs of a classification; their numbers if the data have no names."""
    return list(data.classes or map(str, range(data.sizes.outputs)))


@torch.no_grad()
def _logits(model: nn.Module, batch: Batch) -> Tensor:
    weight = next(model.parameters())
    there = batch.to(weight.device)
    inputs = there.inputs.to(weight.dtype) if there.inputs.is_floating_point() else there.inputs
    logits: Tensor = model(inputs, there.mask)
    return logits.float().cpu()


def _labelled(split: Examples, data: Data, scores: Tensor, targets: Tensor) -> Samples:
    names = class_names(data)
    best = scores.max(dim=1)
    predicted, actual = best.indices.tolist(), targets.tolist()
    rows = [
        [
            _shown(split, data, n),
            names[actual[n]],
            names[predicted[n]],
            best.values[n].item(),
            actual[n] == predicted[n],
        ]
        for n in range(len(actual))
    ]
    what = "image" if data.sizes.kind == "images" else "text" if data.vocabulary else "example"
    return Samples([what, "actual", "predicted", "probability", "right"], rows)


def _numbers(split: Examples, data: Data, predicted: Tensor, targets: Tensor) -> Samples:
    """Numbers in their own unit."""
    assert split.scale is not None
    mean, std = split.scale
    pairs = zip((targets * std + mean).tolist(), (predicted * std + mean).tolist(), strict=True)
    rows = [[_shown(split, data, n), actual, guess, guess - actual] for n, (actual, guess) in enumerate(pairs)]
    return Samples(["example" if data.sizes.kind != "images" else "image", "actual", "predicted", "error"], rows)


def _segmented(split: Examples, data: Data, predicted: Tensor, targets: Tensor) -> Samples:
    """The share of each image's pixels whose class is right."""
    rows = []
    for n, (guess, actual) in enumerate(zip(predicted, targets, strict=True)):
        counts = actual != IGNORE
        rows.append([_shown(split, data, n), ((guess == actual) & counts).sum().item() / max(1, counts.sum().item())])
    return Samples(["image", "right pixels"], rows)


def _shown(split: Examples, data: Data, n: int) -> Any:
    inputs = split.inputs[n].cpu()
    if data.sizes.kind == "images":
        picture = inputs.movedim(0, -1).numpy()
        return picture[..., 0] if picture.shape[-1] == 1 else picture
    if data.vocabulary is not None:
        length = None if split.lengths is None else int(split.lengths[n])
        return data.vocabulary.decode(inputs[:length].tolist())
    return n


def _continued(data: Data, batch: Batch, logits: Tensor) -> Samples:
    """The last token of each window, from those before it."""
    assert data.vocabulary is not None
    lengths = [batch.inputs.shape[1]] * len(logits) if batch.mask is None else batch.mask.sum(dim=1).tolist()
    rows = []
    for n, length in enumerate(lengths):
        probability = logits[n, length - 1].softmax(dim=0)
        actual, guess = int(batch.targets[n, length - 1]), int(probability.argmax())
        before = data.vocabulary.decode(batch.inputs[n, :length].tolist())[-TAIL:]
        tokens = [data.vocabulary.pieces[token] for token in (actual, guess)]
        rows.append([before, *tokens, probability[guess].item(), probability[actual].item()])
    return Samples(["text", "next", "predicted", "probability", "probability of next"], rows)
