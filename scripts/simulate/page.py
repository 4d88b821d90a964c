"""Where the tables go: docs/verdicts/simulation.md, one section for each script."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "verdicts" / "simulation.md"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def rate(share: float, bound: float | None = None, studies: int = 0) -> str:
    """A share; in bold with a cross where it is above its bound by more than three standard errors."""
    text = f"{share:.4f}" if share < 0.1 else f"{share:.3f}"
    above = bound is not None and share > bound + 3 * (bound * (1 - bound) / studies) ** 0.5
    return f"**{text} ✗**" if above else text


def kept(section: str, heading: str) -> list[list[str]]:
    """The cells of the rows that the section's first table has; none if the section doesn't begin with that line."""
    text = _marks(section).search(PAGE.read_text(encoding="utf-8"))
    body = text[2].strip() if text else ""
    if not body.startswith(heading):
        return []
    lines = [line for line in body.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def write(section: str, text: str) -> None:
    """Replaces what stands between the page's marks of that section."""
    page = PAGE.read_text(encoding="utf-8")
    marks = _marks(section)
    if not marks.search(page):
        raise SystemExit(f"{PAGE} has no marks of {section}")
    PAGE.write_text(marks.sub(lambda m: f"{m[1]}\n{text.strip()}\n\n{m[3]}", page), encoding="utf-8")
    print(text)


def _marks(section: str) -> re.Pattern[str]:
    """The section's mark, what stands in it, and the mark of its end."""
    return re.compile(rf"(<!-- {section} -->\n)(.*?)(<!-- end of {section} -->)", re.DOTALL)
