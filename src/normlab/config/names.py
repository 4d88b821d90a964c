"""Names that users give: which are refused, and how they become names of files and ids."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any

from pydantic import AfterValidator

from normlab.config.errors import InputError

LONGEST = 200  # characters


def check_name(key: str, name: str) -> str:
    """The name, if it is valid. Names on the hub, such as someone/reviews, are valid.

    Raises:
        InputError: it is empty or longer than 200 characters, leads out of a folder, or has unprintable characters.
    """
    if not name.strip() or len(name) > LONGEST:
        raise InputError(f"{key} has {len(name)} characters: a name has 1 to {LONGEST}, not all of them spaces")
    if not name.isprintable():
        raise InputError(f"{key}={ascii(name)[1:-1]}: a name can't contain control characters or line breaks")
    if "\\" in name or any(part.strip() in ("", ".", "..") for part in name.split("/")):
        raise InputError(f"{key}={name}: this is a path, not a name; use a name such as reviews or someone/reviews")
    return name


def check_file_name(key: str, name: str) -> str:
    """The same for names that become names of files and folders unchanged.

    Raises:
        InputError: as above, or no folder of that name could be created.
    """
    check_name(key, name)
    if slug(name) != name:
        raise InputError(f"{key}={name}: folders are named after it, so write letters, digits, - and _, 64 at most")
    return name


def _file_name(name: str) -> str:
    return check_file_name("name", name)


FileName = Annotated[str, AfterValidator(_file_name)]


def slug(name: str, most: int = 64) -> str:
    """The name as part of a file name or a W&B id: letters, digits, `-`, `_` and `.`, but no `.` in front.

    A name that is already valid and short enough stays as it is; hashes distinguish the ids made from it.
    """
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII).lstrip(".")[:most] or "_"


def shortened(text: str, most: int = 64) -> str:
    """The text, at most so long; a longer one is cut, and ends in a hash that makes it unique."""
    return text if len(text) <= most else f"{text[: most - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def component_name(node: dict[str, Any]) -> str:
    """`{"_target_": "normlab.norms.layer.LayerNorm"}` → `"layer"`."""
    return str(node["_target_"]).rpartition(".")[0].rpartition(".")[2]
