"""When to look."""

from __future__ import annotations

from time import perf_counter

GROWTH = 1.15  # of the steps at which a look is always taken, so 4 of them are in the second half of any training


class Schedule:
    """Looks at steps 1, 2, 3, … each at least 15 % later than the one before, and more where they cost little.

    Args:
        every: steps from one additional look to the next, at least.
        budget: share of the training's time that all looks may take before the additional ones are left out.
    """

    def __init__(self, every: int, budget: float) -> None:
        self.every, self.budget = every, budget
        self.fixed, self.last, self.spent = 1.0, 0, 0.0
        self.began = perf_counter()

    def due(self, step: int) -> bool:
        """Whether to look at this step, counted from 1."""
        if step >= self.fixed:
            self.fixed = max(step + 1, step * GROWTH)
        elif step < self.last + self.every or self.spent > self.budget * (perf_counter() - self.began):
            return False
        self.last = step
        return True
