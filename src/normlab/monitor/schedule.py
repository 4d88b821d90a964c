"""When to look, and how closely."""

from __future__ import annotations

from time import perf_counter

GROWTH = 1.25  # of the steps at which a look is always taken, so 3 of them are in the second half of any training
DOUBLED = 2  # growth of the steps at which a look is always a whole one
EVALUATED = 8  # evaluated batches that are always looked at


class Schedule:
    """Looks at steps 1, 2, 3, … each at least 25 % later than the one before, and more where they cost little.

    Looks are whole, with layers and gradients, as long as all of them together stay below the budget, and otherwise at
    steps 1, 2, 4, …; the others see only what the norms read, for about a third of the time.

    Args:
        every: steps from one additional look to the next, at least.
        budget: share of the training's time that all looks may take before what is additional is left out.
    """

    def __init__(self, every: int, budget: float) -> None:
        self.every, self.budget = every, budget
        self.fixed, self.fixed_whole, self.last, self.evaluated, self.spent = 1.0, 1.0, 0, 0, 0.0
        self.began = perf_counter()

    def _left(self) -> bool:
        return self.spent < self.budget * (perf_counter() - self.began)

    def due(self, step: int) -> bool:
        """Whether to look at this step, counted from 1."""
        if step >= self.fixed:
            self.fixed = max(step + 1, step * GROWTH)
        elif step < self.last + self.every or not self._left():
            return False
        self.last = step
        return True

    def whole(self, step: int) -> bool:
        """Whether a look at this step sees everything."""
        if self.fixed > self.fixed_whole:  # the next look would be too late
            self.fixed_whole = step * DOUBLED
            return True
        return self._left()

    def due_in_evaluation(self, number: int) -> bool:
        """Whether to look at an evaluation's batch: of 1, 2, 4, … the first eight ever, then where it is cheap."""
        if number & (number - 1) or not (self.evaluated < EVALUATED or self._left()):
            return False
        self.evaluated += 1
        return True
