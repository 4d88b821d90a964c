"""A pack: what studies know, as a folder of text files or as that folder in one zip archive. Imports no torch.

manifest.json                    format, and the SHA-256 of every other file and of this one
<study>/                         a study's tables, verdicts, plan and manifest: see `study_folder`
looks/<finding>-<scale>.jsonl    the looks that its findings have had: see `looks`
runs/<id>/                       what a finished or paused run has recorded, without checkpoints: see `run_record`
tuning.csv                       only in the committed reference: learning rates for studies that don't tune

Two packs of the same content are the same bytes. An archive carries a checksum of all its bytes as well, see `seal`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from normlab.config.schema import InputError
from normlab.folder.files import read_regular
from normlab.folder.jsonfile import as_json, parse_json
from normlab.folder.run_record import RECORDED
from normlab.folder.seal import digest_of, seal, state_of_file
from normlab.folder.study_folder import KEPT
from normlab.host.cores import memory_of_machine
from normlab.host.process import process_name

FORMAT = 1
MANIFEST = "manifest.json"
TUNING = "tuning.csv"
_LOOKS, _RUNS = "looks", "runs"
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}"
_MEMBER = re.compile(
    rf"(?:(?P<looks>{_LOOKS})/{_PART}\.jsonl|(?P<run>{_RUNS})/{_PART}/(?:{'|'.join(map(re.escape, RECORDED))})"
    rf"|(?!(?:{_LOOKS}|{_RUNS})/)(?P<study>{_PART})/(?:{'|'.join(map(re.escape, KEPT))})|{re.escape(TUNING)})"
)
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError)


@dataclass(frozen=True)
class Pack:
    """An open pack, whose list of members has been checked.

    members  name → SHA-256 of its content, as hexadecimal digits
    """

    path: Path
    members: dict[str, str]
    _content: Callable[[str], bytes]

    def read(self, name: str) -> bytes:
        """The content of a member.

        Raises:
            InputError: it is not what was packed.
        """
        content = self._content(name)
        if hashlib.sha256(content).hexdigest() != self.members[name]:
            raise InputError(f"{self.path}: {name} has been altered since it was packed: its checksum differs")
        return content

    @property
    def studies(self) -> list[str]:
        """The names of the studies' folders."""
        return sorted({name.partition("/")[0] for name in self.members if _member(name)["study"]})

    @property
    def runs(self) -> list[str]:
        """The ids of the runs whose records it holds."""
        return sorted({name.split("/")[1] for name in self.members if _member(name)["run"]})

    @property
    def looks(self) -> list[str]:
        """`<finding>-<scale>` of each file of looks."""
        return sorted(Path(name).stem for name in self.members if _member(name)["looks"])

    def read_study(self, study: str) -> dict[str, bytes]:
        """A study's files by name, those that it has."""
        return {name: self.read(f"{study}/{name}") for name in KEPT if f"{study}/{name}" in self.members}

    def read_run(self, run: str) -> dict[str, bytes]:
        """The files of a run's record by name, those that it has."""
        return {n: self.read(member) for n in RECORDED if (member := f"{_RUNS}/{run}/{n}") in self.members}

    def read_looks(self, stem: str) -> bytes:
        """The content of a file of looks."""
        return self.read(f"{_LOOKS}/{stem}.jsonl")


def run_member(run: str, name: str) -> str:
    """The name of a run's file in a pack."""
    return f"{_RUNS}/{run}/{name}"


def looks_member(stem: str) -> str:
    """The name of a file of looks in a pack."""
    return f"{_LOOKS}/{stem}.jsonl"


@contextmanager
def open_pack(path: Path) -> Iterator[Pack]:
    """Open a pack for reading, archive or folder.

    Raises:
        InputError: it is none, it is damaged, of another format, or names what no pack holds.
    """
    if path.is_dir():
        yield _checked(path, _names_below(path), lambda name: _read_below(path, name))
        return
    with _open_regular(path) as file:
        state = state_of_file(file)
        if state == "damaged":
            raise InputError(f"{path} is damaged: it has been truncated or altered since it was exported")
        try:
            with zipfile.ZipFile(file) as archive:
                if state == "unsealed":
                    raise InputError(
                        f"{path} is an archive that `normlab study export` did not write; if a pack was "
                        "zipped again, unzip it and import the folder"
                    )
                yield _checked(path, archive.namelist(), lambda name: _read_from(archive, path, name))
        except zipfile.BadZipFile:
            raise InputError(f"{path} is not a pack: `normlab study export FOLDER` writes one") from None


def write_pack(path: Path, members: Iterable[tuple[str, bytes]], *, unpacked: bool = False) -> bool:
    """Write a pack, whole or not at all; False if the same pack is there already.

    Args:
        members: name and content of each, taken one at a time.
        unpacked: as a folder.

    Raises:
        InputError: something else is there, or the disk takes no more.
    """
    part = path.with_name(f".{path.name}.{process_name()}.part")
    try:
        (_write_folder if unpacked else _write_archive)(part, members)
        if os.path.lexists(path):
            if not _is_same(part, path):
                raise InputError(f"{path} already exists and differs: remove it, or choose another name with -o")
            return False
        part.rename(path)
    except OSError as error:
        raise InputError(f"{path} could not be written: {error.strerror}; nothing is left of it") from error
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
    return True


