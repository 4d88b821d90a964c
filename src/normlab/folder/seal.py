"""A checksum stored inside the checkpoint file. Imports no torch.

A checkpoint is a zip archive. Its CRCs cover the members but not the directory, where a flipped bit can point a reader
to other bytes. So the archive's comment, which every reader skips, stores the SHA-256 of all bytes before it.
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

# whole     matches its checksum
# # damaged   doesn't match its checksum
# # unsealed  has no checksum: made by another program or an earlier version, or not an archive
State = Literal["whole", "damaged", "unsealed"]


def seal(archive: io.BytesIO) -> None:
    """Add the checksum to a zip archive without a comment, in place."""
    archive.seek(-2, io.SEEK_END)
    archive.write((len(_TAG) + _DIGITS).to_bytes(2, "little") + _TAG)  # the comment's length and its beginning
    archive.write(hashlib.sha256(archive.getbuffer()).hexdigest().encode())


def state_of(content: bytes) -> State:
    """Does the content of a checkpoint match its checksum?"""
    if content[:-_DIGITS].endswith(_TAG):
        same = hashlib.sha256(memoryview(content)[:-_DIGITS]).hexdigest().encode() == content[-_DIGITS:]
        return "whole" if same else "damaged"
    if content[-22:].startswith(_END) and content.endswith(b"\0\0"):
        return "unsealed"
    return "damaged" if content.startswith(b"PK") else "unsealed"


def is_whole(path: Path) -> bool:
    """Does the file exist and match its checksum?"""
    try:
        return state_of(read_regular(path)) == "whole"
    except OSError:
        return False
