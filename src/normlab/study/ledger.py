"""What a study leaves behind, in one folder that a report can be made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from normlab.config.schema import InputError
from normlab.findings.finding import Finding
from normlab.findings.verdict import Verdict
from normlab.folder.study_folder import StudyFolder
from normlab.runs.provenance import command, git_state, machine, packages
from normlab.study.planned import PlanRecord

_PACKAGES = ("torch", "pytorch-lightning", "hydra-core", "torchmetrics", "numpy", "scipy", "pandas", "omegaconf")


class Records:
    """The folder of a study at a scale."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.planned = PlanRecord(folder)
        self.looks: dict[str, list[dict[str, Any]]] = StudyFolder(folder).read_looks()
        self._rules: dict[str, str] = {}
        self._rows = _kept(StudyFolder(folder))
        self._curves = StudyFolder(folder).read_curves().rows

    def check_rule(self, finding: Finding) -> None:
        """A primary's rule is fixed before its first look at the data.

        Raises:
            InputError: it has changed since.
        """
        self._rules[finding.name] = finding.rule_hash
        before = self.looks.get(finding.name, [])
        if finding.primary and before and before[0]["rule"] != finding.rule_hash:
            raise InputError(
                f"conf/finding/{finding.name}.yaml has changed since its first verdict, {before[0]['state']} "
                f"(n = {before[0]['n']}), in {self.folder}; a rule is fixed before the data. "
                "Undo the change, or begin anew with another output=..."
            )

    def first_look(self, finding: Finding, verdict: Verdict) -> dict[str, Any] | None:
        """The verdict before the study was extended, and a note of this one."""
        n = min((arm.n for arm in verdict.arms), default=0)
        if verdict.reason.startswith("incomplete") or not verdict.arms:
            return None
        looks = self.looks.setdefault(finding.name, [])
        if all(look["n"] != n for look in looks):
            now = datetime.now(UTC).isoformat(timespec="seconds")
            state = {"state": verdict.state, "reason": verdict.reason, "n": n, "time": now}
            looks.append({**state, "rule": self._rules[finding.name]})
        return looks[0] if n > looks[0]["n"] else None

    def keep(self, finding: Finding, rows: Sequence[dict[str, Any]], curves: Sequence[dict[str, Any]]) -> None:
        """Replace what is there of a finding."""
        self._rows = [row for row in self._rows if row["finding"] != finding.name] + list(rows)
        self._curves = [row for row in self._curves if row["finding"] != finding.name] + list(curves)
        StudyFolder(self.folder).write_runs(self._rows)
        StudyFolder(self.folder).write_curves(self._curves)

    def save(self, verdicts: Sequence[Verdict]) -> None:
        """Write the verdicts so far."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        git = git_state()
        manifest = {
            "command": command(),
            "time": now,
            "commit": git["commit"] if git else None,
            "edited": bool(git and git["diff"]),
            "machine": {k: v for k, v in machine().items() if k != "host"},
            "packages": {name: version for name, version in packages().items() if name in _PACKAGES},
            "rules": self._rules,
        }
        StudyFolder(self.folder).write_verdicts([asdict(v) for v in verdicts], self.looks)
        StudyFolder(self.folder).write_manifest(manifest)


def _kept(folder: StudyFolder) -> list[dict[str, Any]]:
    """The rows of an earlier study; a damaged table is begun anew, as the runs hold everything."""
    try:
        return folder.read_runs()
    except InputError:
        return []
