"""Two processes on this machine against one."""

import multiprocessing

import pytest
import torch

from norm_sites import config
from normlab.config.schema import Sizes
from normlab.measures.sync_equivalence import differences, in_two_processes
from normlab.session.shares import SharedBatch, solve


def problem() -> SharedBatch:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(8, 1, 4, 4, generator=generator, dtype=torch.float64)
    cotangent = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    norm = {name: value for name, value in config("batch").items() if name != "sync"}
    node = {"_target_": "normlab.models.mlp.MLP", "width": 8, "depth": 2}
    return SharedBatch(norm, node, Sizes("images", (1, 4, 4), outputs=3), 0, inputs, None, cotangent)


def test_a_share_is_a_part_of_the_batch():
    whole = problem()
    share = whole.share(2, 8)
    assert torch.equal(share.inputs, whole.inputs[2:])
    assert torch.equal(share.cotangent, whole.cotangent[2:])
    # layer norm's examples don't depend on each other: gradients of shares add up as they are
    whole = SharedBatch({"_target_": "normlab.norms.layer.LayerNorm"}, *list(vars(whole).values())[1:])
    parts = [_without_sync(part).gradients for part in (whole.share(0, 2), whole.share(2, 8))]
    for name, gradient in _without_sync(whole).gradients.items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], gradient)


def _without_sync(part: SharedBatch):
    return solve(part, sync=None)


@pytest.mark.slow
def test_synchronised_processes_equal_one_and_others_do_not():
    found = differences(problem())
    for name in ("gradient", "output", "statistics"):
        assert found[f"{name}_difference"] < 1e-12
        assert found[f"{name}_difference_unsynced"] > 1e-2


@pytest.mark.slow
def test_a_process_that_fails_ends_the_other():
    with pytest.raises(RuntimeError, match="exit codes"):
        in_two_processes(problem(), {"first": (8, True)})  # nothing is left for the second
    assert multiprocessing.active_children() == []
