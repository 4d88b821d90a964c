"""Slow float64 formulas of norms whose statistics are not those of one standardisation, each written out alone.

They get x as [examples, places, channels], which entries are real, and the norm for its parameters and buffers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """One input at a site.

    x      [examples, places, channels]
    real   [examples, places]
    places_share  whether an example's places share statistics (images), or each is alone
    step   where a norm keeps statistics for each time step: the step of place p is step + p; None: one set
    """

    norm: Any
    x: np.ndarray
    real: np.ndarray
    parts: int
    places_share: bool
    step: int | None
    options: dict[str, Any]

    def parameter(self, name: str) -> np.ndarray:
        value = getattr(self.norm, name)
        return np.zeros(self.x.shape[2]) if value is None else np.broadcast_to(value.detach().numpy(), self.x.shape[2])

    def option(self, name: str) -> Any:
        return self.options.get(name, getattr(self.norm, name))

    def places(self) -> Iterator[tuple[int, int]]:
        return zip(*np.nonzero(self.real), strict=True)

    def blocks(self, count: int | None = None) -> list[slice]:
        width = self.x.shape[2] // (count or self.parts)
        return [slice(i, i + width) for i in range(0, self.x.shape[2], width)]

    def own(self, b: int, channels: slice | int) -> np.ndarray:
        """All real values of some channels of an example."""
        return self.x[b, self.real[b]][:, channels].ravel()


def derf(case: Case) -> np.ndarray:
    inner = case.norm.alpha.item() * case.x + case.norm.shift.item()
    return case.parameter("gain") * np.vectorize(math.erf)(inner) + case.parameter("bias")


def hard_tanh(case: Case) -> np.ndarray:
    def squash(v: float) -> float:
        return 1.0 if v > 1 else -1.0 if v < -1 else v

    return case.parameter("gain") * np.vectorize(squash)(case.norm.alpha.item() * case.x) + case.parameter("bias")


def _each_vector(case: Case, new: Any) -> np.ndarray:
    """`new` of each vector: the channels of a block at a place, with the block's slice."""
    y = np.zeros_like(case.x)
    for b, p in case.places():
        for block in case.blocks():
            y[b, p, block] = new(case.x[b, p, block], block)
    return y


def simple_rms(case: Case) -> np.ndarray:
    if not case.places_share:
        return _each_vector(case, lambda v, _: v / math.sqrt((v**2).mean() + 1e-5))
    y = np.zeros_like(case.x)
    for b, p in case.places():
        for block in case.blocks():
            y[b, p, block] = case.x[b, p, block] / math.sqrt((case.own(b, block) ** 2).mean() + 1e-5)
    return y


def scale(case: Case) -> np.ndarray:
    length = case.norm.length.item()
    return _each_vector(case, lambda v, _: length * v / math.sqrt((v**2).sum() + len(v) * 1e-5))


def unit(case: Case) -> np.ndarray:
    k = case.options.get("k", 1.0)
    return _each_vector(case, lambda v, _: len(v) ** (k / 2) * v / math.sqrt((v**2).sum() + len(v) * 1e-5))


def seed(case: Case) -> np.ndarray:
    gain, alpha, beta = (case.parameter(name) for name in ("gain", "alpha", "beta"))

    def new(v: np.ndarray, block: slice) -> np.ndarray:
        rescaled = math.tanh(float(v @ beta[block])) * alpha[block] + gain[block]
        return rescaled * v / math.sqrt((v**2).mean() + 1e-5)

    return _each_vector(case, new)


def ada(case: Case) -> np.ndarray:
    c, k = case.options.get("scale", 1.0), case.options.get("k", 0.1)
    y = np.zeros_like(case.x)
    for b, p in case.places():
        for block in case.blocks():
            v = case.x[b, p, block]
            pool = case.own(b, block) if case.places_share else v
            z = (v - pool.mean()) / math.sqrt(pool.var() + 1e-5)
            y[b, p, block] = c * (1 - k * z) * z
    return y


def frn(case: Case) -> np.ndarray:
    gain, bias = case.parameter("gain"), case.parameter("bias")
    y = np.zeros_like(case.x)
    for b, p in case.places():
        for c in range(case.x.shape[2]):
            nu = (case.own(b, c) ** 2).mean()
            y[b, p, c] = gain[c] * case.x[b, p, c] / math.sqrt(nu + 1e-6) + bias[c]
    return y if case.norm.tau is None else np.maximum(y, case.parameter("tau"))


def grn(case: Case) -> np.ndarray:
    gain, bias = case.parameter("gain"), case.parameter("bias")
    y = np.zeros_like(case.x)
    for b, p in case.places():
        lengths = [math.sqrt((case.own(b, c) ** 2).sum()) for c in range(case.x.shape[2])]
        n = np.array(lengths) / (np.mean(lengths) + 1e-6)
        y[b, p] = gain * (case.x[b, p] * n) + bias + case.x[b, p]
    return y


