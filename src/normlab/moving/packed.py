"""A study as a pack holds it: its tables, checked against themselves and against the records of its runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pydantic

from normlab.config.schema import InputError
from normlab.findings.finding import Finding
from normlab.findings.verdict import Row
from normlab.folder.jsonfile import parse_json
from normlab.folder.looks import parse_looks
from normlab.folder.run_record import RunRecord
from normlab.folder.study_folder import KEPT
from normlab.folder.study_table import read_rows
from normlab.runs.validated import gives, result_of, validations_until

Key = tuple[str, str, str, str, float | None, int]
CLOSE = 1e-12  # relative; a CSV file is read to the last digit but one
_SEEN = ("n", "state", "reason", "rule", "looks")  # of a look, what was seen: not when, nor in which study
_MANIFEST, _VERDICTS, _PLAN, _RUNS, *_ = KEPT


@dataclass(frozen=True)
class StudyRecord:
    """A study's files.

    where  in words, for messages
    """

    where: str
    name: str
    files: dict[str, bytes]

    def check(self) -> None:
        """Raises: InputError: a file is damaged, or two rows are of one seed and arm."""
        for name in (_MANIFEST, _VERDICTS, _PLAN):
            self._parsed(name)
        self.keyed  # noqa: B018
        self.findings  # noqa: B018

    @cached_property
    def rows(self) -> Sequence[Row]:
        """The table of runs."""
        if _RUNS not in self.files:
            return []
        return read_rows(Path(f"{self.where}: {self.name}/{_RUNS}"), self.files[_RUNS])

    @cached_property
    def keyed(self) -> dict[Key, Row]:
        """The same by finding, stage, arm, condition, point and seed."""
        found: dict[Key, Row] = {}
        for row in self.rows:
            if key_of_row(row) in found:
                raise InputError(
                    f"{self.where}: {self.name}/{_RUNS} has two rows for {row_words(row)}; only one can count"
                )
            found[key_of_row(row)] = row
        return found

    @cached_property
    def by_run(self) -> dict[str, list[Row]]:
        """The rows of each run, by its id."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            if "id" in row:
                found.setdefault(row["id"], []).append(row)
        return found

    @cached_property
    def runs(self) -> list[str]:
        """Ids of the runs that it has planned, or has rows of."""
        planned = _mapping(self._parsed(_PLAN).get("runs"))
        stages = [_mapping(stage) for by_stage in planned.values() for stage in _mapping(by_stage).values()]
        return sorted({*self.by_run, *(str(run) for stage in stages for run in _mapping(stage.get("ids")))})

    @cached_property
    def findings(self) -> dict[str, Finding]:
        """The findings as they were planned, which is how they are frozen; a table alone has none."""
        found = {}
        for name, values in _mapping(self._parsed(_PLAN).get("findings")).items():
            try:
                found[name] = Finding.model_validate_json(json.dumps(values), strict=True)
            except (pydantic.ValidationError, InputError):
                raise InputError(f"{self.where}: {self.name}/{_PLAN} holds no valid finding {name!r}") from None
        return found

    @property
    def finding_names(self) -> list[str]:
        """Every finding that it knows anything of."""
        return list(dict.fromkeys([*self.findings, *(row["finding"] for row in self.rows), *self.rules]))

    @property
    def rules(self) -> dict[str, str]:
        """finding → hash of the rule by which it was judged."""
        return {str(name): str(rule) for name, rule in _mapping(self._parsed(_MANIFEST).get("rules")).items()}

    @property
    def verdicts(self) -> dict[str, dict[str, Any]]:
        """Each finding's verdict."""
        found = self._parsed(_VERDICTS).get("verdicts", [])
        return {str(v.get("finding")): v for v in found if isinstance(v, dict)} if isinstance(found, list) else {}

    @property
    def own_looks(self) -> dict[str, list[dict[str, Any]]]:
        """The looks that its verdicts mention: those of an earlier version are in no file of looks."""
        found = _mapping(self._parsed(_VERDICTS).get("looks"))
        return {name: [look for look in looks if isinstance(look, dict)] for name, looks in found.items()}

    def check_run(self, record: RunRecord) -> None:
        """Compare a run's rows with its record.

        Raises:
            InputError: a row says something else.
        """
        for row in self._by_outcome(record.id, paused=True):
            self._check_paused(row, record)
        if record.is_paused:
            return
        diverged = bool(record.summary.get("diverged", False))
        known = {"outcome": "diverged" if diverged else "finished", "seed": record.seed, "diverged": diverged}
        numbers = {k: v for k, v in record.summary.items() if isinstance(v, bool | int | float) and v == v}
        for row in self._by_outcome(record.id, paused=False):
            expected = numbers if row["stage"] == "report" else {k: numbers[k] for k in numbers if k in row}
            self._check_row(row, {**expected, **known})

    def _by_outcome(self, run: str, *, paused: bool) -> list[Row]:
        return [row for row in self.by_run.get(run, []) if (row["outcome"] == "paused") == paused]

    def _check_paused(self, row: Row, record: RunRecord) -> None:
        """Compare the row of a tuning run that was ended early with its validations, which may go on."""
        step = row.get("steps")
        upto = validations_until(record.rows, step) if isinstance(step, int) else []
        values = {name: result_of(upto, name) for name in row if gives(name)}
        self._check_row(row, {**values, "steps": upto[-1]["step"] if upto else None, "seed": record.seed})

    def _check_row(self, row: Row, expected: Mapping[str, Any]) -> None:
        for name, value in expected.items():
            if not _equal(row.get(name), value):
                raise InputError(
                    f"{self.where}: {self.name}/{_RUNS} has been altered: {name} of {row_words(row)} is "
                    f"{row.get(name)}, and the run recorded {value}"
                )

    def check_looks(self, looks: Mapping[str, bytes]) -> None:
        """Compare the looks that the verdicts mention with those of the files of looks.

        Raises:
            InputError: one of them is not there.
        """
        for name, seen in self.own_looks.items():
            listed = [look for stem in looks_of(name, self.name, looks) for look in parse_looks(stem, looks[stem])]
            lost = [look for look in seen if "study" in look and all(not same_look(look, known) for known in listed)]
            if lost:
                raise InputError(
                    f"{self.where}: a look of {name} at {lost[0].get('n')} seeds is missing from its looks"
                )

    def _parsed(self, name: str) -> dict[str, Any]:
        try:
            return parse_json(self.files.get(name, b"{}"))
        except ValueError as error:
            raise InputError(f"{self.where}: {self.name}/{name} can't be read: {error}") from None


