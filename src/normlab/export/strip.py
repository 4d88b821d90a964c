"""From a checkpoint to files that serve it: folded, exported, checked on real examples and timed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from normlab.config.errors import InputError
from normlab.config.schema import RunConfig
from normlab.data.fitted import Fitted
from normlab.data.load import load
from normlab.data.splits import Split
from normlab.export.artefacts import (
    Call,
    Signature,
    exported,
    missing_for_onnx,
    read_onnx,
    read_pt2,
    write_onnx,
    write_pt2,
)
from normlab.export.compared import REPEATS, TOLERANCE, Feed, difference, latencies
from normlab.export.fold import Stripped, check_fixed, strip
from normlab.folder.files import hash_file
from normlab.folder.jsonfile import write_json
from normlab.models.base import Model
from normlab.models.checkpoint import load_checkpoint, read_checkpoint, recorded
from normlab.session.known import known_data

WEIGHTS, PROGRAM, ONNX, REPORT = "weights.pt", "model.pt2", "model.onnx", "strip.json"


@dataclass(frozen=True)
class Asked:
    """What to strip, and how.

    ckpt     the checkpoint
    output   folder of the files
    data     where the checkpoint's data are now; None: where they were
    cache    folder of prepared data
    trust    modules of the user's that the checkpoint may name
    threads  CPU threads
    fold     False: export the network as it is
    """

    ckpt: Path
    output: Path
    data: str | None
    cache: Path
    trust: tuple[str, ...] = ()
    threads: int = 1
    fold: bool = True


def stripped(asked: Asked, tell: Callable[[str], None]) -> dict[str, Any]:
    """Fold and export a checkpoint's network, check every file against it on validation examples, and time them all.

    Nothing is written unless all files agree with the checkpoint.

    Args:
        tell: gets a line before each step that takes a while.

    Returns:
        What strip.json has: what was folded and what was not, the files with the greatest difference of an output, and
        the times.

    Raises:
        InputError: there is no checkpoint, it is damaged, its data are gone, its network can't be exported, or a
            file's outputs differ from the checkpoint's.
    """
    torch.set_num_threads(asked.threads)
    config, fitted = _recalled(asked)
    model = load_checkpoint(asked.ckpt, asked.trust)
    check_fixed(model)
    split = load(config.task, asked.cache, fitted).split("validation")
    signature = signature_of(split)
    tell("folding")
    whole = Stripped(model)
    folded = strip(model, signature.inputs, padded=signature.mask is not None) if asked.fold else whole
    feed = Feed(split, signature.mask is not None)
    missing = missing_for_onnx()
    with _scratch(asked.output) as scratch:
        calls, traced = _written(folded, signature, scratch, tell)
        fixed = Feed(split, feed.masked, traced["length"] if isinstance(traced["length"], int) else None)
        fed: dict[str, tuple[Call, Feed]] = {"folded": (folded.model, feed)} if asked.fold else {}
        fed |= {name: (call, fixed) for name, call in calls(asked.threads).items()}
        tell("comparing outputs with the checkpoint's")
        differences, count = {}, 0
        for name, (call, own) in fed.items():
            differences[name], count = difference(model, call, own)
        _check(differences, asked.fold)
        tell("timing")
        times = latencies(model, fed, feed, asked.threads)
        report = {
            "checkpoint": {"path": str(asked.ckpt), "sha256": hash_file(asked.ckpt)},
            **{"model": config.model_name, "norm": config.norm_name, "task": config.task.name},
            "parameters": {"checkpoint": _parameters(model), "folded": _parameters(folded.model)},
            "folded": {path: [str(part) for part in parts] for path, parts in folded.done.items()},
            "left": dict(folded.left),
            "takes": traced,
            "checked": {"examples": count, "tolerance": TOLERANCE, "greatest_relative_difference": differences},
            "latency": {"threads": asked.threads, "repeats": REPEATS, "rows": times},
            "missing_for_onnx": missing,
            "torch": torch.__version__,
        }
        write_json(scratch / REPORT, report)
        for path in sorted(scratch.iterdir()):
            path.replace(asked.output / path.name)
    if missing:
        (asked.output / ONNX).unlink(missing_ok=True)  # one of an earlier network would stay
    return report


def _recalled(asked: Asked) -> tuple[RunConfig, Fitted]:
    """The checkpoint's config and what was fitted to its training data, read as measure=evaluate does."""
    made, _ = recorded(read_checkpoint(asked.ckpt), asked.ckpt, asked.trust)
    moved = {"path": asked.data, "source": "path", "test": None} if asked.data else {}
    task = made.task.model_copy(update=moved)
    config = made.model_copy(update={"task": task, "ckpt": str(asked.ckpt), "trust": list(asked.trust)})
    fitted = known_data(config)[1]
    if task.source == "path" and not task.place.exists():
        raise InputError(f"the data of {asked.ckpt} are no longer at {task.path}: set task.path to where they are now")
    return config, fitted


def signature_of(split: Split) -> Signature:
    """What the exported network takes: a mask, if any sequence of the split is shorter than another."""
    index = split.in_order()
    index = index[:8] if len(index) > 1 else index.repeat(2)
    batch = split.gather(index)
    inputs, mask = batch.inputs.contiguous(), batch.mask  # tracing would take the strides of a view for fixed
    sequences = inputs.ndim == 3 or inputs.dtype == torch.long
    lengths = getattr(split, "lengths", None)
    if sequences and lengths is not None and int(lengths.min()) < int(lengths.max()) and mask is None:
        mask = torch.ones(inputs.shape[:2], dtype=torch.bool)
    longest = None if not sequences else int(lengths.max()) if lengths is not None else inputs.shape[1]
    return Signature(inputs, mask, longest)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder inside, which goes with all that is left in it; after a failure the folder itself goes if it is new."""
    known = folder.exists()
    _make_folder(folder)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".strip-") as scratch:
            yield Path(scratch)
    except BaseException:
        if not known:
            with suppress(OSError):
                folder.rmdir()
        raise


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"output={folder}: this is a file; name a folder") from None
    except OSError as error:
        raise InputError(f"output={folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise InputError(f"output={folder}: this folder can't be written to")


def _written(
    folded: Stripped, signature: Signature, folder: Path, tell: Callable[[str], None]
) -> tuple[Callable[[int], dict[str, Call]], dict[str, Any]]:
    """Write the files; returns what reads them again, and what they take."""
    torch.save({name: value.contiguous() for name, value in folded.model.state_dict().items()}, folder / WEIGHTS)
    tell(f"writing {PROGRAM}")
    made = exported(folded.model, signature)
    write_pt2(made, folder / PROGRAM)
    with_onnx = not missing_for_onnx()
    if with_onnx:
        tell(f"writing {ONNX}")
        write_onnx(made, signature if made.fixed is None else signature.fitted(made.fixed), folder / ONNX)

    def read(threads: int) -> dict[str, Call]:
        calls = {PROGRAM: read_pt2(folder / PROGRAM)}
        return calls | ({ONNX: read_onnx(folder / ONNX, signature.names, threads)} if with_onnx else {})

    return read, {"arguments": signature.names, "examples": "any number", "length": made.length}


def _check(differences: dict[str, float], folded: bool) -> None:
    for name, found in differences.items():
        if not found <= TOLERANCE:
            hint = "; fold=false exports the network as it is" if folded else ""
            raise InputError(
                f"{name}: an output differs from the checkpoint's by {found:.1e} of the greatest output, more than "
                f"{TOLERANCE:.0e}, so nothing was written{hint}"
            )


def _parameters(model: Model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
