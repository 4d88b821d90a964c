"""How often NormMonitor names a planted fault first or second, and what it says of healthy trainings.

python scripts/simulate/monitored.py --seeds 10 --set tested  # the table of docs/monitor.md

Each training is kept in results/monitor/, where the tables are written too; the same command goes on after an
interruption. After a change of the monitor, remove the file of that set first.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from planted import Plan, bare, enlarge, filling, freeze, half, over_positions, setting
from planted_loops import train

from normlab.norms.batch import BatchNorm

ROOT = Path(__file__).parents[2]
Job = tuple[str, str, int]  # fault or healthy training, kind of network, seed
BATCH = ("cnn", "mlp", "tcn")
EXAMPLE = ("cnn", "mlp", "transformer")
POST: dict[str, Any] = {"post": True, "layers": 12, "sgd": False}


def _norm(norm: Callable[[Plan], Callable[[int], nn.Module]]) -> Callable[[Plan], None]:
    def plant(plan: Plan) -> None:
        plan.norm = norm(plan)

    return plant


def _plan(**values: Any) -> Callable[[Plan], None]:
    def plant(plan: Plan) -> None:
        for name, value in values.items():
            setattr(plan, name, value)

    return plant


def _change(change: Callable[[nn.Module], None], **values: Any) -> Callable[[Plan], None]:
    def plant(plan: Plan) -> None:
        plan.change.append(change)
        _plan(**values)(plan)

    return plant


def _single(plan: Plan) -> Callable[[int], nn.Module]:
    # at 1 × 1, after pooling; in an MLP there are no positions
    pool: nn.Module = {"cnn": nn.AdaptiveAvgPool2d(1), "tcn": nn.AdaptiveAvgPool1d(1)}.get(plan.kind, nn.Identity())
    return lambda width: nn.Sequential(pool, nn.GroupNorm(width, width))


def _ours(plan: Plan) -> Callable[[int], nn.Module]:
    return lambda width: BatchNorm(width, "BCHW" if plan.kind == "cnn" else "BC")


def _overflowing(plan: Plan) -> None:
    plan.norm, plan.scale = half(plan), 500.0


def _turned(plan: Plan) -> None:
    plan.norm, plan.turned = over_positions(plan), plan.kind == "transformer"


# fault → cause that should be named, kinds of networks, how it is planted
FAULTS: dict[str, tuple[str, tuple[str, ...], Callable[[Plan], None]]] = {
    "batch of 2": ("few_examples", BATCH, _plan(batch=2)),
    "batches of one class": ("ordered_batches", BATCH, _plan(ordered=True)),
    "padding in the statistics": ("padding_in_statistics", ("tcn",), _plan(padded=True)),
    "momentum 0.001": ("stale_statistics", BATCH, _change(setting(momentum=0.001))),
    "momentum 1, batch of 8": ("noisy_statistics", ("mlp", "tcn"), _change(setting(momentum=1.0), batch=8)),
    "eval() never called": ("training_mode_at_evaluation", BATCH, _plan(evaluates=False)),
    "train() not called again": ("eval_mode_in_training", BATCH, _plan(returns=False)),
    "frozen backbone, live statistics": ("frozen_but_live", BATCH, _change(freeze)),
    "checkpointing": ("double_update", BATCH, _plan(checkpoints=True)),
    "two forward passes": ("double_update", BATCH, _plan(passes=2)),
    "float16 overflow": ("overflow", EXAMPLE, _overflowing),
    "eps 10": ("large_eps", EXAMPLE, _change(setting(eps=10.0))),
    "gain fixed at 0": ("zero_gain", EXAMPLE, _change(filling("weight", 0.0, trains=False))),
    "bias before batch norm": ("cancelled_bias", BATCH, _plan(bias=True)),
    "one value per group": ("one_value", BATCH, _norm(_single)),
    "norm after the last layer": ("norm_last", (*BATCH, "transformer"), _plan(last=True)),
    "deep sigmoids without norm": ("vanishing_gradient", BATCH, _plan(norm=bare, layers=10, activation=nn.Sigmoid)),
    "large weights without norm": ("exploding_activation", BATCH, _change(enlarge, norm=bare, layers=8, lr=1e-6)),
    "bias -4 before relu": ("dead_units", BATCH, _change(filling("bias", -4.0))),
    "layer norm over positions": ("wrong_axis", ("cnn", "tcn", "transformer"), _turned),
    "evaluation data shifted by 2": ("shifted_data", BATCH, _plan(shift=2.0)),
    "train() in validation_step": ("training_mode_at_evaluation", BATCH, _plan(loop="sampling")),
    "statistics from validation data": ("statistics_from_evaluation", BATCH, _plan(loop="recalibrating")),
    "2 processes of 3 examples": ("unsynchronised_statistics", BATCH, _plan(loop="processes", batch=6)),
    "post-norm without warm-up": ("collapsed_training", ("transformer",), _plan(**POST, lr=0.015)),
    "weight decay on gains": ("decayed_gain", EXAMPLE, _plan(decay=5.0, lr=0.01, sgd=False)),
}
HEALTHY: dict[str, tuple[tuple[str, ...], Callable[[Plan], None]]] = {
    "default": ((*BATCH, "transformer"), _plan()),
    "no norm": ((*BATCH, "transformer"), _plan(norm=bare, layers=2)),
    "group": (BATCH, _norm(lambda _: lambda width: nn.GroupNorm(4, width))),
    "layer": (("mlp", "transformer"), _norm(lambda _: nn.LayerNorm)),
    "rms": (("mlp", "transformer"), _norm(lambda _: nn.RMSNorm)),
    "instance": (("cnn", "tcn"), _norm(lambda plan: nn.InstanceNorm2d if plan.kind == "cnn" else nn.InstanceNorm1d)),
    "gelu": (BATCH, _plan(activation=nn.GELU)),
    "batch of 8": (BATCH, _plan(batch=8)),
    "batch of 64": (BATCH, _plan(batch=64)),
    "small decay": ((*BATCH, "transformer"), _plan(decay=0.01)),
    "two batches per step": ((*BATCH, "transformer"), _plan(accumulated=2)),
    "frozen and in eval mode": (BATCH, _change(freeze, thaws=False, steps=40)),
    "normlab's batch": (("cnn", "mlp"), _norm(_ours)),
    "300 steps": ((*BATCH, "transformer"), _plan(steps=300)),
    "Lightning": ((*BATCH, "transformer"), _plan(loop="lightning")),
    "2 processes of 12 examples": (BATCH, _plan(loop="processes", batch=24)),
    "post-norm with warm-up": (("transformer",), _plan(**POST, lr=0.01, warmup=60)),
    "shallow post-norm": (("transformer",), _plan(post=True, sgd=False, lr=0.003)),
    "40 steps": ((*BATCH, "transformer"), _plan(steps=40)),
}


def once(tested: bool, job: tuple[str, str, int]) -> tuple[str, ...]:
    """Causes that the monitor names, in order."""
    return train(partial(planned, tested, job))


def planned(tested: bool, job: tuple[str, str, int]) -> Plan:
    """The plan of a training, with its fault."""
    name, kind, seed = job
    plan = Plan(kind, seed + (1000 if tested else 0), tested)
    (FAULTS[name][2] if name in FAULTS else HEALTHY[name][1])(plan)
    return plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--set", choices=("set", "tested"), default="tested")
    parser.add_argument("--minutes", type=float, default=60.0, help="then stop; the same command resumes from there")
    parser.add_argument("--only", default="", help="part of a name")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "monitor")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    record = arguments.output / f"{arguments.set}.jsonl"
    found = read(record)
    kinds = {name: fault[1] for name, fault in FAULTS.items()} | {name: one[0] for name, one in HEALTHY.items()}
    jobs = [
        (name, kind, seed) for name in kinds if arguments.only in name
        for kind in kinds[name] for seed in range(arguments.seeds)
    ]  # fmt: skip
    jobs = sorted((job for job in jobs if job not in found), key=lambda job: job[2])
    end = monotonic() + 60 * arguments.minutes
    with (
        ProcessPoolExecutor(arguments.jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        record.open("a", encoding="utf-8") as lines,
    ):
        for job, causes in zip(jobs, pool.map(partial(once, arguments.set == "tested"), jobs), strict=True):
            found[job] = causes
            lines.write(json.dumps([*job, list(causes)]) + "\n")
            lines.flush()
            if monotonic() > end:
                pool.shutdown(cancel_futures=True)
                break
    table = "\n".join([*faults(found), "", *healthy(found)])
    (arguments.output / f"{arguments.set}.md").write_text(table + "\n", encoding="utf-8")
    print(table)


def read(record: Path) -> dict[Job, tuple[str, ...]]:
    """The trainings so far; a line that an interruption cut off is left out."""
    found: dict[Job, tuple[str, ...]] = {}
    for line in record.read_text(encoding="utf-8").splitlines() if record.exists() else ():
        try:
            name, kind, seed, causes = json.loads(line)
        except ValueError:
            continue
        found[name, kind, seed] = tuple(causes)
    return found


def faults(found: dict[Job, tuple[str, ...]]) -> Iterator[str]:
    yield "| planted | cause | networks | n | first or second | first | otherwise named first |\n|" + "---|" * 7
    total, hits = 0, 0
    for name, (cause, kinds, _) in FAULTS.items():
        named = [causes for job, causes in found.items() if job[0] == name]
        if not named:
            continue
        hit = sum(cause in causes[:2] for causes in named)
        first = sum(causes[:1] == (cause,) for causes in named)
        others = Counter(causes[0] if causes else "nothing" for causes in named if causes[:1] != (cause,))
        said = ", ".join(f"{other} {count}" for other, count in others.items())
        yield f"| {name} | `{cause}` | {', '.join(kinds)} | {len(named)} | {hit} | {first} | {said} |"
        total, hits = total + len(named), hits + hit
    yield f"\nFirst or second in {hits} of {total} trainings."


def healthy(found: dict[Job, tuple[str, ...]]) -> Iterator[str]:
    yield "| healthy | networks | n | with an alarm | which |\n|" + "---|" * 5
    total, alarms = 0, 0
    for name, (kinds, _) in HEALTHY.items():
        named = [causes for job, causes in found.items() if job[0] == name]
        if not named:
            continue
        said = Counter(cause for causes in named for cause in causes)
        alarmed = sum(bool(causes) for causes in named)
        which = ", ".join(f"{cause} {count}" for cause, count in said.items())
        yield f"| {name} | {', '.join(kinds)} | {len(named)} | {alarmed} | {which} |"
        total, alarms = total + len(named), alarms + alarmed
    yield f"\nAn alarm in {alarms} of {total} healthy trainings."


if __name__ == "__main__":
    main()
