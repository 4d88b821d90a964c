"""Columns that can be read, and are probably not what they are taken for. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from normlab.views import numbers
from normlab.views.columns import Column

MOST = 5  # sentences of one kind
FEW = 20  # different values that may be classes, whatever they look like
_GAPS = ("nan", "na", "n/a", "<na>", "null", "none", "?", "-")  # as labels, in lower case
_UNSEEN = dict.fromkeys([0xAD, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF])  # as copied from a page
_NOTATION = re.compile(r"\s*[-+]?[$€£¥]?\s*[0-9][0-9.,'\s]*[%$€£¥]?\s*")  # 1,700 and 12,5 and 3.5 % and $20
_ROW = re.compile(
    r"\s*(.*[\s_.-])?(u?id|idx|index|row|rows|rowid|rownames?|no|nr|num|number|case|obs|observation|sample|record|key"
    r"|level_\d+|#)\.?\s*",
    re.IGNORECASE,
)


def check_number_like(found: Column) -> None:
    """Refuse a text target most of whose many values are numbers, if only in another notation.

    Raises:
        InputError: it is one; the first value that isn't a plain number is named.
    """
    read = [numbers.number(value) is not None for value in found.values]
    like = sum(
        plain or (isinstance(value, str) and _NOTATION.fullmatch(value) is not None)
        for plain, value in zip(read, found.values, strict=True)
    )
    if 2 * like > len(read) and len(set(map(str, found.values))) > FEW:
        odd = read.index(False)
        found.refuse(
            odd,
            f"{found.values[odd]!r:.50} is not a number, as most targets are: write numbers with a decimal point and "
            "nothing else, and leave rows without a target out (task.goal=classification makes each value a class)",
        )


def check_classes(found: Column, classes: tuple[str, ...]) -> None:
    """Refuse labels that hardly ever occur twice.

    Raises:
        InputError: they do.
    """
    if len(classes) > FEW and 2 * len(classes) > len(found):
        found.refuse(
            0,
            f"the {len(found)} rows have {len(classes)} different labels, such as {found.values[0]!r:.50}, and classes "
            "have several rows each: choose another task.target, or task.goal=regression to predict numbers",
        )


def check_alike(found: Column, names: Iterable[str], kind: str = "labels") -> None:
    """Refuse names that look the same.

    Args:
        found: where they are.
        names: its different values.
        kind: what they name, for the message.

    Raises:
        InputError: two do.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(seen_as(name), name)
        if other != name:
            found.refuse(list(found.values).index(name), alike(other, name, kind))


def seen_as(name: str) -> str:
    """A name without what nobody sees: equal for names that look the same."""
    return " ".join(name.translate(_UNSEEN).split())


def alike(name: str, other: str, kind: str) -> str:
    """A sentence about two names that look the same."""
    return f"{kind} {_shown(name)} and {_shown(other)} differ only in spaces or characters that show nothing"


def _shown(name: str) -> str:
    return repr(name) if name.translate(_UNSEEN) == name else ascii(name)


def doubtful(names: Sequence[str], kind: tuple[str, str, str] = ("classes", "class", "label")) -> list[str]:
    """Sentences about classes that may be slips of those who wrote the labels.

    Args:
        names: of the classes, or of what else.
        kind: what they name, several and one; and what a cell holds.
    """
    several, one, cell = kind
    folded: dict[str, list[str]] = {}
    for name in names:
        folded.setdefault(name.casefold(), []).append(name)
    said = [f"{several} that differ only in case: {', '.join(same)}" for same in folded.values() if len(same) > 1]
    same: dict[float, list[str]] = {}
    for name in names:
        if (value := numbers.number(name)) is not None and value == value:
            same.setdefault(value, []).append(name)
    said += [f"{several} that are the same number: {', '.join(alike)}" for alike in same.values() if len(alike) > 1]
    said = [*said[:MOST], f"{len(said) - MOST} more {several} of that kind"] if len(said) > MOST else said
    gaps = [repr(name) for name in names if name.lower() in _GAPS]
    return said + ([f"read as a {one} of its own, and perhaps a missing {cell}: {', '.join(gaps)}"] if gaps else [])


def without_examples(classes: tuple[str, ...], answers: Mapping[str, NDArray[Any]], *, held_out: bool) -> list[str]:
    """A sentence for each split that lacks classes."""
    said = []
    for split, found in answers.items():
        seen = set(found.tolist())
        if lacks := [name for number, name in enumerate(classes) if number not in seen]:
            named = ", ".join(lacks[:5]) + ", …" * (len(lacks) > 5)
            why = ", as all are held out" if split == "train" and held_out else ""
            said.append(f"the {split} split has no example of {len(lacks)} of the {len(classes)} classes{why}: {named}")
    return said


def check_features(columns: list[Column]) -> list[str]:
    """Refuse a feature that only numbers the rows, by which sorted rows betray their target.

    Returns:
        Sentences about features that number the rows of the first file and are not named as if that were their purpose.

    Raises:
        InputError: one does, and is named so.
    """
    said = []
    for found in columns:
        read = [numbers.number(value) for value in found.values[: found.parts[0][1]]]
        start = read[0]
        if len(read) <= FEW or start is None or any(value != start + row for row, value in enumerate(read)):
            continue
        named = _ROW.fullmatch(found.name) or found.name.endswith(("Id", "ID"))
        if not named and start not in (0, 1):  # years, for example
            continue
        counts = f"numbers the rows, {start:g}, {start + 1:g}, {start + 2:g}, …"
        if named:
            found.refuse(
                0,
                f"this column {counts}, and is no feature: leave it out with task.omit=[{found.name}], or name the "
                "features with task.input=[…]",
            )
        said.append(f"the feature {found.name!r} {counts}: task.omit=[{found.name}] leaves it out")
    return said
