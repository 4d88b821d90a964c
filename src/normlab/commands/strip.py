"""Make a trained network ready to serve: fold its norms as far as that is exact, and export it.

    normlab strip ckpt=outputs/runs/<id>/checkpoints/best.ckpt
    normlab strip ckpt=best.ckpt output=served threads=2

Writes weights.pt (of the folded network), model.pt2 (torch.export), model.onnx and strip.json. Each is compared with
the checkpoint on its validation examples, and both are timed for 1, 8 and 64 examples.

  ckpt=FILE        the checkpoint
  output=FOLDER    default: next to the checkpoint, in <its name>-stripped
  task.path=DATA   where the checkpoint's own data are now
  trust=[MODULES]  your modules that the checkpoint may name (measure=evaluate)
  threads=N        CPU threads; default: 1
  fold=false       export the network as it is
  cache=FOLDER     prepared data; default: as in training

ONNX needs three more packages: pip install normlab[export]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from normlab.commands.parser import Parser
from normlab.config.errors import InputError

_KEYS = ("ckpt", "output", "task.path", "trust", "threads", "fold", "cache")


def main(arguments: Sequence[str]) -> None:
    """Read the arguments, strip the checkpoint and print what was done."""
    if {"-h", "--help"} & {*arguments}:
        parser = Parser("strip", __doc__)
        parser.usage = "normlab strip ckpt=FILE [KEY=VALUE ...]"
        parser.parse_args(["--help"])
    given = options(arguments)
    ckpt = checkpoint(given)
    threads, fold, trust = number(given), flag(given), modules(given)
    output = Path(given.get("output") or ckpt.parent / f"{ckpt.stem}-stripped")
    if output.exists() and not output.is_dir():
        raise InputError(f"output={output}: this is a file; name a folder")
    from normlab.export.strip import Asked, stripped  # imports torch

    cache = Path(given.get("cache") or os.environ.get("NORMLAB_CACHE") or ".cache/normlab")
    asked = Asked(ckpt, output, given.get("task.path"), cache, trust=trust, threads=threads, fold=fold)
    report = stripped(asked, lambda step: print(f"strip: {step}", file=sys.stderr, flush=True))
    for line in told(report, output):
        print(line)


def options(arguments: Sequence[str]) -> dict[str, str]:
    """The options by name.

    Raises:
        InputError: one is unknown, given twice, or not KEY=VALUE.
    """
    given: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in _KEYS:
            raise InputError(f"{argument!r}: the options of strip are {', '.join(f'{known}=' for known in _KEYS)}")
        if key in given:
            raise InputError(f"{key}= is given twice")
        given[key] = value
    return given


def checkpoint(given: dict[str, str]) -> Path:
    """The checkpoint's file.

    Raises:
        InputError: none is given, or it is no regular file.
    """
    if not given.get("ckpt"):
        raise InputError("strip needs a checkpoint: normlab strip ckpt=outputs/runs/<id>/checkpoints/best.ckpt")
    path, kind = Path(given["ckpt"]), "there is no such file"
    try:
        if path.is_file():
            return path
        if path.is_dir():
            kind = "this is a folder; give a file, such as checkpoints/best.ckpt in a run's folder"
    except (OSError, ValueError):  # no file can have such a name
        pass
    raise InputError(f"ckpt={given['ckpt'][:200]!r}: {kind}")


def number(given: dict[str, str]) -> int:
    """Threads.

    Raises:
        InputError: it is no whole number from 1 to 1024.
    """
    text = given.get("threads", "1")
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= 1024):
        raise InputError(f"threads={text}: a whole number of at least 1")
    return int(text)


def flag(given: dict[str, str]) -> bool:
    """Whether to fold.

    Raises:
        InputError: it is neither true nor false.
    """
    text = given.get("fold", "true").lower()
    if text not in ("true", "false"):
        raise InputError(f"fold={text}: true or false")
    return text == "true"


def modules(given: dict[str, str]) -> tuple[str, ...]:
    """The modules to trust, written as [a,b] or a,b."""
    names = given.get("trust", "").strip().removeprefix("[").removesuffix("]").split(",")
    return tuple(name.strip() for name in names if name.strip())


def told(report: dict[str, Any], output: Path) -> Iterator[str]:
    """The report in words."""
    before, after = report["parameters"]["checkpoint"], report["parameters"]["folded"]
    yield f"model={report['model']} norm={report['norm']} task={report['task']}: {before:,} → {after:,} parameters"
    for title, parts in (("folded:", report["folded"]), ("not folded, because it would not be exact:", report["left"])):
        if parts:
            yield title
            yield from (f"  {path}: {'; '.join(several)}" for path, several in parts.items())
    yield f"files in {output}; they take {takes(report['takes'])}"
    checked = report["checked"]
    for name, apart in checked["greatest_relative_difference"].items():
        yield f"  {name:11} differs by {apart:.1e} of the greatest output at most, on {checked['examples']} examples"
    if report["missing_for_onnx"]:
        missing = ", ".join(report["missing_for_onnx"])
        yield f"  no model.onnx, which needs {missing}: pip install normlab[export]"
    yield from table(report["latency"])


def takes(given: dict[str, Any]) -> str:
    """What the files take, in words."""
    length = given["length"]
    steps = "" if length is None else f", sequences of {'any length' if length == 'any' else f'{length} steps'}"
    return f"{' and '.join(given['arguments'])}: any number of examples{steps}"


def table(latency: dict[str, Any]) -> Iterator[str]:
    """The times, a row for each number of examples."""
    rows, threads = latency["rows"], latency["threads"]
    names = list(dict.fromkeys(row["network"] for row in rows))
    yield (
        f"milliseconds per batch on {threads} CPU thread{'s' * (threads > 1)}: median (range) of {latency['repeats']} "
        "repeats, and the median ratio to the checkpoint's"
    )
    yield "examples  " + "".join(f"{name:<30}" for name in names).rstrip()
    for size in dict.fromkeys(row["examples"] for row in rows):
        cells = [row for name in names for row in rows if row["network"] == name and row["examples"] == size]
        yield f"{size:<10}" + "".join(f"{_cell(row):<30}" for row in cells).rstrip()


def _cell(row: dict[str, Any]) -> str:
    times = f"{row['ms']:.3g} ({row['ms_min']:.3g}-{row['ms_max']:.3g})"
    return times if row["network"] == "checkpoint" else f"{times} {row['ratio']:.2f}"
