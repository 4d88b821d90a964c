"""The packs of time series: MNIST-1D and wrist motion. From a package's files to the rows of each split."""

from __future__ import annotations

import importlib
import io
import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pack_contents import Files, Row, Splits

VALIDATION = 800  # of the 4,000 training signals of MNIST-1D, the last

STEPS = 100  # of a window of wrist motion: 2 s, about one repetition of an exercise
SHORTEST = 50  # the rest of a recording is a window too if it is at least so long
DECIMALS = 3  # of wrist motion: 0.001 g and 0.001 rad/s, below the sensor's noise
SUBJECTS = {"train": (1, 2, 3, 4, 5, 6), "validation": (7, 8), "test": (9, 10)}


def mnist1d(files: Files) -> Splits:
    """The package's own generator with its default arguments, seed included: 4,000 signals and 1,000 for testing."""
    with tempfile.TemporaryDirectory() as folder:
        for name in (name for name in files if name.startswith("mnist1d/")):
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(files[name])
        sys.path.insert(0, folder)
        try:
            made = importlib.import_module("mnist1d.data").make_dataset()
        finally:
            sys.path.remove(folder)

    def rows(signals: NDArray[np.float64], digits: NDArray[np.int64]) -> list[Row]:
        return [
            {"signal": signal.tolist(), "digit": int(digit)}
            for signal, digit in zip(signals.astype(np.float32), digits, strict=True)
        ]

    known, test = rows(made["x"], made["y"]), rows(made["x_test"], made["y_test"])
    return {"train": known[:-VALIDATION], "validation": known[-VALIDATION:], "test": test}


def wrist_motion(files: Files) -> Splits:
    """Windows of the recordings, in their order; a subject is in one split."""
    recorded = _numbers_only(files["seglearn/data/watch_dataset.npy"])
    splits: Splits = {split: [] for split in SUBJECTS}
    for number, motion in enumerate(recorded["X"]):
        subject = int(recorded["subject"][number])
        split = next(split for split, subjects in SUBJECTS.items() if subject in subjects)
        splits[split] += [
            {
                "motion": window.tolist(),
                "exercise": recorded["y_labels"][recorded["y"][number]],
                "subject": subject,
                "side": "right" if recorded["side"][number] else "left",
                "recording": number,
                "start": start,
            }
            for start, window in windows(motion.round(DECIMALS).astype(np.float32))
        ]
    return splits


def windows(motion: NDArray[Any]) -> list[tuple[int, NDArray[Any]]]:
    """Start and steps of adjacent windows."""
    found = [(start, motion[start : start + STEPS]) for start in range(0, len(motion), STEPS)]
    return [(start, window) for start, window in found if len(window) >= SHORTEST]


class _Arrays(pickle.Unpickler):
    """Unpickles arrays and plain values; a pickle could otherwise call any function."""

    def find_class(self, module: str, name: str) -> Any:
        """The few functions that arrays need.

        Raises:
            UnpicklingError: it asks for another.
        """
        known = {
            ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _latin_bytes,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"the file asks for {module}.{name}, which no array needs")
        return known[module, name]


def _latin_bytes(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes into a pickle that Python 2 can read."""
    return text.encode(encoding)


def _numbers_only(content: bytes) -> Any:
    """The object in an .npy file."""
    file = io.BytesIO(content)
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    found = _Arrays(file, encoding="latin1").load()
    return found.item()
