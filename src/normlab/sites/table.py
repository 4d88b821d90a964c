"""A network's norm sites as a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NormSite:
    """A norm in a network.

    path        of its module
    called      name of its class, or of the function
    norm        what it computes, by the names of normlab's norms; empty: unknown
    layout      of its input, seen in a forward pass; empty: not reached
    channels    C
    over        letters of the axes over which one set of its statistics is taken
    options     of normlab's norm, with which it is the same
    trained     which of gain, bias and running statistics differ from their initial values
    calls       per forward pass
    shared      other paths of the same module
    obstacle    why it can't be replaced; empty: it can
    """

    path: str
    called: str
    norm: str = ""
    layout: str = ""
    channels: int | None = None
    over: str = ""
    options: tuple[tuple[str, Any], ...] = ()
    trained: tuple[str, ...] = ()
    calls: int = 0
    shared: tuple[str, ...] = ()
    obstacle: str = ""

    @property
    def reached(self) -> bool:
        """Whether the example's forward pass calls it."""
        return self.calls > 0


@dataclass(frozen=True)
class NormSites:
    """All norm sites of a network; prints as a table, and iterates over `NormSite`s."""

    sites: tuple[NormSite, ...]

    def __iter__(self) -> Iterator[NormSite]:
        return iter(self.sites)

    def __len__(self) -> int:
        return len(self.sites)

    def __getitem__(self, path: str) -> NormSite:
        for site in self.sites:
            if path in (site.path, *site.shared):
                return site
        raise KeyError(f"{path!r} is no norm site: {', '.join(site.path for site in self.sites)}")

    @property
    def swappable(self) -> tuple[NormSite, ...]:
        """Those that `swap_norms` can replace."""
        return tuple(site for site in self.sites if not site.obstacle)

    def __str__(self) -> str:
        heads = ("site", "class", "norm", "layout", "C", "over", "options", "trained", "calls")
        rows = [_row(site) for site in self.sites]
        left = [f"{site.path or 'the network itself'}: {site.obstacle}" for site in self.sites if site.obstacle]
        shared = [f"{site.path} is also {', '.join(site.shared)}" for site in self.sites if site.shared]
        summary = f"{len(self.sites)} norm sites, {len(self.swappable)} can be swapped"
        return "\n".join([columns(heads, rows), "", summary, *(clipped(line) for line in (*shared, *left))])


_USUAL = {"eps": 1e-5, "momentum": 0.1}  # not printed


def _row(site: NormSite) -> tuple[str, ...]:
    other = [(name, value) for name, value in site.options if _USUAL.get(name) != value]
    options = " ".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in other)
    trained = ",".join(site.trained) or ("no" if site.norm else "")
    channels = "" if site.channels is None else str(site.channels)
    calls = str(site.calls) if site.calls else "not reached"
    return site.path, site.called, site.norm or "?", site.layout, channels, site.over, options, trained, calls


WIDTH = 100


def clipped(line: str) -> str:
    """The line in words, broken at the width of a table."""
    import textwrap

    return textwrap.fill(line, WIDTH, subsequent_indent="  ", break_long_words=False)


def columns(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Rows below their heads, at most 100 characters wide; long cells are shortened inside."""
    table = [heads, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(heads))]
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH and max(widths) > 6:
        # the second column can be shortened most, then the path
        narrowed = 1 if widths[1] > 10 else 0 if widths[0] > 30 else widths.index(max(widths))
        widths[narrowed] -= 1
    lines = [
        "  ".join(_fitted(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table
    ]
    return "\n".join(line.rstrip() for line in lines)


def _fitted(cell: str, width: int) -> str:
    if len(cell) <= width:
        return cell
    end = 2 * (width - 1) // 3  # what distinguishes paths is near their ends
    return f"{cell[: width - 1 - end]}…{cell[len(cell) - end :]}"
