"""What a monitor found, for people and for loggers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from normlab.diagnoses.diagnosis import Diagnosis, Severity
from normlab.diagnoses.observed import Look, Observed
from normlab.monitor.page import fragment, page
from normlab.sites.table import columns

if TYPE_CHECKING:
    from normlab.monitor.gap import Gap


@dataclass(frozen=True)
class Report:
    """Diagnoses, the most harmful first, and the numbers they were made from; prints as a table.

    gap  between training and evaluation, where it was asked for and can be computed
    """

    seen: Observed
    diagnoses: tuple[Diagnosis, ...]
    gap: Gap | None = None

    def __iter__(self) -> Iterator[Diagnosis]:
        return iter(self.diagnoses)

    def __len__(self) -> int:
        return len(self.diagnoses)

    @property
    def causes(self) -> tuple[str, ...]:
        """Names of the causes, in order."""
        return tuple(diagnosis.cause for diagnosis in self.diagnoses)

    def harmful(self) -> tuple[Diagnosis, ...]:
        """Warnings and worse."""
        return tuple(diagnosis for diagnosis in self.diagnoses if diagnosis.severity >= Severity.WARNING)

    def brief(self) -> list[str]:
        """At most three lines on what is harmful; none if nothing is."""
        harmful = self.harmful()
        lines = [f"{one.severity.name.lower()}: {one.cause}{one.where()}: {one.says}" for one in harmful]
        return lines if len(lines) <= 3 else [*lines[:2], f"and {len(lines) - 2} more"]

    def lines(self, least: Severity = Severity.WARNING) -> list[str]:
        """One entry per diagnosis of at least this severity."""
        return [str(diagnosis) for diagnosis in self.diagnoses if diagnosis.severity >= least]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values; null for numbers that are not finite, because JSON has no others."""
        found: list[dict[str, Any]] = []
        for one in self.diagnoses:
            evidence = {name: value if math.isfinite(value) else None for name, value in one.evidence.items()}
            found.append(
                asdict(one) | {"severity": one.severity.name.lower(), "evidence": evidence, "studied": one.studied}
            )
        gap = asdict(self.gap) if self.gap is not None else None
        return {"steps": self.seen.steps, "looks": len(self.seen.looks), "diagnoses": found, "gap": gap}

    def _saw_norms(self) -> bool:
        return any(look.sites or not self.seen.sites for look in self.seen.looks)

    def head(self) -> str:
        """How much was seen."""
        seen = self.seen
        return f"{len(seen.sites)} norms, {seen.steps} steps, {len(seen.looks)} looks, {seen.evaluations} evaluations"

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Heads and rows: each norm at the last look that saw the number."""
        heads = ("site", "class", "norm", "examples", "values", "variance", "mean |gain|", "dead")
        rows = []
        for path, site in self.seen.sites.items():
            looks = self.seen.of(path)
            numbers = (_last([getattr(look, name) for look in looks]) for name in _SHOWN)
            rows.append((path, site.called, site.norm, *map(_short, numbers)))
        return heads, rows

    def to_html(self) -> str:
        """A page that stands alone."""
        return page(self)

    def _repr_html_(self) -> str:
        return fragment(self)

    def __str__(self) -> str:
        heads, rows = self.table()
        table = [columns(heads, rows)] if rows else []
        found = self.lines(Severity.NOTE) or ["nothing found" if self._saw_norms() else _UNSEEN]
        gap = ["", str(self.gap)] if self.gap is not None else []
        return "\n".join([self.head(), *table, "", *found, *gap])


_SHOWN = ("examples", "values", "variance", "absolute", "dead")
_UNSEEN = "nothing found, but no norm was called in a training step that was looked at"


def _last(values: list[float]) -> float:
    return next((value for value in reversed(values) if not math.isnan(value)), math.nan)


def _short(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}"


def logged(look: Look) -> dict[str, float]:
    """`norms/<site>/<quantity>` → value, and each layer's activation and gradient, as loggers take them."""
    found: dict[str, float] = {}
    for site in look.sites:
        values = {"variance": site.variance, "gain": site.absolute, "dead": site.dead, "padded": site.padded}
        if site.shift:
            values |= {"shift": fmean(map(abs, site.shift)), "shift_by_chance": site.chance}
        found |= {f"norms/{site.path}/{name}": value for name, value in values.items()}
    for place in look.places:
        found |= {f"norms/{place.path}/activation": place.activation, f"norms/{place.path}/gradient": place.gradient}
    return {name: value for name, value in found.items() if math.isfinite(value)}
