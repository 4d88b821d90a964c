"""normlab bench norms: paired ratios, and the table."""

import dataclasses

import pytest

from normlab.bench import norms
from normlab.bench.paired import Effort, ratio
from normlab.commands import bench
from normlab.config.errors import InputError


def test_a_ratio_is_the_median_of_pairs() -> None:
    """By a clock of its own, which each call moves; one disturbed block changes nothing."""
    now = [0.0]
    disturbed = iter([*[0.0] * 40, 1000.0, *[0.0] * 1000])

    def takes(seconds: float):
        def call() -> None:
            now[0] += seconds + next(disturbed)

        return call

    assert ratio(takes(3.0), takes(2.0), Effort(9, 4.0, lambda: now[0])) == pytest.approx(1.5)


@pytest.mark.parametrize("passed", ["training", "evaluation"])
@pytest.mark.parametrize("arm", norms.ARMS, ids=lambda arm: arm.name)
def test_every_arm_can_be_timed_and_computes_the_same_shape(arm, passed) -> None:
    for layout in arm.layouts:
        assert norms.compared(arm, layout, 2, passed, Effort(1, 1e-6)) > 0


def test_the_table_fits_a_terminal_and_marks_what_is_slow(monkeypatch, capsys) -> None:
    monkeypatch.setattr(norms, "compared", lambda arm, *_: 10.25 if arm.name == "dyt" else 0.5)
    bench.main(["norms", "--threads", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert next(line for line in lines if line.startswith("rms")).split()[1:] == ["1.00", *["0.50"] * 12]
    assert next(line for line in lines if line.startswith("dyt")).count("*") == 12
    assert lines[-1].startswith("* dyt: alpha has a gradient too")


def test_the_names_of_arms_fit_their_column() -> None:
    assert all(len(arm.name) < 13 for arm in norms.ARMS)
    assert len({dataclasses.astuple(arm)[0] for arm in norms.ARMS}) == len(norms.ARMS)


def test_no_thread_is_refused() -> None:
    with pytest.raises(InputError, match="at least one thread"):
        bench.main(["norms", "--threads", "0"])
