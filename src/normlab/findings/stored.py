"""Verdicts as JSON: what verdicts.json holds, and reading it back with checks. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from normlab.config.schema import InputError
from normlab.findings.formula import parse
from normlab.findings.printable import printable
from normlab.findings.scope import Scope
from normlab.findings.verdict import STATES, ArmSummary, Bound, Estimate, Reason, Verdict
from normlab.stats.paired import Interval


def read_verdicts(values: Mapping[str, Any], path: Path, problems: list[str]) -> dict[str, Verdict]:
    """The verdicts of a study by finding; one that can't be read is left out, and named in `problems`.

    Args:
        values: content of verdicts.json.
        path: of that file, for messages.
    """
    entries = values.get("verdicts", [])
    if not isinstance(entries, list):
        problems.append(f"{path}: its verdicts are not a list. They are left out.")
        return {}
    found = {}
    for number, entry in enumerate(entries, 1):
        entry = printable(entry)
        try:
            verdict = read_verdict(entry)
        except (TypeError, KeyError, ValueError, AttributeError, OverflowError, InputError):
            name = entry.get("finding", f"number {number}") if isinstance(entry, dict) else f"number {number}"
            problems.append(f"{path}: the verdict of {name} is damaged or from another version and is left out.")
            continue
        found[verdict.finding] = verdict
    return found


def read_verdict(values: Mapping[str, Any]) -> Verdict:
    """Read a verdict from its JSON.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is damaged or from another version.
    """
    known = _known(Verdict, values)
    made = Verdict(
        **{
            **known,
            "reason": Reason(values["reason"]),
            "estimates": [_estimate(entry) for entry in values["estimates"]],
            "also": [_estimate(entry) for entry in values["also"]],
            "arms": [ArmSummary(**_known(ArmSummary, arm)) for arm in values["arms"]],
            "bounds": [Bound(**_known(Bound, bound)) for bound in values["bounds"]],
        }
    )
    if made.state not in STATES:
        raise ValueError(made.state)
    parts: list[Verdict | Estimate | ArmSummary | Bound] = [made, *made.arms, *made.bounds]
    for part in parts:
        _check_types(part)
    return made


def stored(verdict: Verdict) -> dict[str, Any]:
    """The verdict as JSON values; infinite limits become null."""
    values: dict[str, Any] = finite(asdict(verdict))
    return values


def finite(value: Any) -> Any:
    """The same value with null for numbers that are not finite, which JSON doesn't have."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _estimate(values: Mapping[str, Any]) -> Estimate:
    known = _known(Estimate, values) | {"kind": Reason(values["kind"]), "scope": Scope(values.get("scope", "seeds"))}
    if not all(math.isfinite(float(value)) for value in (values["mean"], values["sd"], *values["values"])):
        raise ValueError(values["mean"])
    if len(values["seeds"]) != len(values["values"]):
        raise ValueError(f"{len(values['seeds'])} seeds and {len(values['values'])} values")
    intervals = {"interval": _interval(values["interval"]), "seeds_alone": _interval(values.get("seeds_alone"))}
    made = Estimate(**{**known, **intervals})
    _check_types(made)
    parse(made.formula)
    return made


def _interval(values: Mapping[str, Any] | None) -> Interval | None:
    if values is None:
        return None
    low, high = values["low"], values["high"]
    return Interval(
        -math.inf if low is None else float(low), math.inf if high is None else float(high), float(values["level"])
    )


_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ("finding", "title", "scale", "rule", "decides", "name", "formula", "metric", "state", "cell"), (str,)
    ),
    **dict.fromkeys(("primary", "ratio", "edge"), (bool,)),
    **dict.fromkeys(("level", "low", "high"), (int, float)),
    **dict.fromkeys(
        ("margin", "mean", "sd", "point", "least", "most", "mean_of_all", "example_error"), (int, float, type(None))
    ),
    **dict.fromkeys(("n", "diverged", "examples"), (int,)),
    **dict.fromkeys(("seeds", "left_out", "sides", "failed", "looks"), (list,)),
    **dict.fromkeys(("claim", "needed"), (int, type(None))),
    **dict.fromkeys(("facts", "metrics"), (dict,)),
    "first": (dict, type(None)),
}


def _check_types(made: Verdict | Estimate | ArmSummary | Bound) -> None:
    """Check the types here, because wrong ones in a damaged JSON file would fail later, in a template."""
    for each in fields(made):
        if each.name in _TYPES and not isinstance(getattr(made, each.name), _TYPES[each.name]):
            raise TypeError(f"{each.name}={getattr(made, each.name)!r}")


def _known(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    return {each.name: values[each.name] for each in fields(kind) if each.name in values}
