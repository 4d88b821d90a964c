"""Reading a finding: what notebook 03 imports."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from scipy import stats

from normlab.charts.colours import colour_of
from normlab.findings.estimates import margin_of
from normlab.findings.finding import LEAST
from normlab.findings.judge import PRIMARIES
from normlab.findings.tuning import TuningScores
from normlab.folder.jsonfile import read_json
from normlab.folder.study_folder import StudyFolder, studies_below
from normlab.folder.study_table import read_rows
from normlab.lessons.common import OUTPUT, show
from normlab.results.rejudge import read_evidence
from normlab.stats.paired import compare
from normlab.stats.power import seeds_needed
from normlab.study.stages import rates_of

BLUE, RED, BROWN = colour_of("layer"), colour_of("batch"), "#5e2400"

__all__ = [
    "BLUE",
    "BROWN",
    "LEAST",
    "OUTPUT",
    "PRIMARIES",
    "RED",
    "Path",
    "TuningScores",
    "compare",
    "margin_of",
    "math",
    "np",
    "pd",
    "plt",
    "product",
    "rates_of",
    "read_evidence",
    "read_json",
    "read_rows",
    "seeds_needed",
    "show",
    "stats",
    "study_with",
]


def study_with(finding: str) -> Path:
    """The folder of a study that holds the finding: the reference, else your newest."""
    own = [study for study in studies_below(OUTPUT) if study.runs_file.exists()]
    own.sort(key=lambda study: study.runs_file.stat().st_mtime, reverse=True)
    for study in (StudyFolder(Path("results/reference/quick")), *own):
        if any(row["finding"] == finding for row in study.read_runs()):
            return study.folder
    raise SystemExit(
        f"No study holds {finding} yet. Run: python train.py finding={finding} scale=quick scale.tuning=own"
    )