def sign_folder(path: Path) -> None:
    """Write the manifest of a folder whose files are those of a pack."""
    digests = {name: hashlib.sha256(_read_below(path, name)).hexdigest() for name in _names_below(path)}
    digests.pop(MANIFEST, None)
    (path / MANIFEST).write_bytes(manifest_of(digests))


def _write_archive(part: Path, members: Iterable[tuple[str, bytes]]) -> None:
    with part.open("w+b") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in _with_manifest(members):
                entry = zipfile.ZipInfo(name)  # of 1980: the time of the export is no part of what is known
                entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
                archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
        seal(file)
        file.flush()
        os.fsync(file.fileno())


def _write_folder(part: Path, members: Iterable[tuple[str, bytes]]) -> None:
    for name, content in _with_manifest(members):
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        (part / name).write_bytes(content)


def _with_manifest(members: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    digests: dict[str, str] = {}
    for name, content in members:
        if name in digests or _MEMBER.fullmatch(name) is None:
            raise InputError(f"{name} can't be a member of a pack")
        digests[name] = hashlib.sha256(content).hexdigest()
        yield name, content
    yield MANIFEST, manifest_of(digests)


def manifest_of(members: dict[str, str]) -> bytes:
    """The content of the manifest; it holds a checksum of itself."""
    values = {"pack": FORMAT, "members": dict(sorted(members.items()))}
    return as_json({**values, "sha256": hashlib.sha256(as_json(values)).hexdigest()})


def _is_same(made: Path, there: Path) -> bool:
    """Two packs of the same form: every member of a folder is in its manifest."""
    if made.is_dir() or not there.is_file():
        made, there = made / MANIFEST, there / MANIFEST
    try:
        with _open_regular(made) as one, _open_regular(there) as other:
            return digest_of(one) == digest_of(other)
    except (OSError, InputError):
        return False


def _checked(path: Path, names: list[str], content: Callable[[str], bytes]) -> Pack:
    """The pack of these files, if they are those that its manifest names."""
    strange = next((name for name in names if name != MANIFEST and _MEMBER.fullmatch(name) is None), None)
    if MANIFEST not in names:
        raise InputError(f"{path} is not a pack: it has no {MANIFEST}; `normlab study export FOLDER` writes one")
    members = _members(path, content(MANIFEST))
    if strange is not None:
        raise InputError(f"{path} holds {strange!r}, which no pack does; nothing of it is read")
    counts = Counter(names)
    for name in sorted({*counts, *members}):
        if counts[name] != 1 or (name not in members and name != MANIFEST):
            problem = "is missing" if name not in counts else "is not in its manifest, or is there twice"
            raise InputError(f"{path} is damaged: {name} {problem}")
    return Pack(path, members, content)


def _members(path: Path, manifest: bytes) -> dict[str, str]:
    """What a manifest lists."""
    try:
        values = parse_json(manifest)
    except ValueError:
        raise InputError(f"{path} is damaged: its {MANIFEST} can't be read") from None
    if "pack" not in values:
        raise InputError(f"{path} is not a pack, but may be a study's folder: `normlab study export {path}` packs it")
    if values["pack"] != FORMAT:
        raise InputError(
            f"{path} is a pack of format {values['pack']}, and this version of normlab reads format {FORMAT}: export "
            "it again with this version, or import it with the version that wrote it"
        )
    members = values.get("members")
    if not isinstance(members, dict) or manifest != manifest_of(members):
        raise InputError(f"{path} is damaged: its {MANIFEST} has been altered")
    wrong = next((name for name in members if _MEMBER.fullmatch(name) is None), None)
    if wrong is not None:
        raise InputError(f"{path} names {wrong!r}, which no pack holds; nothing of it is read")
    return {name: str(digest) for name, digest in members.items()}


def _member(name: str) -> re.Match[str]:
    found = _MEMBER.fullmatch(name)
    assert found is not None
    return found


def _names_below(path: Path) -> list[str]:
    """Every file of a folder; hidden ones, which systems leave anywhere, are none of a pack."""
    every = (Path(place) / name for place, _, names in os.walk(path) for name in names)
    names = (file.relative_to(path).as_posix() for file in every)
    return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))


def _read_below(path: Path, name: str) -> bytes:
    try:
        return read_regular(path / name)
    except OSError as error:
        raise InputError(f"{path}: {name} can't be read: {error.strerror}") from None


def _read_from(archive: zipfile.ZipFile, path: Path, name: str) -> bytes:
    try:
        if archive.getinfo(name).file_size > memory_of_machine() > 0:
            raise InputError(f"{path}: {name} is larger than the memory")
        return archive.read(name)
    except InputError:
        raise
    except _DAMAGED:
        raise InputError(f"{path}: {name} is damaged and can't be unpacked") from None


def _open_regular(path: Path) -> BinaryIO:
    """A file that is open for reading; a pipe would never end."""
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read: {getattr(error, 'strerror', error)}") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(f"{path} is neither a file nor a folder")
    return file
