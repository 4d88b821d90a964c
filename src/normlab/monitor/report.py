"""What a monitor found, for people and for loggers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from normlab.monitor.diagnosis import Diagnosis, Severity
from normlab.monitor.observed import Look, Observed
from normlab.sites.table import columns


@dataclass(frozen=True)
class Report:
    """Diagnoses, the most harmful first, and the numbers they were made from; prints as a table."""

    seen: Observed
    diagnoses: tuple[Diagnosis, ...]

    def __iter__(self) -> Iterator[Diagnosis]:
        return iter(self.diagnoses)

    def __len__(self) -> int:
        return len(self.diagnoses)

    @property
    def causes(self) -> tuple[str, ...]:
        """Names of the causes, in order."""
        return tuple(diagnosis.cause for diagnosis in self.diagnoses)

    def lines(self, least: Severity = Severity.WARNING) -> list[str]:
        """One entry per diagnosis of at least this severity."""
        return [str(diagnosis) for diagnosis in self.diagnoses if diagnosis.severity >= least]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values."""
        found = [asdict(one) | {"severity": one.severity.name.lower()} for one in self.diagnoses]
        return {"steps": self.seen.steps, "looks": len(self.seen.looks), "diagnoses": found}

    def __str__(self) -> str:
        seen = self.seen
        head = f"{len(seen.sites)} norms, {seen.steps} steps, {len(seen.looks)} looks, {seen.evaluations} evaluations"
        heads = ("site", "class", "norm", "examples", "values", "variance", "mean |gain|", "dead")
        rows = []
        for path, site in seen.sites.items():
            last = seen.of(path)[-1:]
            numbers: list[tuple[float, ...]] = [(x.examples, x.values, x.variance, x.absolute, x.dead) for x in last]
            rows.append((path, site.called, site.norm, *map(_short, (numbers or [(math.nan,) * 5])[0])))
        table = [columns(heads, rows)] if rows else []
        found = self.lines(Severity.NOTE) or ["nothing found"]
        return "\n".join([head, *table, "", *found])


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
