"""Whether a pack that lies as a folder still holds what was packed. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from normlab.config.schema import InputError
from normlab.folder.pack import open_pack


def altered_members(folder: Path) -> list[str]:
    """What of an unpacked pack, such as the committed reference, is not what was packed, in words."""
    problems: list[str] = []
    if not folder.exists():
        return problems
    try:
        with open_pack(folder) as pack:
            for name in pack.members:
                try:
                    pack.read(name)
                except InputError as error:
                    problems.append(f"{error}.")
    except InputError as error:
        problems.append(f"{error}.")
    return problems
