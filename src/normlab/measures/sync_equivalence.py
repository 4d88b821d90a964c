"""Whether two processes that synchronise batch norm compute the same as one process with the whole batch."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from normlab.config.measures.dependence import SyncEquivalence
from normlab.config.schema import RunConfig
from normlab.folder.place import Place
from normlab.session.session import Session
from normlab.session.shares import SharedBatch, Solution, solve

PATIENCE = 120  # seconds that the two processes may take, mostly for importing torch


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """One batch of training data, split between two processes on this machine, compared with one process.

    The loss is E = Σ v · y, with v ~ N(0, 1) for every output, in training mode, float64. The processes' gradients are
    added because E is a sum over examples. The batch is split into halves, and into a quarter and the rest; the greater
    difference of the two is reported:

        gradient_difference    max |g₂ - g₁| / max |g₁| over all parameters
        output_difference      the same for the outputs
        statistics_difference  the same for the running statistics, in either process
        …_unsynced             the same with statistics of each process's share alone

    Rounding gives differences of 1e-14. With shares of unequal size, only statistics weighted by their counts are
    equal.

    Raises:
        InputError: the training split has fewer examples than the batch.
        RuntimeError: the processes failed, or took longer than two minutes.
    """
    options = config.measure
    assert isinstance(options, SyncEquivalence)
    session = Session(config, place)
    batch = session.sample(options.examples, "measure.examples")
    inputs = batch.inputs.double() if batch.inputs.is_floating_point() else batch.inputs
    norm = {name: value for name, value in config.norm.items() if name != "sync"}
    problem = SharedBatch(
        norm=norm,
        model=config.model,
        sizes=session.data.sizes,
        seed=session.seed("init"),
        inputs=inputs,
        mask=batch.mask,
    )
    generator = torch.Generator().manual_seed(session.seed("cotangent"))
    shape = solve(problem, sync=False).outputs.shape
    problem = replace(problem, cotangent=torch.randn(shape, generator=generator, dtype=torch.float64))
    summary: dict[str, Any] = differences(problem)
    summary["parameters"] = sum(g.numel() for g in solve(problem, sync=False).gradients.values())
    return session.finish(summary)


def differences(problem: SharedBatch) -> dict[str, float]:
    """The differences that `measure` reports."""
    count = len(problem.inputs)
    cases = {
        (ending, border): (border, sync)
        for ending, sync in (("", True), ("_unsynced", False))
        for border in (count // 2, count // 4)
    }
    whole, (first, second) = solve(problem, sync=False), in_two_processes(problem, cases)
    found: dict[str, float] = {}
    for case in cases:
        values = _differences(whole, first[case], second[case])
        found |= {f"{name}{case[0]}": max(v, found.get(f"{name}{case[0]}", 0.0)) for name, v in values.items()}
    return found


def in_two_processes(problem: SharedBatch, cases: dict[Any, tuple[int, bool]]) -> tuple[dict[Any, Solution], ...]:
    """Both processes' solutions of their shares, by case: where the batch is split, and whether they synchronise.

    Raises:
        RuntimeError: a process failed or they took too long; none is left running.
    """
    with tempfile.TemporaryDirectory(prefix="normlab-") as folder:
        torch.save((problem, cases), Path(folder) / "problem.pt")
        # not multiprocessing's own way: joblib's workers can't start a process by it
        calls = [f"from normlab.session.shares import work; work({rank}, {folder!r}, {PATIENCE})" for rank in range(2)]
        # in their own groups, so that Ctrl-C reaches only this process, which ends them
        processes = [subprocess.Popen([sys.executable, "-c", call], process_group=0) for call in calls]
        deadline = time.monotonic() + PATIENCE
        try:
            while time.monotonic() < deadline and any(process.poll() is None for process in processes):
                if any(process.poll() for process in processes):  # the other process would wait for it forever
                    break
                time.sleep(0.05)
            if any(process.poll() != 0 for process in processes):
                codes = ", ".join("none yet" if p.returncode is None else str(p.returncode) for p in processes)
                raise RuntimeError(f"the two processes did not finish within {PATIENCE} s: exit codes {codes}")
        finally:
            for process in processes:
                process.kill()
                process.wait()
        return tuple(torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(2))


def _differences(whole: Solution, first: Solution, second: Solution) -> dict[str, float]:
    outputs = torch.cat([first.outputs, second.outputs])
    gradients = {name: first.gradients[name] + second.gradients[name] for name in whole.gradients}
    statistics = [_difference(share.buffers, whole.buffers) for share in (first, second)]
    return {
        "gradient_difference": _difference(gradients, whole.gradients),
        "output_difference": _difference({"y": outputs}, {"y": whole.outputs}),
        "statistics_difference": max(statistics),
    }


def _difference(found: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    """Greatest absolute difference, relative to the greatest right value: a gradient that is 0 has no relative one."""
    largest = max(float(value.abs().max()) for value in right.values())
    return max(float((found[name] - value).abs().max()) for name, value in right.items()) / largest
