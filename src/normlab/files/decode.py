"""Bytes to text, without guessing: UTF-8, or the encoding of a byte-order mark; gzip by the suffix .gz."""

from __future__ import annotations

import codecs
import gzip
import io
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from normlab.config.schema import InputError

LONGEST_LINE = 2**28  # characters; a file with a longer line is not a table
_SHORT, _POINTER = 1024, b"version https://git-lfs.github.com/spec/"
_MARKS = (  # UTF-32 before UTF-16, whose mark is a prefix of UTF-32's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def check_file(path: Path) -> None:
    """Check that this is a regular file that fits into memory.

    Raises:
        InputError: it is a pipe, a device or a socket, it can't be read, it is larger than the free memory, or Git LFS
            has not fetched it.
    """
    import psutil

    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path} is a pipe, device, socket or folder, not a regular file")
        with path.open("rb") as file:
            start = file.read(len(_POINTER)) if found.st_size < _SHORT else b""
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from error
    if start == _POINTER:
        raise InputError(f"{path} is a pointer of Git LFS, in place of the file itself: fetch it with `git lfs pull`")
    free = psutil.virtual_memory().available
    if found.st_size > free:
        raise InputError(f"{path} has {found.st_size / 1e9:.1f} GB, but this machine has only {free / 1e9:.1f} GB free")


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open the text of a file, with its line ends but without a byte-order mark.

    Raises:
        InputError: a byte is invalid in the encoding, or the compressed file is damaged.
    """
    try:
        with _open_bytes(path) as binary:
            encoding = _encoding(binary)
            with io.TextIOWrapper(binary, encoding, newline="") as text:
                yield text
    except UnicodeDecodeError as error:
        byte, name = error.object[error.start], encoding.removesuffix("-sig").upper()
        raise InputError(
            f"{path}: byte {_position(path, encoding)} (0x{byte:02x}) is not {name}; save the file as UTF-8"
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: the compressed file is damaged or cut off ({error})") from None
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error


def lines(path: Path, text: TextIO) -> Iterator[str]:
    """The lines of an opened text.

    Raises:
        InputError: it has NUL characters or endless lines, so it is not text.
    """
    while line := text.readline(LONGEST_LINE):
        check_text(path, line)
        if len(line) == LONGEST_LINE:
            raise InputError(f"{path}: a line is longer than {LONGEST_LINE} characters; this is not a table")
        yield line


def read_whole(path: Path, text: TextIO) -> str:
    """The whole text; line ends of Windows and of old Macs become line feeds."""
    pieces = []
    while piece := text.read(2**24):
        check_text(path, piece)
        pieces.append(piece)
    return "".join(pieces).replace("\r\n", "\n").replace("\r", "\n")


def check_text(path: Path, text: str) -> None:
    """Refuse NUL characters, which mean a binary file, or UTF-16 without a byte-order mark."""
    if "\0" in text:
        raise InputError(
            f"{path} contains NUL characters: it is not text, or UTF-16 without a byte-order mark; save it as UTF-8"
        )


def _open_bytes(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb"))


def _encoding(binary: BinaryIO) -> str:
    start = binary.read(4)
    binary.seek(0)
    return next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8-sig")


def _position(path: Path, encoding: str) -> int:
    """Position of the first byte that can't be decoded, counted from 0."""
    decoder, before = codecs.getincrementaldecoder(encoding)(), 0
    with _open_bytes(path) as binary:
        while True:
            chunk = binary.read(2**20)
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                mark = 3 if encoding == "utf-8-sig" and before == 0 and chunk.startswith(codecs.BOM_UTF8) else 0
                return before + len(chunk) - len(error.object) + error.start if not mark else mark + error.start
            before += len(chunk)
