"""Coverage of the intervals of failure rates, exactly, and verdicts where runs collapse.

Run by python scripts/simulate/failures.py (two minutes on a free core).
"""

from __future__ import annotations

import itertools

import numpy as np
from page import rate, table, write
from scipy import stats

from normlab.stats import guarded
from normlab.stats.paired import Interval
from normlab.stats.rates import paired_rates, rate_interval, unpaired_rates
from normlab.stats.sequential import Design
from normlab.stats.shares import share_interval

FAMILY = 0.05 / 6
STUDIES = 20_000


def newcombe(first: tuple[int, int], second: tuple[int, int], alpha: float) -> Interval:
    """Newcombe's (1998) hybrid of two Wilson intervals."""
    one, two = share_interval(*first, alpha), share_interval(*second, alpha)
    p, q = first[0] / first[1], second[0] / second[1]
    low = p - q - np.hypot(p - one.low, two.high - q)
    return Interval(float(low), float(p - q + np.hypot(one.high - p, q - two.low)), 1 - alpha)


def single(n: int, alpha: float) -> list[object]:
    """Least coverage over all rates, by summing the binomial distribution."""
    rates = np.linspace(0.001, 0.999, 999)
    chance = stats.binom.pmf(np.arange(n + 1)[:, None], n, rates)
    least = []
    for method in (share_interval, rate_interval):
        found = [method(k, n, alpha) for k in range(n + 1)]
        inside = np.array([[i.low <= rates, rates <= i.high] for i in found]).all(axis=1)
        least.append((chance * inside).sum(axis=0).min())
    return [n, f"{1 - alpha:.4f}", f"{least[0]:.4f}", f"{least[1]:.4f}"]


def unpaired(n: int, alpha: float) -> list[object]:
    rates = np.linspace(0, 1, 41)
    p, q = np.meshgrid(rates, rates)
    least = []
    for method in (newcombe, unpaired_rates):
        covered = np.zeros_like(p)
        for a, b in itertools.product(range(n + 1), repeat=2):
            found = method((a, n), (b, n), alpha)
            i = found if isinstance(found, Interval) else found.interval
            inside = (i.low - 1e-12 <= p - q) & (p - q <= i.high + 1e-12)
            covered += stats.binom.pmf(a, n, p) * stats.binom.pmf(b, n, q) * inside
        least.append(covered.min())
    return [n, f"{1 - alpha:.4f}", f"{least[0]:.4f}", f"{least[1]:.4f}"]


def paired(n: int, alpha: float) -> list[object]:
    grid = [(b, c) for b in np.linspace(0, 1, 41) for c in np.linspace(0, 1, 41) if b + c <= 1 + 1e-9]
    only_b, only_c = np.array(grid).T
    rest = np.clip(1 - only_b - only_c, 0, 1)
    covered, level = np.zeros(len(grid)), np.zeros(len(grid))
    for a in range(n + 1):
        for c in range(n + 1 - a):
            arms = [True] * a + [False] * (n - a), [False] * a + [True] * c + [False] * (n - a - c)
            found = paired_rates(*arms, alpha)
            chance = stats.multinomial.pmf([[a, c, n - a - c]] * len(grid), n, np.stack([only_b, only_c, rest], axis=1))
            i = found.interval
            covered += chance * ((i.low - 1e-12 <= only_b - only_c) & (only_b - only_c <= i.high + 1e-12))
            level += chance * (found.p <= alpha)
    same = np.isclose(only_b, only_c)
    return [n, f"{1 - alpha:.4f}", f"{covered.min():.4f}", f"{level[same].max():.4f}"]


def collapse(share: float, loss: float) -> list[object]:
    """One arm collapses now and then; the arms' other runs differ by just the margin, so that any verdict is false."""
    rng = np.random.default_rng(2)
    design = Design((8, 12, 18, 24), FAMILY)
    d = rng.standard_normal((STUDIES, 24))
    failed = rng.random((STUDIES, 24)) < share
    mean = -share * loss
    mixed = np.where(failed, -loss, d) - mean  # against the mean with collapses in it
    low, high = design.limits(mixed[:, :8], 8)
    averaged_8 = float(np.mean((low > 0) | (high < 0)))
    student_8 = float(np.mean(stats.ttest_1samp(mixed[:, :8], 0.0, axis=1).pvalue < FAMILY))
    averaged, conditional = np.zeros(STUDIES, dtype=bool), np.zeros(STUDIES, dtype=bool)
    for look in design.looks:
        low, high = design.limits(mixed[:, :look], look)
        averaged |= (low > 0) | (high < 0)
        order = np.argsort(failed[:, :look], axis=1, kind="stable")
        kept = (~failed[:, :look]).sum(axis=1)
        for n in np.unique(kept[kept >= guarded.LEAST]):
            own = np.flatnonzero(kept == n)
            low, high = design.limits(np.take_along_axis(d[own], order[own, :n], axis=1), look)
            conditional[own] |= (low > 0) | (high < 0)
    found = [paired_rates([True] * k + [False] * (24 - k), [False] * 24).p <= 0.05 for k in range(25)]
    seen = float(np.mean(np.array(found)[failed.sum(axis=1)]))
    return [
        f"{share:.0%}",
        f"{loss:g}",
        rate(student_8),
        rate(averaged_8),
        rate(float(averaged.mean()), FAMILY, STUDIES),
        rate(float(conditional.mean()), FAMILY, STUDIES),
        f"{seen:.3f}",
    ]


def main() -> None:
    levels = [(n, alpha) for n in (8, 12, 24) for alpha in (0.05, FAMILY)]
    head = ["n", "level"]
    write(
        "failures",
        f"""
`python scripts/simulate/failures.py`. Coverage is exact, by summing over all outcomes; the least over a grid of rates.

**One rate**

{table([*head, "Wilson", "**Clopper–Pearson**"], [single(*x) for x in levels])}

**Difference of two independent rates**

{table([*head, "Newcombe", "**two Clopper–Pearson**"], [unpaired(*x) for x in levels])}

**Difference of two paired rates**

{table([*head, "**Bonferroni of two Clopper–Pearson**", "McNemar's largest error"], [paired(*x) for x in levels])}

**One arm collapses**: {STUDIES:,} studies a row, false verdicts with the truth at the margin (nominal {
            FAMILY:.4f}). *Averaged in*: collapsed
runs count with their loss (in sd) and the truth is the mean of all runs. *Conditional*: pairs with a failed run are
left out, the
truth is that of runs that don't fail, and the failures are tested on their own (last column: found at 5 % by 24 seeds).

{
            table(
                [
                    "rate",
                    "loss, sd",
                    "t at 8, averaged in",
                    "guarded at 8, averaged in",
                    "design, averaged in",
                    "**design, conditional**",
                    "failures found",
                ],
                [collapse(*x) for x in ((0.05, 5), (0.05, 10), (0.05, 40), (0.2, 10), (0.4, 40))],
            )
        }
""",
    )


if __name__ == "__main__":
    main()
