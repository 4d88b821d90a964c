"""Which training rows are held out for validation. Imports no torch."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from normlab.config.schema import InputError
from normlab.data.material import Builder
from normlab.views import doubts
from normlab.views.columns import Column, group_name

SPLIT_SEED = 0  # one validation split for all runs

Index = NDArray[np.int64]


def held_out(count: int, share: float, groups: Column | None, builder: Builder) -> tuple[Index, Index]:
    """Rows kept for training and rows held out, at random, because the end of a file may have only one class.

    Args:
        count: rows.
        share: of the rows, that is held out.
        groups: all rows with one value are on one side.
        builder: keeps a sentence about how many groups were held out.

    Raises:
        InputError: a side would be empty.
    """
    if groups is not None:
        return _groups(groups, share, builder)
    held = max(1, round(count * share))
    if held >= count:
        raise InputError(
            f"the training split has {count} row{'s' * (count > 1)}, too few to hold out a validation split"
        )
    order = np.random.default_rng(SPLIT_SEED).permutation(count)
    return np.sort(order[held:]), np.sort(order[:held])


def _groups(groups: Column, share: float, builder: Builder) -> tuple[Index, Index]:
    """Whole groups in random order, until they have about that share of the rows."""
    names = sorted(set(groups.values), key=lambda value: (str(type(value)), value))
    if len(names) < 2:
        raise InputError(
            f"task.groups={groups.name} has one group, {names[0]!r}, so a validation split without it would be empty: "
            "give a validation split, or another column"
        )
    number = {name: i for i, name in enumerate(names)}
    member = np.array([number[value] for value in groups.values])
    sizes = np.bincount(member)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(names))
    taken = np.cumsum(sizes[order])[:-1]  # one group at least is left for training
    held = order[: int(np.abs(taken - share * len(member)).argmin()) + 1]
    chosen = np.isin(member, held)
    builder.said.append(
        f"groups by {groups.name!r}: {len(names) - len(held)} in training, {len(held)} held out for validation"
    )
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def check_kept(classes: Sequence[str], kept: Index | NDArray[np.float64], *, groups: bool) -> None:
    """Check that more than one class is left for training.

    Raises:
        InputError: a single one is.
    """
    there = set(kept.tolist())
    if len(there) == 1:
        what = f"all rows that are left for training have the label {classes[there.pop()]!r}, the others are held out"
        raise InputError(
            f"{what}: give a validation split, or {'choose other task.groups' if groups else 'more examples'}"
        )


def check_groups(groups: Mapping[str, Column], used: Container[str], builder: Builder) -> None:
    """Check that no group is in two splits, nor under two names that look the same.

    Raises:
        InputError: one is.
    """
    seen: dict[str, tuple[str, str]] = {}  # as it looks → its name and split
    for split, found in groups.items():
        if split in used:
            for i, value in enumerate(found.values):
                name = group_name(value)
                first, where = seen.setdefault(doubts.seen_as(name), (name, split))
                if first != name:
                    found.refuse(i, doubts.alike(first, name, "groups"))
                if where != split:
                    found.refuse(i, f"group {value!r} is in the {where} split too: its rows must be in one split")
    builder.said += doubts.doubtful([name for name, _ in seen.values()], ("groups", "group", "name"))
