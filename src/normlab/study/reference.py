"""The committed reference: learning rates for studies that don't tune, and estimates to compare with."""

from __future__ import annotations

from pathlib import Path

from normlab.config.schema import InputError
from normlab.findings.finding import Finding
from normlab.findings.formula import Cell
from normlab.findings.tuning import TuningScores
from normlab.findings.verdict import Row
from normlab.folder.pack import TUNING, open_pack
from normlab.folder.study_table import read_rows
from normlab.study.scale import Scale
from normlab.study.stages import key_of, rates_of, scores_of, tuned_cells


def reference_scores(finding: Finding, scale: Scale, reference: Path) -> dict[Cell, TuningScores]:
    """The learning rates in the committed table for the finding's cells.

    Raises:
        InputError: it has none, for example because the finding has changed.
    """
    rows = reference_rates(reference)
    found = {}
    for cell in tuned_cells(finding):
        own = rates_of(rows, finding, key_of(finding, cell, scale))
        if not own:
            raise InputError(
                f"results/reference/tuning.csv has no rates for {cell} of {finding.name} at scale={scale.name}: tune "
                "it first with scale.tuning=own"
            )
        found[cell] = scores_of(finding, own)
    return found


def reference_rates(reference: Path) -> list[Row]:
    """The committed table of tuning runs; empty if there is none.

    Raises:
        InputError: it is damaged, or was altered since it was packed.
    """
    if not (reference / TUNING).exists():
        return []
    with open_pack(reference) as pack:
        return [*read_rows(reference / TUNING, pack.read(TUNING))]
