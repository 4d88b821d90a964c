"""Batch norm with `sync` in two processes equals one process with the whole batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from norm_sites import SITES, Site, build
from normlab.norms.precise import refresh_statistics

BC, BCHW, BTC, RECURRENT, _ = SITES
EXACT = {"rtol": 1e-12, "atol": 1e-12}


@dataclass(frozen=True)
class Case:
    """A batch shared out among two processes.

    shares   examples of each process
    mask     whether some entries are padding
    lengths  time steps that each process sees; what lies beyond is padding
    steps    one call a time step
    """

    name: str
    site: Site
    shares: tuple[int, int]
    mask: bool = False
    lengths: tuple[int, int] | None = None
    steps: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    norm: str = "batch"

    def batch(self, seed: int) -> tuple[Tensor, Tensor | None]:
        mask = self.site.mask(seed) if self.mask else None
        if self.lengths is not None:
            first, second = (torch.arange(self.site.shape[1]) < length for length in self.lengths)
            seen = torch.stack([first] * self.shares[0] + [second] * self.shares[1])
            mask = seen if mask is None else mask & seen
        return self.site.input(seed), mask

    def share(self, rank: int, values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        own = values.split(self.shares)[rank]
        return own if self.lengths is None else own[:, : self.lengths[rank]]


POSITIONS = {"pool": "positions"}
CASES = [
    Case("equal", BC, (3, 3)),
    Case("unequal", BC, (1, 5)),
    Case("masked", BC, (2, 4), mask=True),
    Case("images", BCHW, (1, 3)),
    Case("averaged", BCHW, (2, 2), options={"momentum": None}),
    Case("tokens", BTC, (2, 2)),
    Case("tokens_unequal", BTC, (1, 3), mask=True, lengths=(5, 3)),
    Case("one_side_without_mask", BTC, (2, 2), lengths=(5, 4)),
    Case("positions", BTC, (1, 3), mask=True, lengths=(3, 5), options=POSITIONS),
    Case("recurrent", RECURRENT, (1, 3), mask=True, lengths=(5, 2)),
    Case("beyond_positions", Site("longer", "BC", (4, 8, 16), positions=5), (1, 3), mask=True, lengths=(8, 4)),
    Case("recurrent_steps", RECURRENT, (1, 3), mask=True, steps=True),
    Case("renorm", BTC, (1, 3), mask=True, options={"warmup": 0, "r_max": 1.2, "d_steps": 1}, norm="batch_renorm"),
    Case("frozen", BC, (1, 5), options={"after": 1}, norm="frozen_batch"),
    Case("regularized", BTC, (1, 3), mask=True, norm="regularized_batch"),
    Case("evo", BCHW, (1, 3), mask=True, norm="evo_b"),
    Case("switchable", BCHW, (1, 3), norm="switchable"),
]


def run(case: Case, norm, x: Tensor, mask: Tensor | None) -> Tensor:
    if not case.steps:
        return norm(x, mask)
    return torch.stack([norm(x[:, t], None if mask is None else mask[:, t], t) for t in range(x.shape[1])], 1)


def results(case: Case, rank: int | None) -> dict[str, Tensor]:
    """Two training steps, of one process's share or (rank None) of the whole batch."""
    norm = build(case.norm, case.site, sync=True, **case.options)
    found: dict[str, Tensor] = {}
    for step in range(2):
        x, mask = case.batch(step)
        weight = case.site.input(9)
        if rank is not None:
            x, mask, weight = (case.share(rank, values) for values in (x, mask, weight))
            if mask is not None and mask.all():
                mask = None
        x = x.clone().requires_grad_()
        y = run(case, norm, x, mask)
        (y * weight).sum().backward()
        found |= {f"y{step}": y.detach(), f"dx{step}": x.grad}
    found |= {f"d{name}": parameter.grad for name, parameter in norm.named_parameters()}
    return found | {name: buffer.clone() for name, buffer in norm.named_buffers()}


def refreshed(rank: int | None) -> Tensor:
    """Precise statistics over all processes, which need no sync in training."""
    norm = build("batch", BC, evaluation="precise").eval()
    with refresh_statistics(norm):
        for seed in range(3):
            norm(BC.input(seed) if rank is None else BC.input(seed).split((1, 5))[rank])
    return torch.cat([norm.running_mean, norm.running_var])


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {case.name: results(case, rank) for case in CASES}
    torch.save(found | {"precise": refreshed(rank)}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("sync")
    mp.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_two_processes_equal_one(case: Case, processes: list[dict[str, Any]]) -> None:
    whole = results(case, None)
    for key, value in whole.items():
        for rank, shares in enumerate(processes):
            own = shares[case.name][key]
            if key[0] == "y" or key.startswith("dx"):
                torch.testing.assert_close(own, case.share(rank, value), **EXACT)
            elif not key.startswith("d"):
                torch.testing.assert_close(own, value, **EXACT)
        if key in ("dgain", "dbias"):
            total = sum(shares[case.name][key] for shares in processes)
            torch.testing.assert_close(total, value, **EXACT)


def test_precise_statistics_are_those_of_all_processes(processes: list[dict[str, Any]]) -> None:
    for shares in processes:
        torch.testing.assert_close(shares["precise"], refreshed(None), **EXACT)
