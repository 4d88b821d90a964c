"""Populations of seeds' differences with a mean of 0, in standard deviations where one exists."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape)


def t3(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_t(3, shape) / np.sqrt(3)


def exponential(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.exponential(size=shape) - 1


def gamma(form: float) -> Draw:
    return lambda rng, shape: (rng.gamma(form, size=shape) - form) / np.sqrt(form)


def lognormal(sigma: float) -> Draw:
    mean = np.exp(sigma**2 / 2)
    sd = mean * np.sqrt(np.expm1(sigma**2))
    return lambda rng, shape: (np.exp(sigma * rng.standard_normal(shape)) - mean) / sd


def contaminated(share: float, scale: float) -> Draw:
    """A share of the seeds has `scale` times the spread (Tukey 1960)."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        wide = rng.random(shape) < share
        return rng.standard_normal(shape) * np.where(wide, scale, 1) / np.sqrt(1 - share + share * scale**2)

    return draw


def shifted(share: float, by: float) -> Draw:
    """A share of the seeds loses or gains `by` standard deviations of the others."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        out = by * ((rng.random(shape) < share) - share)
        return (rng.standard_normal(shape) + out) / np.sqrt(1 + share * (1 - share) * by**2)

    return draw


def rounded(step: float, draw: Draw = normal) -> Draw:
    """Ties: every difference is a multiple of `step`; the population's own mean is taken off by a large sample."""
    rng = np.random.default_rng(0)
    shift = 0.3 * step  # so that the mean lies on no multiple of the step
    mean = float(np.mean(step * np.round((draw(rng, (4_000_000,)) + shift) / step)))
    return lambda rng, shape: step * np.round((draw(rng, shape) + shift) / step) - mean


def two_values(share: float) -> Draw:
    return lambda rng, shape: ((rng.random(shape) < share) - share) / np.sqrt(share * (1 - share))


def autocorrelated(rho: float) -> Draw:
    """Neighbouring seeds correlate, as timings on a machine that slows down do."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        x = rng.standard_normal(shape)
        for i in range(1, shape[-1]):
            x[..., i] = rho * x[..., i - 1] + np.sqrt(1 - rho**2) * x[..., i]
        return x

    return draw


def mirrored(draw: Draw) -> Draw:
    return lambda rng, shape: -draw(rng, shape)


# the guarded interval's table holds its level for these, in both directions, and for whatever is less skewed
CALIBRATED: dict[str, Draw] = {
    "exponential": exponential,
    "lognormal, σ = 0.25": lognormal(0.25),
    "lognormal, σ = 0.5": lognormal(0.5),
    "lognormal, σ = 0.75": lognormal(0.75),
    "lognormal, σ = 1": lognormal(1.0),
    "10 % shifted by 3 sd": shifted(0.1, 3),
}
PROMISED: dict[str, Draw] = {
    "normal": normal,
    "t, 3 degrees of freedom": t3,
    **CALIBRATED,
    "lognormal, σ = 1, mirrored": mirrored(lognormal(1.0)),
    "10 % with 5 times the spread": contaminated(0.1, 5),
    "ties: normal, rounded to 1 sd": rounded(1.0),
    "ties: exponential, rounded to 0.5 sd": rounded(0.5, exponential),
    "two values, 50 %": two_values(0.5),
    "two values, 10 %": two_values(0.1),
}
BEYOND: dict[str, Draw] = {
    "gamma, shape 0.5 (not calibrated)": gamma(0.5),
    "lognormal, σ = 1.5 (not calibrated)": lognormal(1.5),
    "10 % shifted by 5 sd (unflagged)": shifted(0.1, 5),
    "5 % collapse by 10 sd (unflagged)": shifted(0.05, 10),
    "autocorrelated seeds, ρ = 0.5": autocorrelated(0.5),
}
