"""TensorBoard's event files: a folder is a run, with its hyperparameters if they were logged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from normlab.config.schema import InputError
from normlab.logs.run import Run, flat, read_yaml


def is_run(_: Path, names: set[str]) -> bool:
    """By the names of what it holds."""
    return any("tfevents" in name for name in names)


def read(folders: Sequence[Path]) -> Iterator[Run]:
    """The runs.

    `SummaryWriter.add_hparams` logs to a folder of its own below the run's: it belongs to that run if it is the only
    one.

    Raises:
        InputError: a file is damaged, several folders lie within a run, or tensorboard is not installed.
    """
    for top, inner in _nested(folders).items():
        if len(inner) > 1:
            raise InputError(
                f"{top} holds event files, and so do {len(inner)} folders in it ({inner[0].name}, …): which of them "
                "are runs is not known, so name the runs' folders"
            )
        run = Run(str(top))
        for folder in (*inner, top):
            if (folder / "hparams.yaml").is_file():
                run.facts |= flat(read_yaml(folder / "hparams.yaml"))
        _read_events([*_files(top), *(file for folder in inner for file in _files(folder))], run)
        yield run


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if "tfevents" in file.name and file.is_file())


def _nested(folders: Sequence[Path]) -> dict[Path, list[Path]]:
    found: dict[Path, list[Path]] = {}
    for folder in sorted(folders):
        above = next((top for top in found if top in folder.parents), None)
        if above is None:
            found[folder] = []
        else:
            found[above].append(folder)
    return found


def _read_events(files: Sequence[Path], run: Run) -> None:
    try:
        from tensorboard.compat.proto.event_pb2 import Event
    except ImportError:
        raise InputError(f"{run.place}: event files need tensorboard: pip install tensorboard") from None
    from google.protobuf.message import DecodeError

    for file in files:
        try:
            for data in _records(file):
                event = Event.FromString(data)
                for value in event.summary.value:
                    _read_value(value, float(event.step), run)
        except (DecodeError, OSError, ValueError):
            raise InputError(f"{file} is damaged, or no event file") from None


def _read_value(value: Any, step: float, run: Run) -> None:
    from tensorboard.util.tensor_util import make_ndarray

    plugin = value.metadata.plugin_data
    if plugin.plugin_name == "hparams":
        run.facts |= _hyperparameters(plugin.content)
    elif value.HasField("simple_value"):
        run.log(value.tag, float(value.simple_value), step)
    elif value.HasField("tensor") and all(size.size == 1 for size in value.tensor.tensor_shape.dim):
        array = make_ndarray(value.tensor)
        if array.dtype.kind in "fiu":  # a text is a scalar too
            run.log(value.tag, float(array.reshape(())), step)


def _hyperparameters(content: bytes) -> dict[str, Any]:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    found = {}
    for name, value in HParamsPluginData.FromString(content).session_start_info.hparams.items():
        kind = value.WhichOneof("kind")
        number: Any = getattr(value, kind) if kind else None
        whole = isinstance(number, float) and number.is_integer()
        found[name] = int(number) if whole else number  # all of its numbers are floats
    return found


def _records(file: Path) -> Iterator[bytes]:
    """The file's records; what a killed run left unfinished at the end is not there.

    TensorBoard's own loader also ends in silence where a record is damaged, and then an early value would pass for the
    last one.

    Raises:
        InputError: a checksum is wrong.
    """
    from tensorboard.compat.tensorflow_stub import errors
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New

    reader = PyRecordReader_New(str(file))
    while True:
        try:
            reader.GetNext()
        except errors.OutOfRangeError:
            return
        except errors.DataLossError as error:
            if "crc" in str(error) and "truncat" not in str(error).lower():
                raise InputError(f"{file} is damaged: a checksum is wrong") from None
            return
        yield reader.curr_event
