"""The records of a study, in one folder from which a report can be made. Records grow and never shrink."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from normlab.config.schema import InputError
from normlab.findings.finding import Finding
from normlab.findings.judge import keep_first
from normlab.findings.stored import stored
from normlab.findings.verdict import NOT_JUDGED, Reason, Verdict
from normlab.folder.looks import LooksFile
from normlab.folder.study_folder import StudyFolder
from normlab.runs.provenance import command, git_state, machine, packages
from normlab.study.planned import PlanRecord

_PACKAGES = ("torch", "pytorch-lightning", "hydra-core", "torchmetrics", "numpy", "scipy", "pandas", "omegaconf")


class Ledger:
    """The folder of a study at a scale.

    Earlier records stay until this invocation has at least as many runs: a finding that is repeated with fewer
    seeds, or whose runs fail this time, keeps its earlier rows, curves and verdict.

    kept_before  findings whose earlier records have more runs than this invocation
    """

    def __init__(self, folder: Path, scale: str) -> None:
        self.folder = folder
        self.scale = scale
        self.planned = PlanRecord(folder)
        self.kept_before: set[str] = set()
        self._damaged: list[Path] = []
        self._files = StudyFolder(folder)
        recorded = self._files.read_judged()
        self.looks: dict[str, list[dict[str, Any]]] = self._files.read_looks()
        if (not recorded or (recorded.get("looks") and not self.looks)) and self._files.verdicts_file.exists():
            self._damaged.append(self._files.verdicts_file)
        self._verdicts: dict[str, dict[str, Any]] = {v["finding"]: v for v in self._files.read_verdicts()}
        rules = self._files.read_manifest().get("rules")
        self._recorded_rules: dict[str, str] = rules if isinstance(rules, dict) else {}
        self._rules: dict[str, str] = {}
        self._rows = self._read_runs()
        self._curves = self._read_curves()
        self._scores = self._read_example_scores()

    def check_rule(self, finding: Finding) -> None:
        """Check that a primary finding's rule is the one of its first look at the data.

        Raises:
            InputError: the rule has changed since, or the recorded looks can't be read.
        """
        self._rules[finding.name] = finding.rule_hash
        before = self._seen(finding)
        if finding.primary and before and before[0]["rule"] != finding.rule_hash:
            raise InputError(
                f"conf/finding/{finding.name}.yaml has changed since its first verdict, {before[0]['state']} "
                f"(n = {before[0]['n']}), in {self._files.output}; a rule is fixed before the data are seen. "
                "Undo the change, or start again with another output=..."
            )

    def looked(self, finding: Finding, verdict: Verdict) -> Verdict:
        """Record the look, and return the verdict that counts after it.

        A primary finding's new verdict counts only if this look is the next one planned and no earlier look has
        decided. Otherwise the verdict of the planned looks counts, whatever came after.
        """
        n = min((arm.n for arm in verdict.arms), default=0)
        if verdict.reason is Reason.INCOMPLETE or not verdict.arms:
            return verdict
        seen = self._seen(finding)
        extended = seen[0] if seen and n > seen[0]["n"] else None
        if not finding.primary or finding.rule == "exact" or verdict.reason in NOT_JUDGED:
            self._add(finding, verdict, n)
            return replace(verdict, first=extended)
        # a look without planned looks comes from an earlier version, whose interval did not keep its level
        counted = [look for look in seen if look["reason"] not in NOT_JUDGED and "looks" in look]
        at = next((look for look in counted if look["n"] == n), None)
        as_planned = not counted or counted[0]["looks"] == verdict.looks
        if as_planned and at is not None:
            kept = keep_first(verdict, at)
            return kept if kept is verdict else replace(kept, first=at)
        if as_planned and (not counted or (counted[-1]["state"] == "undecided" and n > counted[-1]["n"])):
            self._add(finding, verdict, n)
            return verdict
        return replace(keep_first(verdict, counted[-1]), first=counted[-1])

    def _add(self, finding: Finding, verdict: Verdict, n: int) -> None:
        looks = self.looks.setdefault(finding.name, [])
        look = {
            "state": verdict.state,
            "reason": verdict.reason,
            "n": n,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "rule": self._rules[finding.name],
            "looks": verdict.looks,
            "study": self.folder.name,
        }
        if _is_new(look, looks):
            looks.append(look)
        if _is_new(look, self._file(finding).read()):
            self._file(finding).add(look)

    def _seen(self, finding: Finding) -> list[dict[str, Any]]:
        """The finding's looks at this scale, in any study; without a file of looks, those of this study."""
        return self._file(finding).read() or self.looks.get(finding.name, [])

    def _file(self, finding: Finding) -> LooksFile:
        return LooksFile(self._files.output, finding.name, self.scale)

    def keep(
        self,
        finding: Finding,
        rows: Sequence[dict[str, Any]],
        curves: Sequence[dict[str, Any]],
        scores: Mapping[str, dict[str, Any]],
    ) -> None:
        """Replace a finding's records, unless they have more runs judged by the same rule.

        Args:
            scores: run → its record of scores per example.
        """
        before = [row for row in self._rows if row["finding"] == finding.name]
        if self._by_the_same_rule(finding) and _reported(rows) < _reported(before):
            self.kept_before.add(finding.name)
            return
        self.kept_before.discard(finding.name)  # an earlier look of this invocation had fewer
        self._begin()
        self._rows = [row for row in self._rows if row["finding"] != finding.name] + list(rows)
        self._curves = [row for row in self._curves if row["finding"] != finding.name] + list(curves)
        runs = {row.get("id") for row in self._rows}
        self._scores = {run: record for run, record in {**self._scores, **scores}.items() if run in runs}
        self._files.write_runs(self._rows)
        self._files.write_curves(self._curves)
        self._files.write_example_scores(self._scores)

    def save(self, finding: Finding, verdict: Verdict) -> None:
        """Write a verdict next to the study's other verdicts, new and earlier."""
        if not verdict.arms and self._verdicts.get(finding.name, {}).get("arms") and self._by_the_same_rule(finding):
            self.kept_before.add(finding.name)
        if finding.name not in self.kept_before:
            self._verdicts[finding.name] = stored(verdict)
            self._recorded_rules[finding.name] = finding.rule_hash
        self._begin()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        git = git_state()
        manifest = {
            "command": command(),
            "time": now,
            "commit": git["commit"] if git else None,
            "edited": bool(git and git["diff"]),
            "machine": {k: v for k, v in machine().items() if k != "host"},
            "packages": {name: version for name, version in packages().items() if name in _PACKAGES},
            "rules": self._recorded_rules,
        }
        self._files.write_verdicts([*self._verdicts.values()], self.looks)
        self._files.write_manifest(manifest)

    def _by_the_same_rule(self, finding: Finding) -> bool:
        return self._recorded_rules.get(finding.name, finding.rule_hash) == finding.rule_hash

    def _begin(self) -> None:
        """Before the first write: create the folder, and set damaged files aside."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self._damaged:
            path.replace(_free(path))
        self._damaged = []

    def _read_runs(self) -> list[dict[str, Any]]:
        """The rows of an earlier invocation; a damaged table is set aside before a new one is started."""
        try:
            return self._files.read_runs()
        except InputError:
            self._damaged.append(self._files.runs_file)
            return []

    def _read_example_scores(self) -> dict[str, dict[str, Any]]:
        """Those of an earlier invocation; a damaged file is set aside, and read from the runs again."""
        try:
            return self._files.read_example_scores()
        except InputError:
            self._damaged.append(self._files.example_scores_file)
            return {}

    def _read_curves(self) -> list[dict[str, Any]]:
        rows, problem = self._files.read_curves()
        if problem and self._files.curves_file.exists():
            self._damaged.append(self._files.curves_file)
        return rows


def _is_new(look: dict[str, Any], looks: Sequence[dict[str, Any]]) -> bool:
    """Is there no recorded look yet with as many seeds and of the same kind (judged or not judged)?"""
    kind = (look["n"], look["reason"] in NOT_JUDGED)
    return all((known["n"], known["reason"] in NOT_JUDGED) != kind for known in looks)


def _reported(rows: Sequence[dict[str, Any]]) -> int:
    """The number of reporting runs."""
    return sum(row["stage"] == "report" for row in rows)


def _free(path: Path) -> Path:
    """A free name next to a damaged file, to move it to."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside
