"""What is stated, and which findings test it: a file of `conf/statements`, checked before a study runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import Field, model_validator

from normlab.config.errors import InputError
from normlab.config.names import FileName
from normlab.config.strict import Strict
from normlab.findings.finding import Finding
from normlab.findings.judge import PRIMARIES
from normlab.findings.read import find_file, read_node


class FindingUsed(Strict):
    """A finding, or some of its contrasts, as evidence.

    finding    its name
    contrasts  by their names in the finding's file; bounds by their cells, if its rule is exact. Empty: all of them
    opposes    what the finding claims is the opposite of the statement
    """

    finding: FileName
    contrasts: list[str] = Field(default_factory=list)
    opposes: bool = False

    def takes(self, name: str) -> bool:
        """Is the contrast of that name, "layer @ cnn" of the file's "layer", or the bound of that cell part of it?"""
        return not self.contrasts or name in self.contrasts or name.partition(" @ ")[0] in self.contrasts


class Statement(Strict):
    """What the textbook says, in its own words.

    claim   the number of the claim that it belongs to
    about   networks: it speaks of networks in general, so that one of them can't support it alone
    doubt   what could be wrong with the answer
    """

    text: str
    claim: Annotated[int, Field(ge=1, le=PRIMARIES)]
    about: Literal["networks", "one_kind"] = "one_kind"
    tests: list[FindingUsed]
    doubt: str

    @model_validator(mode="after")
    def _tested(self) -> Statement:
        if not self.tests:
            raise InputError(f"the statement {self.text!r} has no finding: list at least one under tests")
        return self


class Statements(Strict):
    """All of a textbook's."""

    title: str
    entries: Annotated[list[Statement], Field(min_length=1)]


def read_statements(conf: Path, name: str, findings: Sequence[Finding], own: Sequence[Path] = ()) -> Statements:
    """Read a file of `conf/statements` and check it against the study's findings.

    Raises:
        InputError: there is no such file, one of its values is invalid, an entry has no finding, or one that the study
            doesn't run, or a contrast that its finding lacks, or two entries read the same contrast in opposite ways.
    """
    path = find_file("statements", name, conf, own)
    where = f"conf/statements/{name}.yaml"
    try:
        found = Statements.model_validate_json(json.dumps(read_node(path, "statements")), strict=True)
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(["statements", *map(str, problem["loc"])])
        said = str(problem["ctx"]["error"]) if problem["type"] == "value_error" else f"{key}: {problem['msg']}"
        raise InputError(f"{where}: {said}") from None
    check(found, {finding.name: finding for finding in findings}, where)
    return found


def check(statements: Statements, findings: Mapping[str, Finding], where: str) -> None:
    """See `read_statements`."""
    read: dict[tuple[str, str], tuple[bool, str]] = {}
    for entry in statements.entries:
        for test in entry.tests:
            finding = findings.get(test.finding)
            if finding is None:
                raise InputError(f"{where}: {entry.text!r} names {test.finding}, which the study doesn't run")
            for name in _contrasts(test, finding, where):
                opposes, other = read.setdefault((test.finding, name), (test.opposes, entry.text))
                if opposes != test.opposes:
                    raise InputError(
                        f"{where}: {other!r} and {entry.text!r} read {name} of {test.finding} in opposite ways: "
                        "a finding has one rule"
                    )


def check_family(where: str, findings: Sequence[Finding]) -> None:
    """Each claim has one primary that decides it, and each earlier one a successor of the same claim.

    Raises:
        InputError: it doesn't.
    """
    claims = sorted(f.claim or 0 for f in findings if f.primary and f.succeeded_by is None)
    if claims != list(range(1, PRIMARIES + 1)):
        raise InputError(
            f"{where}: study.findings must have one primary finding per claim, 1 to {PRIMARIES}; "
            f"the claims of its primaries are {', '.join(map(str, claims)) or 'none'}"
        )
    deciding = {(f.name, f.claim) for f in findings if f.primary and f.succeeded_by is None}
    for finding in findings:
        if finding.succeeded_by is not None and (finding.succeeded_by, finding.claim) not in deciding:
            raise InputError(
                f"conf/finding/{finding.name}.yaml: succeeded_by={finding.succeeded_by} must be the primary finding "
                f"that decides claim {finding.claim}, and {where} must have both"
            )


def names_of(finding: Finding) -> list[str]:
    """The names of its contrasts, or for rule=exact the cells that have bounds."""
    return list(finding.bounds) if finding.rule == "exact" else list(finding.formulas)


def _contrasts(test: FindingUsed, finding: Finding, where: str) -> list[str]:
    every = names_of(finding)
    for wanted in test.contrasts:
        if not any(FindingUsed(finding=test.finding, contrasts=[wanted]).takes(name) for name in every):
            raise InputError(f"{where}: {test.finding} has no contrast {wanted!r}; there are {', '.join(every)}")
    return [name for name in every if test.takes(name)]
