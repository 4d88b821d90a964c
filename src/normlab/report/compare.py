"""normlab.compare: a comparison of norms from Python, carried out by the command line. Imports no torch."""

from __future__ import annotations

import html
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normlab.comparing.code import root_of, target_of
from normlab.comparing.given import task_of
from normlab.config.errors import InputError
from normlab.folder.study_folder import StudyFolder

if TYPE_CHECKING:
    from pandas import DataFrame

_PAGE = "page: "  # how the last line of a comparison begins


@dataclass(frozen=True)
class Compared:
    """The result of a comparison.

    text   a paragraph to paste
    latex  the table
    page   path of the HTML page
    table  norm, score, n, rate, difference, verdict, note; best norm first
    """

    text: str
    latex: str
    page: Path
    table: DataFrame

    @property
    def verdicts(self) -> dict[str, str]:
        """Norm → better, worse, equal or open, each compared with the first norm."""
        return {norm: said for norm, said in zip(self.table["norm"], self.table["verdict"], strict=True) if said}

    def __repr__(self) -> str:
        return f"{self.table.to_string(index=False)}\n\n{self.text}"

    def _repr_html_(self) -> str:
        return f"{self.table.to_html(index=False)}<p>{html.escape(self.text)}</p>"


def compare(
    build: str | Callable[..., Any],
    data: Any,
    norms: Sequence[str],
    metric: str | None = None,
    margin: float | None = None,
    **options: Any,
) -> Compared:
    """Train a network with each norm on paired seeds, and conclude; the same as `normlab compare=…`, which it runs.

    Args:
        build: a model of normlab such as "mlp", a target such as "nets.py:Net", or a class or function. One that only
            this process has, as in a notebook, is written to a file, whose content is part of the runs' identity.
        data: a task such as "mnist1d", or a task with its options, {"task": "table_files", "task.path": "a.csv"}; a
            path; (inputs, targets) as arrays or tensors; a table of pandas; a data set or a loader of torch, or two for
            training and validation; a LightningDataModule; or a mapping of such by split. Those that are no files are
            written to some. Inputs are [N, F], [N, T, F] or images [N, C, H, W] of 8 bits.
        norms: each may be followed by its options, "group norm.groups=8"; the first is what others are compared with.
        metric: by which norms are compared; without it the task's main metric.
        margin: the smallest difference that matters, in the metric's unit.
        options: any others of the command line, as in **{"optim.lr": 1e-3}.

    Raises:
        InputError: the network can't be written to a file, the data can't, or the comparison failed, as printed.
    """
    if isinstance(norms, str):
        raise InputError(f"norms={norms!r}: give a list, such as norms=['batch', 'layer']")
    written = Path(str(options.get("output", "outputs"))) / "given"
    chosen = {**_model(build, written), **task_of(data, written), "metric": metric, "margin": margin, **options}
    choices = [f"{name}={_written(value)}" for name, value in chosen.items() if value is not None]
    command = [sys.executable, "-m", "normlab", f"compare={','.join(norms)}", *choices]
    status, page = _followed(command, _environment(build))
    if status:
        raise InputError(f"the comparison failed with exit status {status}; its output says why")
    if page is None:
        raise InputError("there is no result: no training was asked for, or no run has ended well")
    return read(page.parent)


def _followed(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, Path | None]:
    """Run a command and print what it prints, whatever this process's encoding is; its status and its page."""
    page = None
    own = {**environment, "PYTHONIOENCODING": "utf-8:surrogateescape"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, encoding="utf-8", errors="surrogateescape", env=own
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
            print(line.encode(encoding, "backslashreplace").decode(encoding), end="", flush=True)
            if line.startswith(_PAGE):
                page = Path(line.removeprefix(_PAGE).rstrip("\n"))
    return process.returncode, page


def read(folder: Path) -> Compared:
    """The result of a finished comparison, from its study's folder."""
    import pandas

    study = StudyFolder(folder)
    return Compared(
        study.comparison_text.read_text(encoding="utf-8").strip(),
        study.comparison_latex.read_text(encoding="utf-8"),
        study.comparison_page,
        pandas.read_csv(study.comparison_table, keep_default_na=False),
    )


def _model(build: str | Callable[..., Any], folder: Path) -> dict[str, Any]:
    if isinstance(build, str):
        return {"model": "module", "model.target": build} if ":" in build else {"model": build}
    given = {}
    if isinstance(build, partial):
        if build.args:
            raise InputError("build is a partial with arguments by position: give them by name")
        given = {f"model.arguments.{name}": value for name, value in build.keywords.items()}
        build = build.func
    return {"model": "module", "model.target": target_of(build, folder), **given}


def _environment(build: str | Callable[..., Any]) -> dict[str, str]:
    """In which the class or function can be imported as here."""
    root = root_of(build.func if isinstance(build, partial) else build)
    paths = [path for path in (os.environ.get("PYTHONPATH"), root) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)} if paths else dict(os.environ)


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(repr(one) if isinstance(one, str) else _written(one) for one in value)}]"
    return str(value)
