"""What this project's own studies have found about a cause: read from the committed reference, never written here."""

from __future__ import annotations

import re
from functools import cache
from math import exp
from pathlib import Path
from typing import Any, NamedTuple

from normlab.config.shipped import REFERENCE
from normlab.folder.study_folder import StudyFolder


class Evidence(NamedTuple):
    """A contrast of a finding, and a sentence with places for its mean and interval.

    scale  of the numbers in the sentence: 100 for points
    study  of the reference
    """

    finding: str
    contrast: str
    sentence: str
    scale: float = 1.0
    study: str = "quick"


_FEW = Evidence(
    "lstm_batch_size",
    "against layer norm",
    "an LSTM with batch norm over 4 examples is {mean:.1f} points of test accuracy [{low:.1f}, {high:.1f}] behind one "
    "with layer norm",
    100,
)
_FEW_IN_CNN = Evidence(
    "four_examples",
    "layer against batch @ cnn",
    "with batches of 4 in a CNN, whose statistics are over positions as well, layer norm \N{MINUS SIGN} batch norm is "
    "{mean:+.1f} points [{low:+.1f}, {high:+.1f}]",
    scale=100,
    study="full",
)
_SORTED = Evidence(
    "sorted_batches",
    "gap that sorting opens, batch against layer",
    "batches sorted by class open a gap of {mean:.0f} points of accuracy [{low:.0f}, {high:.0f}] between training and "
    "evaluation mode with batch norm, compared with layer norm",
    100,
)
_VANISHING = Evidence(
    "gradient_growth",
    "layer norm",
    "with layer norm a sigmoid layer passes back {mean:.2f} times [{low:.2f}, {high:.2f}] as much of the gradient as "
    "without a norm",
)
CAUSES = {
    "few_examples": (_FEW, _FEW_IN_CNN),
    "unsynchronised_statistics": (_FEW, _FEW_IN_CNN),
    "ordered_batches": (_SORTED,),
    "vanishing_gradient": (_VANISHING,),
}


@cache
def studied(cause: str, reference: Path = REFERENCE) -> str:
    """`lstm_batch_size, n = 8: an LSTM with …`; empty if nothing was studied, or there is no reference.

    Args:
        cause: of a diagnosis.
        reference: folder with its studies, `quick` and `full`.
    """
    return "; ".join(filter(None, (_found(asked, reference) for asked in CAUSES.get(cause, ()))))


def _found(asked: Evidence, reference: Path) -> str:
    study = StudyFolder(reference / asked.study)
    for verdict in study.read_verdicts() if study.verdicts_file.exists() else []:
        for estimate in verdict.get("estimates", []):
            if (verdict["finding"], estimate.get("name")) == (asked.finding, asked.contrast):
                return f"{asked.finding}, n = {len(estimate['seeds'])}: {_words(asked, estimate)}"
    return ""


def _words(asked: Evidence, estimate: dict[str, Any]) -> str:
    numbers = {"mean": estimate["mean"], "low": estimate["interval"]["low"], "high": estimate["interval"]["high"]}
    shown = {name: asked.scale * (exp(value) if estimate["ratio"] else value) for name, value in numbers.items()}
    return re.sub(r"-(?=\d)", "\N{MINUS SIGN}", asked.sentence.format(**shown))
