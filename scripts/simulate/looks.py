"""Sequential verdicts, through the design and the judge's rule.

Run by python scripts/simulate/looks.py (one minute on a free core).
"""

from __future__ import annotations

import math

import numpy as np
from page import rate, table, write
from populations import BEYOND, PROMISED, Array, Draw, normal
from scipy import stats

from normlab.findings.states import state_of
from normlab.stats.power import seeds_needed as seeds_of_a_fixed_design
from normlab.stats.sequential import Design

FAMILY = 0.05 / 6
DESIGN = Design((8, 12, 18, 24), FAMILY)
STUDIES = 60_000


def t_limits(d: Array, alpha: float) -> tuple[Array, Array]:
    n = d.shape[-1]
    half = stats.t.isf(alpha / 2, n - 1) * d.std(axis=-1, ddof=1) / math.sqrt(n)
    return d.mean(axis=-1) - half, d.mean(axis=-1) + half


def decided_at(d: Array, margin: float, design: Design = DESIGN) -> tuple[Array, Array]:
    """Of each study: 1 supported, -1 contradicted, 0 undecided; and the seeds spent."""
    state, spent = np.zeros(len(d)), np.zeros(len(d))
    for look in design.looks:
        goes_on = state == 0
        low, high = design.limits(d[:, :look], look)
        spent[goes_on] = look
        state[goes_on] = np.where(low > margin, 1, np.where(high < margin, -1, 0))[goes_on]
    return state, spent


def check_rule() -> None:
    """The quick rule above is `Design.interval` with the judge's `state_of`."""
    d = np.random.default_rng(0).exponential(size=(200, 24)) * 3
    states, spent = decided_at(d, 1.0)
    names = {"supported": 1, "contradicted": -1, "undecided": 0}
    for study, state, seeds in zip(d, states, spent, strict=True):
        for look in DESIGN.looks:
            found = DESIGN.interval(list(study[:look]), look)
            said = names[state_of("difference", 1.0, found.low, found.high)[0]]
            if said or look == DESIGN.cap:
                break
        assert (said, look) == (state, seeds)


def errors(populations: dict[str, Draw]) -> str:
    rows = []
    for name, draw in populations.items():
        d = np.concatenate([draw(np.random.default_rng(i), (STUDIES // 4, 24)) for i in range(4)])
        state, _ = decided_at(d, 0.0)
        wrong = float(np.mean(state != 0))
        together = np.zeros(len(d), dtype=bool)
        peeking = np.zeros(len(d), dtype=bool)
        for look in DESIGN.looks:
            low, high = DESIGN.limits(d[:, :look], look)
            together |= (low > 0) | (high < 0)
            low, high = t_limits(d[:, :look], FAMILY)
            peeking |= (low > 0) | (high < 0)
        low, high = t_limits(d[:, :8], FAMILY)
        once = float(np.mean((low > 0) | (high < 0)))
        family = 1 - (1 - wrong) ** 6
        rows.append(
            [
                name,
                rate(once),
                rate(float(peeking.mean())),
                rate(wrong, FAMILY, STUDIES),
                rate(float(np.mean(state > 0))),
                rate(float(np.mean(state < 0))),
                rate(1 - float(together.mean())),
                rate(family, 0.05, STUDIES // 6),
            ]
        )
    head = [
        "differences",
        "t, 8 seeds",
        "t, looked at 4 times",
        "**the design**",
        "supported",
        "contradicted",
        "all 4 intervals hold",
        "any of 6",
    ]
    return table(head, rows)


def costs() -> str:
    rows = []
    for sd in (0.25, 0.5, 0.75, 1.0):
        for effect in (0, 1, 2, 5):
            d = effect + sd * normal(np.random.default_rng(1), (STUDIES, 24))
            state, spent = decided_at(d, 1.0)
            fixed = []
            for n in (8, 24):
                low, high = t_limits(d[:, :n], FAMILY)
                fixed.append(np.mean((low > 1) | (high < 1)))
            planned = max(8, seeds_of_a_fixed_design(1.0, sd, FAMILY))
            rows.append(
                [
                    f"{sd:g}",
                    effect,
                    f"{np.mean(state != 0):.3f}",
                    f"{spent.mean():.1f}",
                    " · ".join(f"{np.mean((spent <= look) & (state != 0)):.2f}" for look in DESIGN.looks),
                    f"{fixed[0]:.3f}",
                    f"{fixed[1]:.3f}",
                    planned,
                ]
            )
    head = [
        "sd / margin",
        "effect / margin",
        "decided",
        "mean seeds",
        "decided by 8 · 12 · 18 · 24",
        "t at 8",
        "t at 24",
        "t's n for 80 %",
    ]
    return table(head, rows)


def main() -> None:
    check_rule()
    looks = ", ".join(map(str, DESIGN.looks))
    spent = ", ".join(f"{value:.5f}" for value in DESIGN.spent)
    each = ", ".join(f"{DESIGN.error(look):.5f}" for look in DESIGN.looks)
    write(
        "looks",
        f"""
`python scripts/simulate/looks.py`: {STUDIES:,} studies a row, looks at {looks} seeds,
alpha = 0.05 / 6 = {FAMILY:.5f}; spent after each look {spent}; each look's own error {each}.

**False verdicts with the truth at the margin** (nominal {FAMILY:.4f}; any of six {0.05}):

{errors(PROMISED)}

**The same where the interval makes no promise:**

{errors(BEYOND)}

**What a verdict costs, normal seeds** (effect 1: at the margin, where a verdict is an error):

{costs()}
""",
    )


if __name__ == "__main__":
    main()
