"""The two-way interval, seeds × blocks of examples.

Run by python scripts/simulate/examples.py (half a minute on a free core).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from page import rate, table, write
from populations import Array, Draw, exponential, lognormal, normal

from normlab.stats import guarded
from normlab.stats.two_way import limits, two_way

STUDIES, LEVELS = 20_000, (0.05, 0.05 / 6)
Crossed = Callable[[np.random.Generator, tuple[int, int, int]], Array]


def crossed(
    rng: np.random.Generator, shape: tuple[int, int, int], spreads: tuple[float, float, float], seeds: Draw
) -> Array:
    """[studies, seeds, blocks] with a mean of 0: a seed's effect, a block's and the rest's."""
    studies, n, blocks = shape
    seed, block, rest = spreads
    return seed * seeds(rng, (studies, n, 1)) + block * normal(rng, (studies, 1, blocks)) + rest * normal(rng, shape)


def binomial(rng: np.random.Generator, shape: tuple[int, int, int], size: int, spread: float) -> Array:
    """Differences of accuracies from counts of right answers; examples differ in difficulty, seeds in skill."""
    studies, n, blocks = shape
    hard = rng.normal(1.0, 1.0, (studies, 1, blocks, size))
    right = []
    for _ in range(2):
        skill = spread * rng.standard_normal((studies, n, 1, 1))
        taste = 0.5 * rng.standard_normal(
            (studies, 1, blocks, size)
        )  # how an arm does on an example, whatever the seed
        chance = 1 / (1 + np.exp(-(hard + skill + taste)))
        right.append((rng.random(chance.shape) < chance).sum(axis=-1))
    return np.asarray((right[0] - right[1]) / size)


def rows(name: str, draw: Crossed, n: int, blocks: int) -> list[list[object]]:
    """One row for each level."""
    rng = np.random.default_rng(n * blocks)
    weights = np.full(blocks, 1 / blocks)
    found = np.zeros((len(LEVELS), 3))  # misses over seeds alone, both ways, and the widths' ratio
    for _ in range(STUDIES // 500):
        d = draw(rng, (500, n, blocks))
        for own, alpha in zip(found, LEVELS, strict=True):
            (low, high), (least, most) = limits(d, weights, alpha), guarded.limits(d @ weights, alpha)
            ratio = float(np.mean((high - low) / (most - least)))
            own += 500 * np.array([miss(least, most), miss(low, high), ratio])
    alone, both, width = found.T / STUDIES
    return [
        [name, n, blocks, rate(alone[i], alpha, STUDIES), rate(both[i], alpha, STUDIES), f"{width[i]:.2f}"]
        for i, alpha in enumerate(LEVELS)
    ]


def miss(low: Array, high: Array) -> float:
    return float(np.mean((low > 0) | (high < 0)))


def check() -> None:
    """The many studies' limits are the one study's interval."""
    d = np.random.default_rng(0).normal(size=(8, 10))
    low, high = limits(d, np.full(10, 0.1), 0.05)
    found = two_way(d, alpha=0.05).interval
    assert (found.low, found.high) == (float(low), float(high))


def main() -> None:
    check()
    scenarios: dict[str, Crossed] = {
        "seeds alone: 1, 0, 1": lambda r, s: crossed(r, s, (1, 0, 1), normal),
        "blocks alone: 0, 3, 1": lambda r, s: crossed(r, s, (0, 3, 1), normal),
        "both: 1, 3, 1": lambda r, s: crossed(r, s, (1, 3, 1), normal),
        "rest alone: 0, 0, 1": lambda r, s: crossed(r, s, (0, 0, 1), normal),
        "exponential seeds: 1, 1, 1": lambda r, s: crossed(r, s, (1, 1, 1), exponential),
        "lognormal seeds, σ = 1: 1, 1, 1": lambda r, s: crossed(r, s, (1, 1, 1), lognormal(1.0)),
        "counts of 10 an entry": lambda r, s: binomial(r, s, 10, 0.1),
    }
    found = [
        rows(name, draw, n, blocks)
        for name, draw in scenarios.items()
        for n, blocks in ((8, 20), (8, 60), (24, 20))
        if not name.startswith("counts") or (n, blocks) == (8, 20)
    ]
    head = ["sd of seeds, blocks, rest", "seeds", "blocks", "misses: over seeds alone", "two-way", "width ratio"]
    tables = [
        f"**Level {1 - alpha:.2%}, nominal {alpha:.4f}**\n\n{table(head, [pair[i] for pair in found])}"
        for i, alpha in enumerate(LEVELS)
    ]
    body = "\n\n".join(tables)
    write(
        "examples",
        f"""
`python scripts/simulate/examples.py`: {STUDIES:,} studies a row; the truth is the mean over all seeds *and* all
examples.

{body}
""",
    )


if __name__ == "__main__":
    main()
