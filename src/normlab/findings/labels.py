"""Cells and norms as people name them: "batch norm over 4 examples" for the arm "batch_4"."""

from __future__ import annotations

import re

from normlab.findings.finding import Finding
from normlab.findings.formula import Cell

NORMS = {
    "none": "no norm",
    "rms": "RMS norm",
    "dyt": "DyT",
    "derf": "Derf",
    "frn": "filter response norm",
    "grn": "global response norm",
    "layer_channel": "layer norm per pixel",
    "scale": "scale norm",
    "unit": "unit norm",
}


def norm_words(name: str) -> str:
    """`batch norm over 4 examples` for `batch over 4`; what a finding's `advice` calls a norm."""
    norm, _, rest = name.partition(" ")
    shown = NORMS.get(norm, f"{norm.replace('_', ' ')} norm")
    rest = re.sub(r"^over (\d+)$", r"over \1 examples", rest)
    return f"{shown} {rest}".strip()


def label(finding: Finding, cell: Cell) -> str:
    """An arm, and its condition if it has one: the finding's `label`, or else derived from its options."""
    arm = finding.label.get(cell.arm) or _arm(finding, cell.arm)
    where = condition_words(finding, cell.condition)
    return f"{arm} ({where})" if where else arm


def condition_words(finding: Finding, condition: str) -> str:
    """A condition by its `label`, or else its own name; empty for none."""
    return finding.label.get(condition) or condition.replace("_", " ")


def contrast_label(finding: Finding, name: str) -> str:
    """A contrast as people name it: `against batch norm (post-norm)` for `against batch norm @ post`."""
    contrast, _, condition = name.partition(" @ ")
    contrast = contrast.replace("_", " ")
    return f"{contrast} ({condition_words(finding, condition)})" if condition else contrast


def _arm(finding: Finding, arm: str) -> str:
    """The norm with its number of examples; the arm's own name where that doesn't tell it from another arm."""
    shown = _by_options(finding.arms[arm])
    same = [other for other in finding.arms if _by_options(finding.arms[other]) == shown]
    return shown if shown and len(same) == 1 else arm.replace("_", " ")


def _by_options(choices: list[str]) -> str:
    options = dict(choice.split("=", 1) for choice in choices if "=" in choice)
    if "norm" not in options:
        return ""
    nbs = options.get("norm.nbs", "")
    return norm_words(f"{options['norm']} over {nbs}" if nbs.isdigit() else options["norm"])
