"""Importing a pack: everything is verified before anything is written. Imports no torch.

Existing results are never replaced: equal ones are skipped, and if one differs the whole pack is refused.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from normlab.config.schema import InputError
from normlab.config.shipped import CONF
from normlab.folder.files import read_regular
from normlab.folder.looks import append_looks, looks_file
from normlab.folder.pack import TUNING, Pack, open_pack
from normlab.folder.run_folder import RunFolder, runs_folder
from normlab.folder.run_record import RunRecord
from normlab.folder.study_folder import KEPT, StudyFolder
from normlab.moving.packed import StudyRecord, later_looks, row_words
from normlab.moving.present import Differences, Here, words_of_run
from normlab.runs.store import accept, all_claims, folder_of, look, put_in_place
from normlab.study.origin import record_origin

STAGING = ".import.part"  # in each folder that files will be moved to


@dataclass
class Unpacked:
    """What an import does, or has done.

    new       ids of runs that are added
    known     runs that were there already, with the same result
    accepted  those of `known` that count from now on although their code is another
    aside     ids of `new` in whose place an unfinished or damaged run was; it is kept
    studies   names of all; `tables` of those whose tables are written
    kept      studies whose tables here and in the pack each hold runs that the other lacks: these stay as they are
    looks     `<finding>-<scale>` → the lines that are added
    """

    new: list[str] = field(default_factory=list)
    known: int = 0
    accepted: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    studies: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    looks: dict[str, list[bytes]] = field(default_factory=dict)
    differences: Differences = field(default_factory=Differences)

    @property
    def changes(self) -> bool:
        """Is there anything to write?"""
        return bool(self.new or self.accepted or self.tables or self.looks)


def unpack(path: Path, output: Path, cache: Path, admitted: frozenset[str], conf: Path = CONF) -> Unpacked:
    """Import a pack into a folder of results.

    Args:
        cache: folder of materialised data.
        admitted: kinds of differences that are accepted, see `present.KINDS`.
        conf: folder that holds `finding`.

    Raises:
        InputError: it is no whole pack, or contradicts itself, this machine or what is in the folder; nothing has
            been written.
    """
    here = Here(conf, cache)
    with open_pack(path) as pack:
        studies = {name: StudyRecord(str(path), name, pack.read_study(name)) for name in pack.studies}
        differences = Differences(admitted)
        _verify(pack, studies, here, differences)
        differences.refuse(path)
        done = _compare(pack, studies, output, here, differences)
        if not done.changes:
            return done
        with _alone(output):
            done = _compare(pack, studies, output, here, differences)  # another import may just have ended
            try:
                _stage(pack, done, output, here)
                with all_claims(output):
                    _compare_again(done, output)
                    _put_in_place(done, studies, output, here, path)
            except OSError as error:
                raise InputError(
                    f"{output} could not be written: {error.strerror}; repeat the import once there is room"
                ) from error
            finally:
                for folder in _staging(output):
                    shutil.rmtree(folder, ignore_errors=True)
    return done


def _verify(pack: Pack, studies: Mapping[str, StudyRecord], here: Here, differences: Differences) -> None:
    """Does the pack agree with itself, and with this machine?"""
    looks = {stem: pack.read_looks(stem) for stem in pack.looks}
    for stem in looks:
        later_looks(stem, b"", looks[stem])
    for study in studies.values():
        study.check()
        study.check_looks(looks)
        here.compare_rules(study, differences)
    for record in _records(pack):
        words = words_of_run(record.id, studies.values(), record.seed)
        if record.problem or not (record.is_finished or record.is_paused):
            raise InputError(f"{pack.path}: {words} is not whole: {record.problem or 'it has not finished'}")
        for study in studies.values():
            study.check_run(record)
        here.compare_run(record, differences)
    if TUNING in pack.members:  # which stays in the pack
        pack.read(TUNING)


def _records(pack: Pack) -> Iterator[RunRecord]:
    return (RunRecord(run, pack.read_run(run)) for run in pack.runs)


def _compare(
    pack: Pack, studies: Mapping[str, StudyRecord], output: Path, here: Here, differences: Differences
) -> Unpacked:
    """What there is to write, compared with what is in the folder of results."""
    done = Unpacked(studies=list(studies), differences=differences)
    for run in pack.runs:
        folder = folder_of(output, run)
        if not os.path.lexists(folder):
            done.new.append(run)
            continue
        record = RunRecord(run, pack.read_run(run))
        found = look(folder, here.code(record))
        words = words_of_run(run, studies.values(), record.seed)
        if found.state == "running":
            raise InputError(f"{found.why} is working on {words} in {output}: wait for it, or stop it, and import then")
        if record.is_paused and found.state in ("finished", "stale", "paused"):
            done.known += 1  # which can resume from where it paused, or has a result already
        elif found.state not in ("finished", "stale"):
            if not folder.is_dir() or folder.is_symlink():
                raise InputError(f"{folder} is not a folder of its own: remove it, or import into another output")
            done.new.append(run)
            done.aside.append(run)
        elif not record.agrees_with(RunRecord.read(folder)):
            raise InputError(
                f"{words} has another result in {output} than in {pack.path}: nothing is overwritten; import into "
                "another output"
            )
        else:
            done.known += 1
            if found.state == "stale" and "code" in done.differences.admitted:
                done.accepted.append(run)
    for stem in pack.looks:
        if lines := later_looks(stem, _content(looks_file(output, stem)), pack.read_looks(stem)):
            done.looks[stem] = lines
    for study in studies.values():
        _compare_tables(study, output, done)
    return done


def _compare_tables(study: StudyRecord, output: Path, done: Unpacked) -> None:
    """Which tables a study has afterwards: those that hold the other's runs."""
    target = StudyFolder.at(output, study.name)
    there = {name: content for name in KEPT if (content := _content(target.folder / name))}
    ours = StudyRecord(str(output), study.name, there)
    if ours.files == study.files:
        return
    for key in [key for key in study.keyed if key in ours.keyed]:
        one, other = study.keyed[key], ours.keyed[key]
        if one != other:
            raise InputError(
                f"{row_words(one)} is another result in {target.folder} than in {study.where}: nothing is overwritten; "
                "import into another output"
            )
    if there and {*study.keyed} <= {*ours.keyed} and {*study.verdicts} <= {*ours.verdicts}:
        return
    whole = {*ours.keyed} <= {*study.keyed} and {*ours.verdicts} <= {*study.verdicts}
    (done.tables if whole else done.kept).append(study.name)


