"""What a study leaves behind, in one folder that a report can be made of.

runs.csv       a row a finding and run: tuning and reporting
curves.csv     every validation of the reporting runs
verdicts.json  each finding's verdict, with the looks that it had before
plan.json      the findings as they were planned, and their runs; see `progress`
manifest.json  command, commit, machine, versions
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from normlab.config.schema import InputError
from normlab.findings.finding import Finding
from normlab.findings.rows import read_rows, write_rows
from normlab.findings.verdict import Verdict
from normlab.folder.jsonfile import read_json, write_json
from normlab.runs.provenance import command, git_state, machine, packages
from normlab.study.planned import PlanRecord

_PACKAGES = ("torch", "pytorch-lightning", "hydra-core", "torchmetrics", "numpy", "scipy", "pandas", "omegaconf")


class Records:
    """The folder of a study at a scale."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.planned = PlanRecord(folder)
        self.looks: dict[str, list[dict[str, Any]]] = read_json(folder / "verdicts.json").get("looks", {})
        self._rules: dict[str, str] = {}
        self._rows = _kept(folder / "runs.csv")
        self._curves = _kept_curves(folder / "curves.csv")

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
        self.folder.mkdir(parents=True, exist_ok=True)
        self._rows = [row for row in self._rows if row["finding"] != finding.name] + list(rows)
        self._curves = [row for row in self._curves if row["finding"] != finding.name] + list(curves)
        write_rows(self.folder / "runs.csv", self._rows)
        _write_curves(self.folder / "curves.csv", self._curves)

    def save(self, verdicts: Sequence[Verdict]) -> None:
        """Write the verdicts so far."""
        self.folder.mkdir(parents=True, exist_ok=True)
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
        write_json(self.folder / "verdicts.json", {"verdicts": [asdict(v) for v in verdicts], "looks": self.looks})
        write_json(self.folder / "manifest.json", manifest)


def _kept(path: Path) -> list[dict[str, Any]]:
    """The rows of an earlier study; a damaged table is begun anew, as the runs hold everything."""
    try:
        return read_rows(path) if path.exists() else []
    except InputError:
        return []


def _kept_curves(path: Path) -> list[dict[str, Any]]:
    import pandas

    if not path.exists():
        return []
    try:
        frame = pandas.read_csv(path, dtype={"condition": str}, keep_default_na=True)
    except ValueError:
        return []
    return [{str(k): v for k, v in row.items() if v == v} for row in frame.to_dict("records")]


def _write_curves(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    import pandas

    part = path.with_name(f".{path.name}.part")
    pandas.DataFrame(rows, columns=None if rows else ["finding"]).to_csv(part, index=False)
    part.replace(path)
