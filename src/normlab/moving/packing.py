"""Packing studies: what they know, so that another machine can resume them. Imports no torch.

A study may be running. Its files are read in the opposite order of that in which it writes them, and only runs that
have finished or paused are taken: what is packed is what a study that was killed at some moment would have left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from normlab.config.schema import InputError
from normlab.folder.files import read_regular
from normlab.folder.looks import looks_folder
from normlab.folder.pack import looks_member, run_member, write_pack
from normlab.folder.run_record import RunRecord
from normlab.folder.study_folder import KEPT, StudyFolder
from normlab.moving.made_where import run_without_places, study_without_places
from normlab.moving.packed import StudyRecord, looks_of
from normlab.runs.store import folder_of


@dataclass
class Packed:
    """What was packed.

    written   False: the same pack was there already
    runs      finished runs with their records
    paused    tuning runs that were ended early or are paused, likewise
    planned   runs that the studies have planned or have rows of
    left_out  damaged runs, and what is wrong with them
    """

    path: Path
    written: bool = True
    studies: list[str] = field(default_factory=list)
    runs: int = 0
    paused: int = 0
    planned: int = 0
    looks: int = 0
    left_out: list[str] = field(default_factory=list)


def pack_studies(folders: Sequence[Path], path: Path, *, tables: bool = False, unpacked: bool = False) -> Packed:
    """Pack the studies of one folder of results.

    Args:
        tables: without the records of the runs: enough to show and judge the studies, but not to resume them.
        unpacked: as a folder.

    Raises:
        InputError: a folder holds no study or a damaged one, or the pack can't be written.
    """
    studies = _studies(folders)
    packed = Packed(path)
    packed.written = write_pack(path, _members(studies, packed, tables), unpacked=unpacked)
    return packed


def _studies(folders: Sequence[Path]) -> list[StudyFolder]:
    """The studies by name, each once."""
    found: dict[str, StudyFolder] = {}
    for folder in dict.fromkeys(folder.absolute() for folder in folders):
        study = StudyFolder(folder)
        if not study.holds_study():
            raise InputError(f"{folder} is not the folder of a study, such as outputs/studies/textbook-quick")
        if found.setdefault(folder.name, study) is not study:
            raise InputError(f"{folder} and {found[folder.name].folder} have the same name: pack each on its own")
        first = next(iter(found.values()))
        if study.output != first.output:
            raise InputError(
                f"{folder} lies in another folder of results than {first.folder}: pack the studies of each on their own"
            )
    return [found[name] for name in sorted(found)]


def _members(studies: Sequence[StudyFolder], packed: Packed, tables: bool) -> Iterator[tuple[str, bytes]]:
    records, looks = [], dict[str, bytes]()
    output = studies[0].output
    for study in studies:
        record, seen = _read(study)
        record.check()
        record.check_looks(seen)
        records.append(record)
        looks |= seen
        packed.studies.append(record.name)
        yield from ((f"{record.name}/{name}", content) for name, content in study_without_places(record.files).items())
    for stem in sorted(looks):
        packed.looks += len(looks[stem].splitlines())
        yield looks_member(stem), looks[stem]
    wanted = sorted({run for record in records for run in record.runs})
    packed.planned = len(wanted)
    for name in () if tables else wanted:
        run = RunRecord.read(folder_of(output, name))
        if not (run.is_finished or run.is_paused):
            continue
        if run.problem:
            packed.left_out.append(f"{run.id}: {run.problem}")
            continue
        for record in records:
            record.check_run(run)
        packed.paused += run.is_paused
        packed.runs += run.is_finished
        yield from ((run_member(run.id, file), content) for file, content in run_without_places(run.files).items())


def _read(study: StudyFolder) -> tuple[StudyRecord, dict[str, bytes]]:
    """A study's files, and the looks of its findings."""
    files: dict[str, bytes] = {}
    looks: dict[str, bytes] = {}
    for name in KEPT:
        if name == KEPT[3]:  # the tables are written before the looks at them, and these before the verdicts
            looks = _looks(study, StudyRecord(str(study.folder), study.folder.name, files))
        if (study.folder / name).exists():
            files[name] = _content(study.folder / name)
    return StudyRecord(str(study.folder), study.folder.name, files), looks


def _looks(study: StudyFolder, record: StudyRecord) -> dict[str, bytes]:
    paths = {path.stem: path for path in sorted(looks_folder(study.output).glob("*.jsonl"))}
    stems = [stem for name in record.finding_names for stem in looks_of(name, record.name, paths)]
    return {stem: _content(paths[stem]) for stem in stems}


def _content(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None