def _compare_again(done: Unpacked, output: Path) -> None:
    """Refuse the pack if a run has been claimed since it was compared; from now on no process can claim one."""
    for run in done.new:
        folder = folder_of(output, run)
        if os.path.lexists(folder) and (run not in done.aside or look(folder, "").state in _TAKEN):
            raise InputError(f"{folder} has been written by another process in the meantime: repeat the import")


_TAKEN = ("running", "finished", "stale")


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """One import at a time: the second then finds what the first has written."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = FileLock(output / ".import.lock")
        lock.acquire()
    except OSError as error:
        raise InputError(f"{output} can't be written: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


def _staging(output: Path) -> list[Path]:
    """Hidden folders beside what they will become."""
    return [runs_folder(output) / STAGING, StudyFolder.at(output, STAGING).folder]


def _stage(pack: Pack, done: Unpacked, output: Path, here: Here) -> None:
    """Write everything beside where it belongs."""
    runs, studies = _staging(output)
    for folder in (runs, studies):
        shutil.rmtree(folder, ignore_errors=True)  # of an import that was killed
        folder.mkdir(parents=True)
    for run in done.new:
        record = RunRecord(run, pack.read_run(run))
        known = (record.status.get("code"), *record.status.get("accepted", []))
        if (code := here.code(record)) and code not in known:
            record = record.accepting(code)  # as the user has admitted
        record.write(runs / run)
    for study in done.tables:
        (studies / study).mkdir()
        for name, content in pack.read_study(study).items():
            (studies / study / name).write_bytes(content)
    os.sync()  # once for all files, before any of them counts


def _put_in_place(done: Unpacked, studies: Mapping[str, StudyRecord], output: Path, here: Here, path: Path) -> None:
    """Move what was staged: runs, then looks, then the tables that tell of both."""
    staged_runs, staged_studies = _staging(output)
    for run in done.new:
        put_in_place(staged_runs / run, folder_of(output, run))
    for run in done.accepted:
        folder = folder_of(output, run)
        accept(folder, RunFolder(folder).read_status(), here.code(RunRecord.read(folder)))
    for stem, lines in done.looks.items():
        append_looks(looks_file(output, stem), lines)
    for study in done.tables:
        target = StudyFolder.at(output, study)
        target.folder.mkdir(exist_ok=True)
        for name in studies[study].files:
            (staged_studies / study / name).replace(target.folder / name)
    for study in done.studies:
        record_origin(StudyFolder.at(output, study), path, set(done.differences.found))


def _content(path: Path) -> bytes:
    with suppress(FileNotFoundError, NotADirectoryError):
        return read_regular(path)
    return b""
