"""What the user asks of a study: its findings, its scale, and the command-line options that its runs accept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from omegaconf import DictConfig

from normlab.checks.project import why_not
from normlab.comparing.planned import comparison
from normlab.config.schema import InputError
from normlab.findings.finding import Finding
from normlab.findings.read import read_findings
from normlab.study.scale import Scale, Study, read_scale, read_study, single
from normlab.sweep.compose import own_folders

# the options that a user may set for a whole study; its findings fix all others
_FREE = ("output", "cache", "logger", "launcher", "on_error", "accept_code", "rerun", "debug", "trainer", "hydra")
_FREE_OF_TRAINER = ("accelerator", "devices", "nodes", "save_steps", "save_minutes")


def chosen(cfg: DictConfig, conf: Path, arguments: Sequence[str] = ()) -> tuple[Study, list[Finding], list[str]]:
    """The chosen study, or a finding or comparison as a study of its own, and the options passed on to every run."""
    if cfg.get("compare"):
        user = [argument for argument in arguments if _is_free(argument)]
        finding = comparison(cfg, arguments, user)
        return single(finding), [finding], user
    study, findings = _named(cfg, conf)
    return study, findings, users_choices(arguments)


def scale_of(cfg: DictConfig) -> tuple[Scale, list[str]]:
    """The chosen scale, without what doesn't apply to a comparison or to a project, and a line about each such option.

    Raises:
        InputError: one of its values is invalid.
    """
    scale = read_scale(cfg)
    if not cfg.get("compare"):
        return scale, []
    lines = []
    if scale.tuning == "reference":  # which has the rates of our own findings alone
        scale = scale.model_copy(update={"tuning": "own"})
        lines.append(f"scale={scale.name}: each norm is tuned, because a comparison has no reference")
    if cfg.get("project") is not None:
        unfit = {one: why for one in scale.overrides if (why := why_not(one)) is not None}
        lines += [f"scale={scale.name}: without {one}, because {why}" for one, why in unfit.items()]
        scale = scale.model_copy(update={"overrides": [one for one in scale.overrides if one not in unfit]})
    return scale, lines


def _named(cfg: DictConfig, conf: Path) -> tuple[Study, list[Finding]]:
    """Shipped with normlab, or the user's own."""
    if cfg.get("study") and cfg.get("finding"):
        raise InputError("choose study=... or finding=..., not both")
    if cfg.get("study"):
        return read_study(conf, str(cfg.study.name), own_folders(cfg))
    findings = read_findings(conf, [str(cfg.finding.name)], own_folders(cfg))
    return single(findings[0]), findings


def users_choices(arguments: Iterable[str]) -> list[str]:
    """The command-line options that are passed on to every run.

    Raises:
        InputError: an option would change what the findings fix.
    """
    kept = []
    for argument in arguments:
        key = argument.partition("=")[0].lstrip("+~")
        if key in ("study", "finding", "dry") or key.partition(".")[0] == "scale":
            continue
        if not _is_free(argument):
            raise InputError(
                f"{argument}: the findings in conf/finding determine what a study runs; you can set only "
                f"{', '.join(_FREE[:-1])} (of its options {', '.join(_FREE_OF_TRAINER)}) and scale"
            )
        kept.append(argument)
    return kept


def _is_free(argument: str) -> bool:
    group, _, name = argument.partition("=")[0].lstrip("+~").partition(".")
    return group in _FREE and (group != "trainer" or not name or name in _FREE_OF_TRAINER)


def to_run(findings: Sequence[Finding], scale: Scale) -> tuple[list[Finding], list[Finding]]:
    """The findings that run at this scale, and those that don't; a finding alone also runs if it isn't primary."""
    every = scale.findings == "all" or len(findings) == 1
    run = [f for f in findings if scale.name in f.scales and (f.primary or every)]
    return run, [f for f in findings if f not in run]
