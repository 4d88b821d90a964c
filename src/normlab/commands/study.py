"""Move studies: pack what they know into a file, and resume them from it elsewhere.

    normlab study export outputs/studies/textbook-full
    normlab study import textbook-full.zip
    normlab study statements outputs/studies/textbook-full

export packs the tables, verdicts, looks and tuning of studies, their frozen findings, and what each finished run has
recorded, with checksums but without checkpoints. It only reads, also while the study is running.

import verifies all of a pack before it writes anything. Then repeat the study's command: finished runs are not
repeated, and looks that were seen stay seen. A pack is refused if its rules, configs, data, code or version of torch
are others than here, unless you accept that: with --accept-code and --accept-torch its results count here as well;
with --accept-config, --accept-data and --accept-rule they are imported, and a resumed study repeats those runs.

statements prints what the textbook says, with the state of each statement by the verdicts of these studies.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from normlab.commands.parser import Parser
from normlab.config.errors import InputError, one_line

if TYPE_CHECKING:
    from normlab.findings.verdict import Verdict

ACCEPT = ("rule", "config", "data", "code", "torch")


def main(arguments: Sequence[str]) -> None:
    """Read the arguments and do it."""
    parser = Parser("study", __doc__)
    parser.add_argument("what", choices=[*COMMANDS])
    COMMANDS[parser.parse_args(arguments[:1] or ["--help"]).what](arguments[1:])


def export_studies(arguments: Sequence[str]) -> None:
    """`normlab study export`."""
    from normlab.moving.packing import pack_studies

    parser = Parser("study export", __doc__)
    parser.add_argument("folders", metavar="FOLDER", type=Path, nargs="+", help="such as outputs/studies/textbook-full")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: STUDY.zip in this folder")
    parser.add_argument(
        "--tables", action="store_true", help="leave out the records of runs: to show and judge, not to resume"
    )
    parser.add_argument(
        "--unpacked", action="store_true", help="write a folder of text files, as results/reference, instead of a file"
    )
    asked = parser.parse_args(arguments)
    path = asked.output or Path()
    if path.is_dir() and not (asked.unpacked and asked.output):
        name = asked.folders[0].absolute().name if len(asked.folders) == 1 else "studies"
        path = path / (name if asked.unpacked else f"{name}.zip")
    packed = pack_studies(asked.folders, path, tables=asked.tables, unpacked=asked.unpacked)
    for words in packed.left_out:
        print(one_line(f"left out, as it is damaged: {words}"))
    if not packed.written:
        print(one_line(f"{path} is there already, with the same content"))
        return
    paused = f" and {packed.paused} paused ones" if packed.paused else ""
    runs = "no records of runs" if asked.tables else f"{packed.runs} finished runs{paused} of {packed.planned}"
    print(one_line(f"{path}: {', '.join(packed.studies)} with {runs} and {packed.looks} looks"))
    if not asked.tables:
        print(one_line(f"to resume elsewhere: normlab study import {path.name}"))


def import_studies(arguments: Sequence[str]) -> None:
    """`normlab study import`."""
    from normlab.moving.unpacking import unpack

    parser = Parser("study import", __doc__)
    parser.add_argument("file", metavar="FILE", type=Path, help="a pack, as a file or a folder")
    parser.add_argument(
        "--output", metavar="FOLDER", type=Path, default=Path("outputs"), help="folder of all results; default: outputs"
    )
    for kind in ACCEPT:
        parser.add_argument(f"--accept-{kind}", action="store_true", help=f"import although its {kind} differs")
    asked = parser.parse_args(arguments)
    cache = Path(os.environ.get("NORMLAB_CACHE", ".cache/normlab"))
    admitted = frozenset(kind for kind in ACCEPT if getattr(asked, f"accept_{kind}"))
    done = unpack(asked.file, asked.output, cache, admitted)
    if not done.changes:
        print(one_line(f"nothing to import: {asked.output} already has all of it, {done.known} runs among it"))
        return
    for line in done.differences.lines():
        print(one_line(line))
    looks = sum(map(len, done.looks.values()))
    print(one_line(f"{asked.output}: {len(done.new)} runs and {looks} looks are new, {done.known} runs were known"))
    if done.aside:
        print(f"{len(done.aside)} unfinished or damaged runs were here; each is kept as <run>.attempt-<n>")
    if done.differences.timed:
        print(f"{len(done.differences.timed)} timings are of another machine; a resumed study takes them again")
    for study in done.kept:
        print(one_line(f"{study}: the tables here stay, as each side has runs that the other lacks"))
    print(one_line(f"to resume {', '.join(done.studies)}, repeat the study's command with output={asked.output}"))


def show_statements(arguments: Sequence[str]) -> None:
    """`normlab study statements`."""
    from normlab.config.shipped import CONF
    from normlab.findings.stored import read_verdicts
    from normlab.folder.study_folder import StudyFolder
    from normlab.statements.table import lines, standings
    from normlab.study.scale import read_study

    parser = Parser("study statements", __doc__)
    parser.add_argument(
        "folders",
        metavar="FOLDER",
        type=Path,
        nargs="+",
        help="of studies, such as results/reference/full; the last counts most",
    )
    asked = parser.parse_args(arguments)
    verdicts: dict[str, Verdict] = {}
    problems: list[str] = []
    for folder in asked.folders:
        study = StudyFolder(folder)
        if not study.holds_study():
            raise InputError(f"{folder} is not the folder of a study: it has neither plan.json nor verdicts.json")
        if not study.verdicts_file.exists():
            problems.append(f"{folder} has no verdicts yet, so it counts for nothing here: repeat the study's command")
            continue
        verdicts |= read_verdicts(study.read_judged(), study.verdicts_file, problems)
    findings = {finding.name: finding for finding in read_study(CONF, "textbook")[1]}
    for line in [*problems, *lines(standings(CONF, findings, verdicts))]:
        print(one_line(line))


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "export": export_studies,
    "import": import_studies,
    "statements": show_statements,
}