def looks_of(finding: str, study: str, stems: Iterable[str]) -> list[str]:
    """Of the files of looks, named `<finding>-<scale>`, that of a finding at the scale of a study's folder.

    Args:
        study: `<study>-<scale>`, or as in the reference the scale alone.
    """
    return [s for s in stems if s.startswith(f"{finding}-") and f"-{study}".endswith(s[len(finding) :])]


def same_look(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Was the same seen?"""
    return all(one.get(name) == other.get(name) for name in _SEEN)


def later_looks(stem: str, here: bytes, there: bytes) -> list[bytes]:
    """The lines of a pack's looks that follow those an output has.

    Raises:
        InputError: a line is damaged, or the two disagree on a look that both have.
    """
    ours, theirs = parse_looks(stem, here), parse_looks(stem, there)
    for number, (one, other) in enumerate(zip(ours, theirs, strict=False), 1):
        if not same_look(one, other):
            raise InputError(
                f"look {number} of {stem} was {one['state']} at {one['n']} seeds here, and in the pack "
                f"{other['state']} at {other['n']} seeds; a look can't be unseen: import into another output"
            )
    return there.splitlines()[len(ours) :]


def key_of_row(row: Row) -> Key:
    """What there may be only one row of."""
    return row["finding"], row["stage"], row["arm"], row["condition"], row.get("point"), row["seed"]


def row_words(row: Row) -> str:
    """`planted, arm layer, seed 3`."""
    condition = f" under {row['condition']}" if row["condition"] else ""
    point = f", {row['stage']} at {row['point']:g}" if row["stage"] != "report" and "point" in row else ""
    return f"{row['finding']}, arm {row['arm']}{condition}{point}, seed {row['seed']}"


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=CLOSE, abs_tol=0.0) or (math.isnan(one) and math.isnan(other))
    return str(one) == str(other)


def _mapping(values: Any) -> Mapping[str, Any]:
    return values if isinstance(values, dict) else {}
