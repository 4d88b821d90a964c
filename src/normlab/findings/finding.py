"""A finding: a claim, the cells that test it, and the rule, all fixed in its YAML before the data exist."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from normlab.config.names import FileName
from normlab.config.schema import InputError
from normlab.config.strict import Strict
from normlab.findings.advice import Advice
from normlab.findings.formula import Cell, Formula, parse

Rule = Literal["exact", "difference", "equivalence", "ratio", "comparison"]
Unit = Literal["training", "init", "process", "exact"]
Over = Literal["seeds", "examples"]
Bounds = tuple[float | None, float | None]
LEAST = {"training": 8, "init": 10, "process": 8, "exact": 2}  # seeds that a verdict needs, by what a seed changes


_MEANS = ("difference", "equivalence", "comparison")  # rules about means
_BY_EXAMPLE = ("test/accuracy", "test/loss", "test/bits_per_character")  # of which runs keep what makes them up
_FILE = re.compile(r"(?=.{1,100}$)\w[\w-]*(\.[\w-]+)*", re.ASCII)


class Tuning(Strict):
    """The first stage: one option, the same points for every cell."""

    option: str = "optim.lr"
    points: Annotated[list[PositiveFloat], Field(min_length=5)]  # half decades apart
    by: str  # metric on validation
    best: Literal["max", "min"]
    at: str | None = None  # the condition under which arms are tuned, for all of them; None: each is tuned on its own

    @model_validator(mode="after")
    def _ordered(self) -> Tuning:
        if self.points != sorted(set(self.points)):
            raise InputError("tune.points must be in ascending order")
        if not self.by.startswith(("validation/", "area/", "last/")) and self.by != "best":  # best: of a project
            raise InputError(f"tune.by={self.by}: tuning uses a validation metric, such as validation/loss")
        return self


class Finding(Strict):
    """One YAML of `conf/finding`. Its runs are given as command-line overrides, such as `norm=batch`.

    A cell is an arm under a condition. A contrast is a formula over cells. If the finding has conditions, a contrast
    whose arms name no condition is computed once under each.

    Rules. With d the contrast of a seed, signed so that positive favours the claim, and its guarded interval:

        difference   supported: low > margin; contradicted: high < margin
        ratio        the same for log metrics, with log(margin)
        equivalence  supported: inside ±margin; contradicted: wholly outside
        exact        no interval: supported if every run's metric is within its bounds, otherwise contradicted
        comparison   of norms by the user: each contrast on its own, with an equal share of the error. Better: low >
                     margin; worse: high < -margin; equal: inside ±margin. An estimate once each is decided

    A claim with several contrasts is supported if each is, and contradicted if one is. With `at_least`, k of m
    contrasts, it is supported if k are, and contradicted if so many are that k can't hold, m - k + 1. Their intervals
    then have a k-th of the error or, if that is smaller, an (m - k + 1)-th: Bonferroni's partial conjunction test
    (Benjamini and Heller 2008, Biometrics 64), which keeps the error of either verdict whatever the contrasts share.
    """

    name: FileName
    claim: Annotated[int, Field(ge=1, le=6)] | None = None  # number of the textbook claim; None: not one of them
    primary: bool  # decides its claim; all others are exploratory: an estimate, no verdict
    succeeded_by: str | None = None  # the primary that now decides this one's claim; its own verdict is for the record
    title: str
    statement: str  # the claim, in words that a student understands
    question: str = ""  # the title as a question, for readers who look for an answer
    label: dict[str, str] = Field(default_factory=dict)  # arm or condition → its name in texts and charts
    says: dict[str, str] = Field(default_factory=dict)  # contrast → a sentence with {value}, its number and unit
    source: str
    expect: str  # what the literature found
    published: dict[str, str] = Field(default_factory=dict)  # cell → the number and its source
    common: list[str]  # overrides of every cell
    arms: Annotated[dict[str, list[str]], Field(min_length=1)]
    conditions: dict[str, list[str]] = Field(default_factory=dict)
    report: list[str] = Field(default_factory=list)  # further overrides of the reporting runs
    tune: Tuning | None = None
    metric: str
    better: Literal["higher", "lower"]  # which of them favours the arm with the plus sign
    diverged_value: float | None = None  # the value for a run that diverged, as bad as chance; see docs/verdicts.md
    also: dict[str, str] = Field(default_factory=dict)  # further metrics, estimated by the same contrasts: label → name
    rule: Rule
    margin: PositiveFloat | None = None  # the smallest that matters, in the metric's unit; for ratio a factor
    contrasts: dict[str, str] = Field(default_factory=dict)
    at_least: PositiveInt | None = None  # of the contrasts, those that must hold; None: all
    bounds: dict[str, dict[str, Bounds]] = Field(default_factory=dict)  # exact: cell → metric → least, most
    seeds: Unit = "training"  # what a seed changes
    recipe_seeds: list[NonNegativeInt] = Field(default_factory=list)  # those on which the recipe was chosen
    # whose error the deciding interval counts; examples: those of the test split, for claims about data in general
    generalises_over: list[Over] = Field(default_factory=lambda: list[Over](["seeds"]))
    scales: dict[str, list[str]]  # scale → its overrides; the finding runs only at the scales listed
    advice: list[Advice] = Field(default_factory=list)  # what the contrasts mean for choosing a norm

    @model_validator(mode="after")
    def _complete(self) -> Finding:
        if not _FILE.fullmatch(self.name):
            raise InputError(f"name={self.name!r} names files: letters, digits, _ - and . inside, at most 100 of them")
        if self.rule == "exact":
            self._check_exact()
        else:
            self._check_contrasts()
        unknown = [name for name in self.published if name not in map(str, self.cells)]
        if unknown:
            raise InputError(f"published.{unknown[0]} is not a cell; there are {', '.join(map(str, self.cells))}")
        if self.primary and self.claim is None and self.rule != "comparison":
            raise InputError("claim is missing: a primary finding decides one of the claims 1 to 6")
        if self.succeeded_by is not None and not self.primary:
            raise InputError(f"succeeded_by={self.succeeded_by}: only a primary finding has a successor")
        if self.tune is not None and self.tune.at is not None and self.tune.at not in self.conditions:
            raise InputError(
                f"tune.at={self.tune.at} is not a condition; there are {', '.join(self.conditions) or 'none'}"
            )
        for name in self.label:
            if name not in {*self.arms, *self.conditions}:
                raise InputError(f"label.{name} is neither an arm nor a condition")
        if len(set(self.label.values())) < len(self.label):
            raise InputError("two labels are the same, so that charts could not distinguish them")
        names = [None] if self.rule == "exact" else list(self.formulas)
        for name, sentence in self.says.items():
            if name not in (names if self.rule != "exact" else ["bounds"]) or sentence.count("{value}") != 1:
                raise InputError(f"says.{name} must name a contrast (of rule=exact: bounds) and have {{value}} once")
        for entry in self.advice:
            if entry.contrast not in names:
                known = ", ".join(map(str, names)) if self.rule != "exact" else "none, because rule=exact has bounds"
                raise InputError(f"advice names the contrast {entry.contrast}; there are {known}")
        self._check_scope()
        repeated = {choice for choice in self.common if self.common.count(choice) > 1}
        if repeated:
            raise InputError(f"common lists {sorted(repeated)[0]} twice")
        if self.recipe_seeds != sorted(set(self.recipe_seeds)):
            raise InputError(f"recipe_seeds={self.recipe_seeds}: list each seed once, in ascending order")
        if self.seeds == "training" and self.diverged_value is None and self.rule not in ("exact", "comparison"):
            raise InputError("diverged_value is missing: the value for a run that diverges, such as chance level")
        return self

    def _check_exact(self) -> None:
        if not self.bounds:
            raise InputError("rule=exact needs bounds: cell → metric → [least, most]")
        unknown = [name for name in self.bounds if name not in map(str, self.cells)]
        if unknown:
            raise InputError(f"bounds.{unknown[0]} is not a cell; there are {', '.join(map(str, self.cells))}")
        if self.contrasts or self.margin is not None or self.at_least is not None:
            raise InputError("rule=exact takes bounds, but no contrasts, no margin and no at_least")

    def _check_scope(self) -> None:
        if "seeds" not in self.generalises_over or len(set(self.generalises_over)) < len(self.generalises_over):
            raise InputError("generalises_over must be [seeds] or [seeds, examples]")
        if "examples" in self.generalises_over and (self.rule not in _MEANS or self.metric not in _BY_EXAMPLE):
            raise InputError(
                f"generalises_over=[seeds, examples] needs rule={' or '.join(_MEANS)} and a metric that is a mean over "
                f"the test's examples: {', '.join(_BY_EXAMPLE)}"
            )

    def _check_contrasts(self) -> None:
        if self.margin is None:
            raise InputError(f"margin is missing: rule={self.rule} needs the smallest difference that matters")
        if self.rule == "ratio" and self.margin < 1:
            raise InputError("margin of rule=ratio is a factor of at least 1")
        if not self.contrasts:
            raise InputError("contrasts are missing, such as 'layer - batch'")
        used: set[str] = set()
        for name, formula in self.formulas.items():
            for cell in formula.weights:
                if cell not in self.cells:
                    known = ", ".join(map(str, self.cells))
                    raise InputError(f"contrasts.{name} names {cell}, which is not a cell; there are {known}")
                used.add(cell.arm)
            if formula.constant is None and sum(formula.weights.values()) != 0:
                raise InputError(f"contrasts.{name}: {formula} leaves an arm with nothing to be compared with")
        alone = [arm for arm in self.arms if arm not in used]
        if alone:
            raise InputError(f"arms.{alone[0]} is in no contrast: it has no arm to be compared with")
        if self.at_least is not None and self.at_least > len(self.formulas):
            raise InputError(f"at_least={self.at_least}: there are only {len(self.formulas)} contrasts")

    @cached_property
    def cells(self) -> list[Cell]:
        """Every arm under every condition."""
        return [Cell(arm, condition) for condition in (self.conditions or {"": []}) for arm in self.arms]

    @cached_property
    def formulas(self) -> dict[str, Formula]:
        """The contrasts by name; one per condition if a contrast names none."""
        found: dict[str, Formula] = {}
        for name, text in self.contrasts.items():
            formula = parse(text)
            if self.conditions and any(not cell.condition for cell in formula.weights):
                found |= {f"{name} @ {condition}": formula.at(condition) for condition in self.conditions}
            else:
                found[name] = formula
        return found

    @property
    def divisor(self) -> int:
        """What the error of a verdict is divided by for each contrast's interval."""
        if self.rule == "comparison":
            return len(self.formulas)
        return 1 if self.at_least is None else max(self.at_least, len(self.formulas) - self.at_least + 1)

    def tuned_at(self, cell: Cell) -> Cell:
        """The cell whose best point this one uses: itself, or its arm under the condition `tune.at`."""
        return cell if self.tune is None or self.tune.at is None else Cell(cell.arm, self.tune.at)

    def choices(self, cell: Cell, scale: str) -> list[str]:
        """The overrides of a cell, except its seed, its tuned option and those of the reporting stage."""
        return [*self.common, *self.conditions.get(cell.condition, []), *self.arms[cell.arm], *self.scales[scale]]

    @cached_property
    def rule_hash(self) -> str:
        """A hash of everything that a verdict depends on except the data."""
        about = {"title", "question", "label", "says", "statement", "source", "expect", "published"}
        left_out = {*about, "also", "scales", "advice", "succeeded_by"}
        if not self.recipe_seeds:  # the hash from before this key existed
            left_out.add("recipe_seeds")
        if self.generalises_over == ["seeds"]:  # likewise
            left_out.add("generalises_over")
        if self.at_least is None:  # likewise
            left_out.add("at_least")
        parts = self.model_dump(mode="json", exclude=left_out)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
