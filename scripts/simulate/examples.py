"""Verdicts over seeds and examples, by the judge, with the truth at the margin.

Run by python scripts/simulate/examples.py (ten minutes on a free core). Rows that the page has already are kept, so
that it can be stopped and run again; after a change of the statistics, remove them from the page first.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf
from page import kept, rate, table, write
from populations import Array, Draw, exponential, lognormal, normal, t3
from scipy import stats

from normlab.findings import judge as judging
from normlab.findings.examples import Scores
from normlab.findings.finding import Finding
from normlab.findings.judge import PRIMARIES, judge
from normlab.findings.read import read_finding
from normlab.findings.scope import Scope
from normlab.findings.states import ALPHA
from normlab.stats.sequential import Design
from normlab.stats.two_way import in_blocks, limits_of

STUDIES, TOGETHER, LOOKS, MARGIN = 20_000, 50, (8, 12, 18, 24), 0.01
FAMILY = ALPHA / PRIMARIES


@dataclass(frozen=True)
class World:
    """An example is right if skill + ease + taste + noise > 0; all in sd of the noise of a single answer.

    name      of the row
    examples  of the test
    seeds     population of a seed's skill in the first arm; in the second it is normal
    spread    sd of the skill
    shared    part of the skill's variance that both arms of a seed share
    taste     sd of what an arm is good at, by example
    ease      mean and sd of the examples' ease
    lead      of the first arm, on all examples
    windows   0: answers; else windows of a text with losses, each alike to its neighbour by that correlation
    """

    name: str
    examples: int
    seeds: Draw = normal
    spread: float = 0.025
    shared: float = 0.0
    taste: float = 0.35
    ease: tuple[float, float] = (1.0, 1.0)
    lead: float = 0.0
    windows: float = 0.0

    def draw(self, rng: np.random.Generator, seeds: int) -> NDArray[Any]:
        """[arms, seeds, examples]: scores; of answers bool."""
        skill = self.skill(rng, seeds)[..., None]
        if self.windows:
            taste = self.taste * autocorrelated(rng, self.examples, self.windows)
            noise = 0.1 * rng.standard_normal((2, seeds, self.examples))
            return np.asarray(2.0 + skill + np.stack([taste, np.zeros_like(taste)])[:, None] + noise)
        ease = self.ease[0] + self.ease[1] * normal(rng, (1, 1, self.examples))
        known = (ease + self.taste * normal(rng, (2, 1, self.examples))).astype(np.float32) + skill.astype(np.float32)
        return np.asarray(rng.standard_normal(known.shape, dtype=np.float32) + known > 0)

    def skill(self, rng: np.random.Generator, seeds: int) -> Array:
        """[arms, seeds], skewed in the first arm alone, so that the difference is too."""
        alone = np.stack([self.seeds(rng, (seeds,)), normal(rng, (seeds,))])
        skill = np.sqrt(1 - self.shared) * alone + np.sqrt(self.shared) * normal(rng, (1, seeds))
        return np.asarray(self.spread * skill + np.array([[self.lead], [0.0]]))

    def truth(self) -> float:
        """The mean difference over all seeds and examples: over those of a given skill it is known."""
        if self.windows:
            return self.lead
        skill = self.skill(np.random.default_rng(1), 4_000_000)
        right = stats.norm.cdf((self.ease[0] + skill) / np.hypot(1.0, np.hypot(self.ease[1], self.taste)))
        return float(right[0].mean() - right[1].mean())


def autocorrelated(rng: np.random.Generator, n: int, rho: float) -> Array:
    from scipy.signal import lfilter

    steps = rng.standard_normal(n) * np.where(np.arange(n) > 0, np.sqrt(1 - rho**2), 1.0)
    return np.asarray(lfilter([1.0], [1.0, -rho], steps))


WORLDS = [
    World("normal seeds", 300),
    World("normal seeds", 1546),
    World("examples matter little", 1546, taste=0.02, spread=0.1),
    World("lognormal seeds, σ = 1", 300, seeds=lognormal(1.0)),
    World("lognormal seeds, σ = 1", 1546, seeds=lognormal(1.0)),
    World("lognormal seeds, σ = 1; they matter most", 1546, seeds=lognormal(1.0), spread=0.2),
    World("arms share most of a seed", 1546, shared=0.8),
    World("one arm leads where it is hard", 1546, ease=(2.2, 0.3), lead=0.3, taste=0.05),
    World("nearly all right (99 %), arms alike", 1546, ease=(2.6, 0.6)),
    World("text: neighbours correlate by 0.5", 2000, windows=0.5, taste=0.3),
    World("lognormal seeds, σ = 1", 10_000, seeds=lognormal(1.0)),
    World("exponential seeds", 1546, seeds=exponential),
    World("t seeds, 3 degrees of freedom", 1546, seeds=t3),
    World("normal seeds", 10_000),
]


def finding(world: World, folder: Path) -> Finding:
    """Of two arms, with a constant that puts the truth at the margin."""
    metric = "test/loss" if world.windows else "test/accuracy"
    shift = MARGIN - world.truth()
    values = {
        "name": "simulated", "claim": 6, "primary": True, "title": "", "statement": "", "source": "", "expect": "",
        "common": [], "arms": {"layer": [], "batch": []}, "metric": metric, "better": "higher",
        "generalises_over": ["seeds", "examples"], "diverged_value": -1e9, "rule": "difference", "margin": MARGIN,
        "contrasts": {"main": f"layer - batch {'+' if shift > 0 else '-'} {abs(shift):.8f}"}, "scales": {},
    }  # fmt: skip
    path = folder / "finding" / "simulated.yaml"
    path.parent.mkdir(exist_ok=True)
    OmegaConf.save({"finding": values}, path)
    return read_finding(path)


def study(found: Finding, scores: Array) -> tuple[list[dict[str, Any]], Scores]:
    """Rows and scores as the engine gives them."""
    kind = found.metric.removeprefix("test/")
    sizes = np.full(scores.shape[-1], 64.0) if kind == "loss" else None
    rows: list[dict[str, Any]] = []
    kept: dict[str, Mapping[str, Any]] = {}
    for name, arm in zip(("layer", "batch"), scores, strict=True):
        for seed, values in enumerate(arm):
            run = f"{name}-{seed}"
            rows.append(
                {"arm": name, "condition": "", "seed": seed, "id": run, "diverged": False,
                 found.metric: float(values.mean())}
            )  # fmt: skip
            kept[run] = {"metric": kind, "split": "", "values": values, "sizes": sizes}
    return rows, kept


def row(world: World, studies: int) -> list[object]:
    """Of every study all limits; through the whole judge those that any decides, and one of each `TOGETHER` others."""
    rng = np.random.default_rng(world.examples)
    with tempfile.TemporaryDirectory() as folder:
        found = finding(world, Path(folder))
    alone, states, widths = 0, Counter[str](), []
    for _ in range(studies // TOGETHER):
        scores = [world.draw(rng, LOOKS[-1]) for _ in range(TOGETHER)]
        over_seeds, over_both = all_limits(found, scores)
        alone += int(decide(over_seeds).any(axis=1).sum())
        decided = decide(over_both).any(axis=1)
        for number in {0, *np.flatnonzero(decided).tolist()}:
            state = by_the_judge(found, scores[number])
            assert (state != "undecided") == decided[number], (state, over_both[number])
            states[state] += 1
        widths.append(np.diff(over_both[:, -1]) / np.diff(over_seeds[:, -1]))
    false = (states["supported"] + states["contradicted"]) / studies
    return [
        world.name, world.examples, rate(alone / studies, FAMILY, studies), rate(false, FAMILY, studies),
        *(f"{states[state] / studies:.4f}" for state in ("supported", "contradicted")),
        rate(1 - (1 - false) ** PRIMARIES, ALPHA, studies), f"{np.median(widths):.2f}", states.total(),
    ]  # fmt: skip


def all_limits(found: Finding, scores: Sequence[Array]) -> tuple[Array, Array]:
    """Of each study at each look, low and high: over seeds alone, and over seeds and examples; [studies, looks, 2]."""
    design, shift = Design(LOOKS, FAMILY), found.formulas["main"].constant or 0.0
    rows, sums = [], []
    for first, second in scores:
        if found.metric == "test/loss":
            d, _ = in_blocks(first - second, np.full(first.shape[1], 64.0))
        else:
            d = first.view(np.int8) - second.view(np.int8)
        rows.append(d.mean(axis=1, dtype=np.float64) + shift)
        parts = [d[a:b].sum(axis=0, dtype=d.dtype) for a, b in pairwise([0, *LOOKS])]  # of int8 at most eight
        sums.append(np.cumsum(parts, axis=0, dtype=np.float64))
    r, s = np.array(rows), np.array(sums)
    weights = np.full(s.shape[2], 1 / s.shape[2])
    alone = [design.limits(r[:, :look], look) for look in LOOKS]
    both = [
        limits_of(r[:, :look], s[:, place] / look + shift, weights, design.error(look))
        for place, look in enumerate(LOOKS)
    ]
    return np.moveaxis(np.array(alone), 2, 0), np.moveaxis(np.array(both), 2, 0)


def decide(limits: Array) -> Any:
    """[..., 2] → [...]."""
    return np.asarray((limits[..., 0] > MARGIN) | (limits[..., 1] < MARGIN), dtype=bool)


def by_the_judge(found: Finding, scores: Array) -> str:
    """The state at the first look that decides, or at the cap."""
    rows, kept = study(found, scores)
    for look in LOOKS:
        seen = [each for each in rows if each["seed"] < look]
        verdict = judge(found, seen, look, "simulated", {}, looks=LOOKS, scores=kept)
        assert verdict.estimates[0].scope is Scope.EXAMPLES
        if verdict.state != "undecided":
            break
    return verdict.state


def main() -> None:
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else STUDIES
    judging.seeds_to_tell = lambda *_: 8  # which takes most of the time, and decides nothing
    heading = page([], studies).splitlines()[1]
    known = {tuple(cells[:2]): cells for cells in kept("examples", heading)} if studies == STUDIES else {}
    rows: dict[World, Sequence[object]] = {w: known[key(w)] for w in WORLDS if key(w) in known}
    for world in sorted((w for w in WORLDS if w not in rows), key=lambda w: w.examples):
        rows[world] = row(world, studies)
        print(*rows[world], sep=" | ", file=sys.stderr, flush=True)
        if studies == STUDIES:
            write("examples", page([rows[w] for w in WORLDS if w in rows], studies))
    if studies != STUDIES:
        print(page([rows[w] for w in WORLDS], studies))


def key(world: World) -> tuple[str, str]:
    """The first two cells of its row, which no two rows share."""
    return world.name, str(world.examples)


def page(rows: Sequence[Sequence[object]], studies: int) -> str:
    """The table of the rows that are done."""
    head = [
        "seeds, examples", "examples", "over seeds alone", "**seeds and examples**", "supported", "contradicted",
        "any of 6", "width at 24 seeds", "judged whole",
    ]  # fmt: skip
    left = len(WORLDS) - len(rows)
    return f"""
`python scripts/simulate/examples.py`: {studies:,} studies a row, at 8, 12, 18 and 24 seeds until decided. The
truth, the mean difference over all seeds *and* all examples, lies at the margin, so that every verdict is false:
nominal {FAMILY:.4f}, any of six {ALPHA:g}. All studies' limits are computed by the functions that the judge calls; each
study that they decide, and one of each {TOGETHER} others, goes through the whole judge, from its runs' scores to the
verdict, which must be the same. The width is the median, over that of the interval over seeds alone.

{table(head, rows)}
{f"{chr(10)}The script stopped early: {left} of its {len(WORLDS)} rows are missing." if left else ""}
"""


if __name__ == "__main__":
    main()