def evo_s(case: Case) -> np.ndarray:
    gain, bias, v = (case.parameter(name) for name in ("gain", "bias", "v"))
    y = np.zeros_like(case.x)
    for b, p in case.places():
        for block in case.blocks(case.norm.groups):
            x = case.x[b, p, block]
            active = x / (1 + np.exp(-v[block] * x))
            y[b, p, block] = active / math.sqrt(case.own(b, block).var() + 1e-5) * gain[block] + bias[block]
    return y


def _of_the_batch(case: Case, b: int, p: int, c: int) -> tuple[float, float, float, float]:
    """Mean and variance of the set that an entry belongs to, and the running ones."""
    chunk = case.options.get("nbs") or len(case.x)
    first = b // chunk * chunk
    rows = slice(first, first + chunk)
    places = slice(None) if case.step is None else slice(p, p + 1)
    pool = case.x[rows, places, c][case.real[rows, places]]
    at = c if case.step is None else (case.step + p, c)
    running = case.norm.running_mean.numpy()[at], case.norm.running_var.numpy()[at]
    return (*((pool.mean(), pool.var()) if len(pool) >= 2 else running), *running)


def batch_renorm(case: Case) -> np.ndarray:
    gain, bias = case.parameter("gain"), case.parameter("bias")
    passes = int(case.norm.passes.max())

    def limit(first: float, last: float, steps: int) -> float:
        return float(np.interp(passes, [case.norm.warmup, max(steps, case.norm.warmup + 1)], [first, last]))

    r_max, d_max = (limit(*each) for each in case.norm.limits)
    y = np.zeros_like(case.x)
    for b, p in case.places():
        for c in range(case.x.shape[2]):
            mean, var, running_mean, running_var = _of_the_batch(case, b, p, c)
            sigma, running_sigma = math.sqrt(var + 1e-5), math.sqrt(running_var + 1e-5)
            r = min(max(sigma / running_sigma, 1 / r_max), r_max)
            d = min(max((mean - running_mean) / running_sigma, -d_max), d_max)
            y[b, p, c] = gain[c] * ((case.x[b, p, c] - mean) / sigma * r + d) + bias[c]
    return y


def frozen_batch(case: Case) -> np.ndarray:
    gain, bias = case.parameter("gain"), case.parameter("bias")
    frozen = int(case.norm.passes.max()) >= case.norm.after
    y = np.zeros_like(case.x)
    for b, p in case.places():
        for c in range(case.x.shape[2]):
            found = _of_the_batch(case, b, p, c)
            mean, var = found[2:] if frozen else found[:2]
            y[b, p, c] = gain[c] * (case.x[b, p, c] - mean) / math.sqrt(var + 1e-5) + bias[c]
    return y


def regularized_batch(case: Case) -> np.ndarray:
    gain, bias = case.parameter("gain"), case.parameter("bias")
    y = np.zeros_like(case.x)
    for b, p in case.places():
        for c in range(case.x.shape[2]):
            mean, var, *_ = _of_the_batch(case, b, p, c)
            y[b, p, c] = gain[c] * (case.x[b, p, c] - mean) / math.sqrt(var + 1e-5) + bias[c]
    return y


def evo_b(case: Case) -> np.ndarray:
    gain, bias, v = (case.parameter(name) for name in ("gain", "bias", "v"))
    y = np.zeros_like(case.x)
    for b, p in case.places():
        for c in range(case.x.shape[2]):
            of_batch = math.sqrt(_of_the_batch(case, b, p, c)[1] + 1e-5)
            of_example = math.sqrt(case.own(b, c).var() + 1e-5)
            x = case.x[b, p, c]
            y[b, p, c] = x / max(of_batch, v[c] * x + of_example) * gain[c] + bias[c]
    return y


def switchable(case: Case) -> np.ndarray:
    gain, bias = case.parameter("gain"), case.parameter("bias")
    w, v = (
        np.exp(each.detach().numpy()) / np.exp(each.detach().numpy()).sum()
        for each in (case.norm.mean_weight, case.norm.var_weight)
    )
    y = np.zeros_like(case.x)
    for b, p in case.places():
        for c in range(case.x.shape[2]):
            pools = (case.own(b, c), case.own(b, slice(None)))
            batch_mean, batch_var, *_ = _of_the_batch(case, b, p, c)
            mean = w @ [*(pool.mean() for pool in pools), batch_mean]
            var = v @ [*(pool.var() for pool in pools), batch_var]
            y[b, p, c] = gain[c] * (case.x[b, p, c] - mean) / math.sqrt(var + 1e-5) + bias[c]
    return y


FORMULAS = {
    formula.__name__: formula
    for formula in (
        *(derf, hard_tanh, simple_rms, scale, unit, seed, ada, frn, grn, evo_s),
        *(batch_renorm, frozen_batch, regularized_batch, evo_b, switchable),
    )
}
