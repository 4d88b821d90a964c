"""A thousand sessions of a hundred edits that change nothing.

Run by python scripts/simulate/sessions.py (one minute on a free core).

Edits are tried in turn against the best so far. Every improvised rule replaces the best by what it keeps, as people
do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from page import rate, table, write
from populations import Array, Draw, contaminated, lognormal, normal, t3

from normlab.stats.keeping import STAKES, Session, evidence
from normlab.stats.paired import bootstrap_interval, sign_flip_test

SESSIONS, EDITS, MOST = 1000, 100, 24
SIGNS = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1).T

Rule = Callable[[np.random.Generator, Draw], int]


def two_sigma(rng: np.random.Generator, draw: Draw) -> int:
    """Five runs of the start give σ; an edit is run once and kept if it beats the best score by 2 σ."""
    start = draw(rng, (5,))
    best, sigma, kept = start.mean(), start.std(ddof=1), 0
    for score in draw(rng, (EDITS,)):
        if score > best + 2 * sigma:
            best, kept = score, kept + 1
    return kept


def mad(rng: np.random.Generator, draw: Draw) -> int:
    """Kept if the gain over the best is at least twice the median absolute deviation of all scores so far."""
    scores = list(draw(rng, (3,)))
    best, kept = max(scores), 0
    for score in draw(rng, (EDITS,)):
        spread = np.median(np.abs(np.array(scores) - np.median(scores)))
        if score - best > 2 * spread:
            best, kept = score, kept + 1
        scores.append(score)
    return kept


def best_of_three(rng: np.random.Generator, draw: Draw) -> int:
    """Kept if the best of three runs beats the best of three of what it is compared with."""
    best, kept = draw(rng, (3,)).max(), 0
    for score in draw(rng, (EDITS, 3)).max(axis=1):
        if score > best:
            best, kept = score, kept + 1
    return kept


def bca_and_flip(rng: np.random.Generator, draw: Draw) -> int:
    """Eight paired seeds; kept if the 95 % BCa interval is above 0 and the sign-flip test has p < 0.05."""
    d = draw(rng, (EDITS, 8)) - draw(rng, (EDITS, 8))
    p = (np.abs(d @ SIGNS.T) >= np.abs(d.sum(axis=1))[:, None] - 1e-12).mean(axis=1)
    hopeful = d[(p < 0.05) & (d.mean(axis=1) > 0)]
    return sum(sign_flip_test(x) < 0.05 and bootstrap_interval(x).low > 0 for x in hopeful)


def session(planned: int | None, arms: Callable[[np.random.Generator, Draw], Array]) -> Rule:
    """Our rule: looks after every seed, 24 at most."""

    def rule(rng: np.random.Generator, draw: Draw) -> int:
        reached = evidence(arms(rng, draw)).max(axis=-1)
        state = Session(planned=planned)
        for value in reached:
            state = state.after(bool(value >= 1 / state.level))
        return sum(state.kept)

    return rule


def fresh(rng: np.random.Generator, draw: Draw) -> Array:
    return draw(rng, (EDITS, MOST)) - draw(rng, (EDITS, MOST))


def reused(rng: np.random.Generator, draw: Draw) -> Array:
    """All edits are compared with the same runs of the start, so that their errors depend on one another."""
    return draw(rng, (EDITS, MOST)) - draw(rng, (1, MOST))


def skewed(rng: np.random.Generator, draw: Draw) -> Array:
    """The differences themselves have that population, with a mean of 0: the edit changes the shape alone."""
    return draw(rng, (EDITS, MOST))


def false_keeps(rule: Rule, draw: Draw) -> list[str]:
    kept = np.array([rule(np.random.default_rng(i), draw) for i in range(SESSIONS)])
    return [f"{np.mean(kept > 0):.3f}", f"{kept.mean():.2f}"]


def power() -> str:
    rows = []
    for effect in (0.5, 1, 1.5, 2, 3, 5):
        d = effect + normal(np.random.default_rng(3), (20_000, MOST))
        e = evidence(d)
        cells: list[object] = [f"{effect:g}"]
        for planned in (1, 10, 100):
            crossed = e >= 1 / Session(planned=planned).level
            kept = crossed.any(axis=1)
            spent = np.where(kept, crossed.argmax(axis=1) + 1, MOST)
            cells.append(f"{kept.mean():.2f}, {spent.mean():.1f}")
        rows.append(cells)
    return table(["effect, sd of a pair's difference", *(f"planned {n}: kept, seeds" for n in (1, 10, 100))], rows)


def check() -> None:
    """The quick rule above is `Session.decide`, seed by seed."""
    d = 1.2 + np.random.default_rng(0).standard_normal((50, MOST))
    for row in d:
        own = Session(planned=10)
        said = next(s for n in range(1, MOST + 1) if (s := own.decide(list(row[:n]), MOST)) != "open")
        assert (said == "keep") == bool(evidence(row).max() >= 1 / own.level)


def main() -> None:
    check()
    rules: dict[str, Rule] = {
        "2 σ": two_sigma,
        "MAD": mad,
        "best of three": best_of_three,
        "BCa and sign flip, 8 pairs": bca_and_flip,
        "**session, 100 planned**": session(EDITS, fresh),
        "**session, open-ended**": session(None, fresh),
        "**session, 100 planned, start's runs reused**": session(EDITS, reused),
    }
    draws: dict[str, Draw] = {
        "normal": normal,
        "t, 3 df": t3,
        "10 % with 5 × spread": contaminated(0.1, 5),
        "lognormal, σ = 1": lognormal(1.0),
    }
    rows = [[name, *(", ".join(false_keeps(rule, draw)) for draw in draws.values())] for name, rule in rules.items()]
    lopsided = (
        false_keeps(session(EDITS, skewed), lognormal(1.0)),
        false_keeps(session(EDITS, skewed), lambda r, s: -lognormal(1.0)(r, s)),
    )
    rng = np.random.default_rng(9)
    e = evidence(normal(rng, (200_000, MOST))).max(axis=1)
    ville = [[f"{level:g}", rate(float(np.mean(e >= 1 / level)), level, len(e))] for level in (0.05, 0.01, 0.001)]
    write(
        "sessions",
        f"""
`python scripts/simulate/sessions.py`: {SESSIONS:,} sessions of {EDITS} edits that change nothing. Each cell: share
of sessions with any false
keep (to be at most 0.05; one standard error 0.007), mean number of false keeps. Scores per run have the column's
distribution.

{table(["rule", *draws], rows)}

The session's promise is for edits that leave both arms alike, or differences that are symmetric. Where an edit
changes nothing but the
shape, so that single differences are lognormal (σ = 1) with a mean of 0, the share with a false keep is
{lopsided[0][0]}, and {lopsided[1][0]} mirrored.

**The chance that the evidence ever reaches 1 / level within {MOST} seeds** (200,000 null edits):

{table(["level", "reached"], ville)}

**What a true gain costs** ({MOST} seeds at most, λ in {", ".join(map(str, STAKES))}; 20,000 edits; share kept, mean
seeds):

{power()}
""",
    )


if __name__ == "__main__":
    main()
