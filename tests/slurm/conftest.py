"""A cluster for the session, where SLURM is installed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cluster import Cluster, missing

from commands import Command


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    if absent := missing():
        pytest.skip(
            f"no {', '.join(absent)} here: apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"
        )
    with Cluster(tmp_path_factory.mktemp("slurm")) as started:
        yield started


@pytest.fixture
def sweep(cluster) -> Callable[..., Command]:
    """`sweep("seed=0,1", …)` is `python train.py -m launcher=slurm seed=0,1 …`, started."""

    def start(*arguments: str) -> Command:
        return Command(["-m", "launcher=slurm", "hydra.launcher.mem_gb=1", *arguments], cluster.environment)

    return start
