"""A checksum inside a checkpoint, which goes where the file goes. Imports no torch.

A checkpoint is a zip archive. The CRCs in it cover its members but not its directory, in which a flipped bit can lead
a reader to other bytes. The archive's comment, which every reader skips, therefore holds the SHA-256 of all bytes
before it.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Literal

from normlab.folder.files import read_regular

_TAG = b"normlab sha256 "
_DIGITS = 64
_END = b"PK\5\6"  # begins the archive's last record, of 22 bytes and the comment

# whole     as it was sealed
# damaged   not as it was sealed
# unsealed  it never was: made by another program or an earlier version, or no archive at all
State = Literal["whole", "damaged", "unsealed"]


def seal(archive: io.BytesIO) -> None:
    """Add the checksum to a zip archive without a comment, in place."""
    archive.seek(-2, io.SEEK_END)
    archive.write((len(_TAG) + _DIGITS).to_bytes(2, "little") + _TAG)  # the comment's length and its beginning
    archive.write(hashlib.sha256(archive.getbuffer()).hexdigest().encode())


def state_of(content: bytes) -> State:
    """Is the content of a checkpoint what was sealed?"""
    if content[:-_DIGITS].endswith(_TAG):
        same = hashlib.sha256(memoryview(content)[:-_DIGITS]).hexdigest().encode() == content[-_DIGITS:]
        return "whole" if same else "damaged"
    if content[-22:].startswith(_END) and content.endswith(b"\0\0"):
        return "unsealed"
    return "damaged" if content.startswith(b"PK") else "unsealed"


def is_whole(path: Path) -> bool:
    """Is the file there, and as it was sealed?"""
    try:
        return state_of(read_regular(path)) == "whole"
    except OSError:
        return False
