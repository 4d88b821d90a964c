"""Threads and other conditions that decide a result's bits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from run_folders import config_of

from normlab.host.cores import usable_cores
from normlab.models.base import Model, facts_of
from normlab.norms.layer import LayerNorm
from normlab.norms.rms import RMSNorm
from normlab.runs.identity import science
from normlab.session.conditions import change, conditions

TRAIN = """
import sys
sys.path.insert(0, {unit!r})
from run_folders import config_of
from normlab.session.devices import set_up
import torch
set_up(config_of("model=mlp", "trainer.threads=2", "cache={cache}"))
print(torch.get_num_threads())
"""


@pytest.mark.slow
@pytest.mark.skipif(usable_cores() < 2, reason="two threads need two cores")
@pytest.mark.parametrize("threads", ["1", "3"])
def test_omp_num_threads_changes_nothing(threads, cache):
    code = TRAIN.format(unit=str(Path(__file__).parent), cache=cache)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2"]


def test_an_identity_counts_the_cores_that_may_be_used(monkeypatch):
    config = config_of("model=mlp")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert science(config)["trainer"]["threads"] == config.threads == usable_cores() <= 3


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "nonsense"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({}, 8),
    ],
)
def test_the_quota_of_a_container_counts(tmp_path, monkeypatch, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    (tmp_path / "cpu").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert usable_cores(tmp_path) == cores


class Plain(Model):
    kernel = None

    def forward(self, inputs, mask=None):
        return inputs

    def facts(self):
        return {"kernel": self.kernel} if self.kernel else {}


def test_conditions_name_what_changed():
    model = Plain()
    now = conditions(model, torch.device("cpu"))
    assert "kernel" not in now
    assert change(now, now) == ""
    model.kernel = "fused"
    fused = conditions(model, torch.device("cpu"))
    assert change(now, fused) == "kernel none → fused"
    assert change(fused, {**fused, "kernel": "plain", "vectors": "NEON"}).endswith("kernel fused → plain")


def test_conditions_name_the_kernel_of_the_norms():
    model = Plain()
    model.norm = RMSNorm(4, "BC")
    compiled = conditions(model, torch.device("cpu"))
    model.norm.kernel = "plain"
    plain = conditions(model, torch.device("cpu"))
    assert change(compiled, plain) == "norm_kernel compiled → plain"
    assert facts_of(model) == {"norm_kernel": "plain"}
    model.norm = LayerNorm(4, "BC")  # which is PyTorch's own
    assert facts_of(model) == {}
