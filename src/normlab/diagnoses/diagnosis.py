"""A diagnosis, and how many sites share one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from normlab.diagnoses.studied import studied


class Severity(IntEnum):
    """How much harm a cause does.

    NOTE     costs something, but no result
    WARNING  results are probably worse than they need be
    SEVERE   results are wrong, or the network doesn't learn; printed at once
    """

    NOTE = 1
    WARNING = 2
    SEVERE = 3


@dataclass(frozen=True)
class Diagnosis:
    """One cause.

    cause     its name, one of those in docs/monitor.md
    severity  how much harm it does
    sites     paths of the norms or layers, the worst first; empty: the whole training
    says      what is wrong, in one sentence
    evidence  quantity → value, of the worst site
    remedy    code
    """

    cause: str
    severity: Severity
    sites: tuple[str, ...]
    says: str
    evidence: dict[str, float]
    remedy: str

    @property
    def studied(self) -> str:
        """What our studies have found about the cause; empty if nothing."""
        return studied(self.cause)

    def where(self) -> str:
        """Its worst site, as a part of a sentence."""
        where = f" at {self.sites[0]}" if self.sites else ""
        return where + (f" and {len(self.sites) - 1} more" if len(self.sites) > 1 else "")

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {value:.3g}" for name, value in self.evidence.items())
        lines = [f"{self.severity.name.lower()}: {self.cause}{self.where()}: {self.says} ({numbers})", self.remedy]
        return "\n    ".join([*lines, *([f"# studied: {self.studied}"] if self.studied else [])])


@dataclass(frozen=True)
class Case:
    """A site at which a cause was seen; the larger `harm`, the worse."""

    path: str
    harm: float
    evidence: Mapping[str, float]
    severity: Severity = Severity.WARNING


def diagnosed(cause: str, cases: Iterable[Case], says: str, remedy: str) -> list[Diagnosis]:
    """One diagnosis of all cases, or none; `{site}` in the remedy becomes the worst site's path."""
    worst = sorted(cases, key=lambda case: (-case.severity, -case.harm))
    if not worst:
        return []
    first = worst[0]
    paths = tuple(case.path for case in worst if case.path)
    remedy = remedy.replace("{site}", first.path)
    return [Diagnosis(cause, first.severity, paths, says, evidence=dict(first.evidence), remedy=remedy)]
