"""A comparison as a finding: its arms are the norms, and every other option is the same for all. Imports no torch."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from normlab.comparing.arms import arms
from normlab.config.errors import InputError
from normlab.config.metrics import higher_is_better, is_metric, metrics_of
from normlab.findings.finding import Finding, Tuning
from normlab.project.options import direction_of

# goal of a task → its main metric, the smallest difference in it that matters, and which value is better
_MAIN = {
    "classification": ("accuracy", 0.01),
    "language_modelling": ("bits_per_character", 0.01),
    "regression": ("r2", 0.01),
    "segmentation": ("mean_iou", 0.01),
}
_SPLITS = ("validation", "last", "area", "test", "last_test")
_HALF_DECADES = (0.1, 0.3, 1.0, 3.0, 10.0)  # points of the grid, as multiples of the usual rate
# options that a comparison sets itself, and how to say what was meant
_OURS = {
    "norm": 'compare=... names the norms, with their options, as in compare="batch,group norm.groups=8"',
    "seed": "the seeds are paired by the comparison; scale.seeds.training=N sets the most of them",
    "measure": "a comparison trains",
    "study": "a comparison is a study of its own",
    "finding": "a comparison is a study of its own",
    "ckpt": "a comparison trains from the start",
    "pause": "a comparison sets it",
    "serves": "a comparison sets it",
    "plan": "a comparison sets it",
}
_NOT_OF_RUNS = ("compare", "margin", "scale", "dry", "metric", "mode", "test")


def comparison(cfg: DictConfig, arguments: Sequence[str], free: Sequence[str]) -> Finding:
    """The finding that compares the norms, planned before any run.

    Args:
        cfg: the multirun's own config, with `compare`, `metric`, `margin` and `scale`.
        arguments: command-line overrides.
        free: those that are passed on to every run and have no part in what is compared.

    Raises:
        InputError: an option contradicts the comparison, or it lacks a metric, a margin or learning rates.
    """
    compared = arms([str(text) for text in cfg.compare])
    first, *others = compared
    common = [one for one in arguments if _key(one) not in _NOT_OF_RUNS and one not in free]
    for choice in common:
        _check(choice)
    rates, common = _rates(cfg, common)
    metric, better, by = _metric(cfg)
    own = cfg.get("project") is not None
    common += [f"{name}={cfg[name]}" for name in ("metric", "mode") if own and cfg.get(name)]
    values: dict[str, Any] = {
        "primary": True,
        "title": f"Which norm: {_listed(list(compared))}?",
        "statement": f"Each of {_listed(others)} is compared with {first} by {metric}, on pairs of runs of one seed.",
        "source": "the user's own comparison",
        "expect": "",
        "common": common,
        "arms": compared,
        "report": ["test=true"] if cfg.test else [],
        "metric": metric,
        "better": better,
        "diverged_value": 0.0 if better == "higher" else None,
        "rule": "comparison",
        "margin": _margin(cfg, metric),
        "contrasts": {f"{arm} against {first}": f"{arm} - {first}" for arm in others},
        "scales": {str(cfg.scale.name): []},
    }
    if rates:
        tuning = Tuning(points=rates, by=by, best="max" if better == "higher" else "min")
        values["tune"] = tuning.model_dump()
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:6]
    name = "compare-" + "-".join(compared)[:60] + f"-{digest}"
    return Finding.model_validate_json(json.dumps({"name": name, **values}), strict=True)


def _key(choice: str) -> str:
    return re.split(r"[.@=]", choice.lstrip("+~"))[0]


def _check(choice: str) -> None:
    if (key := _key(choice)) in _OURS:
        raise InputError(f"{choice}: {_OURS[key]}; leave this option out")
    name, _, value = choice.partition("=")
    if name != "optim.lr" and _sweeps(choice):
        raise InputError(
            f"{choice}: a comparison varies the norm alone; give one command for each {name}, or {name}=[{value}] if "
            "this is one list"
        )


def _sweeps(choice: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (parsed,) = OverridesParser.create().parse_overrides([choice])
    return bool(parsed.is_sweep_override())


def _rates(cfg: DictConfig, common: list[str]) -> tuple[list[float], list[str]]:
    """The learning rates to try, and the overrides without them; one rate alone stays and is used by all norms."""
    given = [one for one in common if one.startswith("optim.lr=")]
    if not given:
        usual = OmegaConf.select(cfg, "optim.lr")
        if usual is None:
            raise InputError("say which learning rates to try for each norm, as in optim.lr=1e-4,3e-4,1e-3,3e-3,1e-2")
        return [float(f"{usual * factor:.1g}") for factor in _HALF_DECADES], common
    try:
        rates = sorted({float(text) for text in given[-1].partition("=")[2].strip("[]").split(",")})
    except ValueError:
        raise InputError(f"{given[-1]}: write numbers, as in optim.lr=1e-4,3e-4,1e-3,3e-3,1e-2") from None
    if len(rates) == 1:
        return [], common
    if len(rates) < 5 or not all(0 < rate < math.inf for rate in rates):
        raise InputError(
            f"{given[-1]}: tuning needs five learning rates or more, or one for all norms; leave it out for those "
            "around the usual one"
        )
    return rates, [one for one in common if one not in given]


def _metric(cfg: DictConfig) -> tuple[str, str, str]:
    """The metric, which of its values are better, and the metric by which rates are tuned."""
    if cfg.get("project") is not None:
        if cfg.get("metric") is None:
            raise InputError("metric has no value: name one that the project logs with metric=NAME")
        direction = cfg.get("mode") or direction_of(str(cfg.metric))
        if direction is None:
            raise InputError(f"metric={cfg.metric}: say whether higher or lower is better, with mode=max or mode=min")
        return "best", "higher" if direction == "max" else "lower", "best"
    if cfg.get("mode") is not None:
        raise InputError(f"mode={cfg.mode}: the direction of a Lightning project's metric; leave it out")
    goal = str(cfg.task.goal)
    if cfg.get("metric") is None and goal not in _MAIN:
        raise InputError("metric has no value: name one, such as metric=validation/accuracy or metric=validation/r2")
    name = str(cfg.get("metric") or _MAIN[goal][0])
    split, slash, bare = name.rpartition("/")
    if not slash:
        split = "test" if cfg.test else "validation"
    if split not in _SPLITS:
        raise InputError(f"metric={name}: it begins with {', '.join(_SPLITS[:-1])} or {_SPLITS[-1]}, or has no /")
    if split.endswith("test") and not cfg.test:
        raise InputError(f"metric={name}: add test=true, so that the test split is read")
    if not is_metric(bare, goal, split):
        near = difflib.get_close_matches(bare, known := metrics_of(goal, split), n=1, cutoff=0.5)
        hint = f"; did you mean metric={split}/{near[0]}?" if near else ""
        raise InputError(
            f"metric={name}: task={cfg.task.name} logs no {bare}; of {split} it logs {', '.join(known)}{hint}"
        )
    return f"{split}/{bare}", "higher" if higher_is_better(bare) else "lower", f"validation/{bare}"


def _margin(cfg: DictConfig, metric: str) -> float:
    if cfg.get("margin") is not None:
        margin = cfg.margin
        if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 < margin < math.inf:
            raise InputError(f"margin={margin}: write the smallest difference that matters, a number above 0")
        return float(margin)
    bare = metric.rpartition("/")[2]
    known = dict(_MAIN.values())
    if bare in known:
        return known[bare]
    raise InputError(f"margin has no value: write the smallest difference in {bare} that matters, as in margin=0.01")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
