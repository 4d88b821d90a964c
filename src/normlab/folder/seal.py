"""A checksum stored inside a checkpoint or a pack. Imports no torch.

Both are zip archives. The CRCs in one cover its members but not its directory, in which a flipped bit can lead a reader
to other bytes. The archive's comment, which every reader skips, therefore holds the SHA-256 of all bytes before it.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import BinaryIO, Literal

from normlab.folder.files import read_regular

_TAG = b"normlab sha256 "
_DIGITS = 64
_END = b"PK\5\6"  # begins the archive's last record, of 22 bytes and the comment
_CHUNK = 1 << 20

# whole     matches its checksum
# damaged   doesn't match its checksum
# unsealed  has no checksum: made by another program or an earlier version, or not an archive
State = Literal["whole", "damaged", "unsealed"]


def seal(archive: BinaryIO) -> None:
    """Add the checksum to a zip archive without a comment, in place; it is open for reading and writing."""
    archive.seek(-2, io.SEEK_END)
    archive.write((len(_TAG) + _DIGITS).to_bytes(2, "little") + _TAG)  # the comment's length and its beginning
    digest = digest_of(archive, archive.tell())
    archive.seek(0, io.SEEK_END)
    archive.write(digest)


def state_of(content: bytes) -> State:
    """Is the content of a checkpoint what was sealed?"""
    return state_of_file(io.BytesIO(content))


def state_of_file(file: BinaryIO) -> State:
    """The same of an open file, which is read in parts."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - len(_TAG) - _DIGITS))
    end = file.read()
    if end.startswith(_TAG) and len(end) == len(_TAG) + _DIGITS:
        return "whole" if digest_of(file, size - _DIGITS) == end[-_DIGITS:] else "damaged"
    if end[-22:].startswith(_END) and end.endswith(b"\0\0"):
        return "unsealed"
    file.seek(0)
    return "damaged" if file.read(2) == b"PK" else "unsealed"


def is_whole(path: Path) -> bool:
    """Does the file exist and match its checksum?"""
    try:
        return state_of(read_regular(path)) == "whole"
    except OSError:
        return False


def digest_of(file: BinaryIO, length: int | None = None) -> bytes:
    """SHA-256, as hexadecimal digits, of the first bytes of an open file; None: of all."""
    length = file.seek(0, io.SEEK_END) if length is None else length
    file.seek(0)
    digest = hashlib.sha256()
    while length > 0 and (part := file.read(min(_CHUNK, length))):
        digest.update(part)
        length -= len(part)
    return digest.hexdigest().encode()
