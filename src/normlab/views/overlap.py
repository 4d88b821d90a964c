"""Examples of validation and test that training has too, so that a score rewards remembering. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

from normlab.views.sequences import Arrays


def repeated(arrays: Arrays) -> list[str]:
    """A sentence for each split about inputs that occur in training, as the model sees them."""
    if "train.inputs" not in arrays:
        return []
    seen = set(_rows(arrays, "train"))
    said = []
    for split in ("validation", "test"):
        if f"{split}.inputs" in arrays:
            rows = list(_rows(arrays, split))
            if count := sum(row in seen for row in rows):
                said.append(f"{count} of {len(rows)} {split} examples have the same input as a training example")
    return said


def _rows(arrays: Arrays, split: str) -> Iterator[int]:
    """A hash of each input."""
    lengths = arrays.get(f"{split}.lengths")
    for i, row in enumerate(arrays[f"{split}.inputs"]):
        yield hash((row if lengths is None else row[: lengths[i]]).tobytes())
