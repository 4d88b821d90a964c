"""Every verdict of a study's folder recomputed, and how it differs from the recorded one."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from normlab.config.shipped import CONF, REFERENCE
from normlab.findings.stored import stored
from normlab.findings.verdict import Verdict
from normlab.folder.study_folder import StudyFolder
from normlab.results.rejudge import read_evidence

CLOSE = 1e-6  # relative; the digits of a CSV file allow no more
HISTORY = ("first",)  # of a verdict, which the table doesn't know


def rejudge(folder: Path, conf: Path = CONF, reference: Path = REFERENCE) -> list[Verdict]:
    """Recompute every verdict of a study's folder. For the arguments see `read_evidence`."""
    scales = {v["finding"]: v["scale"] for v in StudyFolder(folder).read_verdicts()}
    return [e.judged(scales.get(e.finding.name, "")) for e in read_evidence(folder, conf, reference)]


def differences(folder: Path, verdicts: Sequence[Verdict]) -> list[str]:
    """How a study's verdicts.json differs from these verdicts, in words; empty if it doesn't."""
    now = {v.finding: _flat(json.loads(json.dumps(_kept(stored(v))))) for v in verdicts}
    was = {v["finding"]: _flat(_kept(v)) for v in StudyFolder(folder).read_verdicts()}
    lines = [f"{name}: has no verdict in verdicts.json" for name in now if name not in was]
    lines += [f"{name}: has no runs in runs.csv" for name in was if name not in now]
    for name in [name for name in was if name in now]:
        for key in {**was[name], **now[name]}:
            before, after = was[name].get(key), now[name].get(key)
            if not _equal(before, after):
                lines.append(f"{name}: {key} was {before} and is {after}")
    return lines


def _kept(verdict: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in verdict.items() if key not in HISTORY}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """`estimates.0.interval.low` → its value."""
    if isinstance(value, dict):
        items = [(str(key), part) for key, part in value.items()]
    elif isinstance(value, list):
        items = [(str(number), part) for number, part in enumerate(value)]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, part in items:
        flat |= _flat(part, f"{prefix}.{key}" if prefix else key)
    return flat


def _equal(before: Any, after: Any) -> bool:
    if isinstance(before, float) or isinstance(after, float):
        if not (isinstance(before, int | float) and isinstance(after, int | float)):
            return False
        return math.isclose(before, after, rel_tol=CLOSE, abs_tol=1e-12) or (math.isnan(before) and math.isnan(after))
    return bool(before == after)
