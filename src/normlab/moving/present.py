"""How packed runs compare with what would be run here: rule, config, data, code and torch. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal, get_args

import pydantic

from normlab.config.components import code_named
from normlab.config.schema import InputError, RunConfig
from normlab.findings.read import read_finding
from normlab.folder.run_record import RunRecord
from normlab.moving.packed import StudyRecord
from normlab.runs.code import code_of
from normlab.runs.identity import run_id
from normlab.runs.provenance import processor
from normlab.runs.run import data_key, data_of

Kind = Literal["rule", "config", "data", "code", "torch"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_OTHER = "its options and data are those of another run here"
_REMEDIES = {
    "rule": "undo the change",
    "config": "use the same version of normlab and the same files in conf",
    "data": "use the same data",
    "code": "check out the same commit",
    "torch": "install the same version",
}


@dataclass
class Differences:
    """What is not here as it was where the pack was made.

    admitted  kinds that the user accepts
    found     kind → what differs, in words
    timed     timing runs of another machine, which never count here
    """

    admitted: frozenset[str] = frozenset()
    found: dict[Kind, list[str]] = field(default_factory=dict)
    timed: list[str] = field(default_factory=list)

    def add(self, kind: Kind, words: str) -> None:
        """One more."""
        self.found.setdefault(kind, []).append(words)

    def refuse(self, where: Path) -> None:
        """Raises: InputError: something differs that was not admitted."""
        refused = [kind for kind in KINDS if kind in self.found and kind not in self.admitted]
        if refused:
            words = "; ".join(f"{self._words(kind)}: {_REMEDIES[kind]}, or --accept-{kind}" for kind in refused)
            raise InputError(f"{where} does not fit what is here. {words}")

    def lines(self) -> list[str]:
        """What was admitted, a line for each kind."""
        return [f"admitted: {self._words(kind)}" for kind in KINDS if kind in self.found]

    def _words(self, kind: Kind) -> str:
        first, *more = self.found[kind]
        return f"other {kind} ({first}{f', and {len(more)} more' if more else ''})"


class Here:
    """What runs would be on this machine, with this code.

    Args:
        conf: folder that holds `finding`.
        cache: folder of materialised data.
    """

    def __init__(self, conf: Path, cache: Path) -> None:
        self._conf = conf
        self._cache = cache
        self._torch = version("torch")
        self._data: dict[str, tuple[str, str]] = {}
        self._codes: dict[tuple[str, ...], str] = {}

    def compare_rules(self, study: StudyRecord, differences: Differences) -> None:
        """A study's findings with the files of these findings; a user's own are as the study has planned them."""
        for name in study.finding_names:
            path = self._conf / "finding" / f"{name}.yaml"
            if not path.exists():
                continue
            here, there = read_finding(path), study.findings.get(name)
            judged = {study.rules.get(name, here.rule_hash), there.rule_hash if there else here.rule_hash}
            if judged != {here.rule_hash}:
                other = next(rule for rule in sorted(judged) if rule != here.rule_hash)
                differences.add("rule", f"{name}: {other} in the pack, {here.rule_hash} in {path.name}")
            for scale in [scale for scale in here.scales if there and study.name.endswith(f"-{scale}")]:
                was, now = there.scales.get(scale) if there else None, here.scales[scale]
                if was != now:
                    differences.add(
                        "config", f"{name} at scale={scale}: {' '.join(was or [])} in the pack, {' '.join(now)} here"
                    )

    def compare_run(self, record: RunRecord, differences: Differences) -> None:
        """A run with what its config leads to here."""
        try:
            values = json.dumps({**record.config, "cache": str(self._cache)})
            config = RunConfig.model_validate_json(values, strict=True)
            same = run_id(config, record.data) == record.id
        except (pydantic.ValidationError, InputError, OSError) as error:
            differences.add("config", f"{record.id}: {str(error).splitlines()[0]}")
            return
        if not same and config.measure.exclusive and self._is_elsewhere(record, config):
            differences.timed.append(record.id)
        elif not same:
            threads = record.provenance.get("threads")
            other = f"{threads} threads there, {config.threads} here" if threads != config.threads else _OTHER
            differences.add("config", f"{record.id}: {other}")
        else:
            self._compare_data(record, config, differences)
            if record.status.get("torch") not in (None, self._torch):
                differences.add("torch", f"{record.id}: {record.status['torch']} there, {self._torch} here")
        code = self.code(record)
        if code not in (record.status.get("code"), *record.status.get("accepted", [])):
            differences.add("code", record.id)

    def code(self, record: RunRecord) -> str:
        """The hash of the present code for a run; empty if there is none, as of a norm that is not here."""
        nodes = (record.config["norm"], record.config["model"], record.config["measure"].get("against"))
        parts = (record.config["measure"]["name"], *code_named(*nodes))
        if parts not in self._codes:
            try:
                self._codes[parts] = code_of(*parts)
            except (SyntaxError, ValueError, OSError, RecursionError):
                self._codes[parts] = ""
        return self._codes[parts]

    def _compare_data(self, record: RunRecord, config: RunConfig, differences: Differences) -> None:
        key = data_key(config)
        if key not in self._data:
            try:
                self._data[key] = data_of(config).fingerprint, ""
            except InputError as error:
                self._data[key] = "", str(error)
        here, problem = self._data[key]
        if here != record.data:
            differences.add("data", f"{config.task.name}: {problem or f'{record.data} there, {here} here'}")

    @staticmethod
    def _is_elsewhere(record: RunRecord, config: RunConfig) -> bool:
        """Was it timed on another processor, or with another torch? Which GPU it was, no record says."""
        machine, packages = (record.provenance.get(name) for name in ("machine", "packages"))
        made_on = machine.get("processor") if isinstance(machine, dict) else None
        made_with = packages.get("torch") if isinstance(packages, dict) else None
        here = (processor(), version("torch"))
        return (made_on, made_with) != here or config.trainer.accelerator == "gpu"


def words_of_run(run: str, studies: Iterable[StudyRecord], seed: int) -> str:
    """`run mlp-layer-… (planted, arm layer, seed 3)`."""
    rows = [row for study in studies for row in study.by_run.get(run, [])]
    if not rows:
        return f"run {run} (seed {seed})"
    return f"run {run} ({rows[0]['finding']}, arm {rows[0]['arm']}, seed {rows[0]['seed']})"
