"""Publish what the reference found: its page, docs/reference/index.html, and README's picture, docs/claims.svg.

The picture of the norms' axes, docs/axes.svg, is drawn too.
"""

from __future__ import annotations

from pathlib import Path

import axes

from normlab.charts.forest import forest, picture
from normlab.report.build import build, gather

DOCS = Path(__file__).parents[2] / "docs"


def claims() -> str:
    """The picture of the six claims."""
    return picture(forest((section.finding, section.verdict) for section in gather([]).sections))


def page(folder: Path) -> Path:
    """The page of the reference alone."""
    return build(folder, [], papers=False)[0]


if __name__ == "__main__":
    (DOCS / "claims.svg").write_text(claims(), encoding="utf-8")
    print(DOCS / "claims.svg")
    (DOCS / "axes.svg").write_text(axes.picture(), encoding="utf-8")
    print(DOCS / "axes.svg")
    print(page(DOCS / "reference"))
