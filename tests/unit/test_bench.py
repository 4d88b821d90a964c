"""normlab bench norms: paired ratios, and the table."""

import dataclasses
from datetime import date

import pytest

from normlab.bench import costs, family, norms
from normlab.bench.family import ratios
from normlab.bench.paired import Effort, ratio
from normlab.commands import bench
from normlab.commands.norms import names, signature_of
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
    with pytest.raises(InputError, match="costs are measured on one thread"):
        bench.main(["costs", "--threads", "1"])


@pytest.mark.parametrize("name", ["frozen_batch", "frn", "group"])
def test_a_norm_is_timed_where_it_is_valid(name) -> None:
    found = dict(ratios(name, Effort(1, 1e-6)))
    assert [*found] == (["BCHW"] if name == "frn" else ["BC", "BTC", "BCHW"])
    assert min(found.values()) > 0


def test_a_schedule_does_not_end_while_it_is_timed(monkeypatch) -> None:
    """A frozen batch norm would cost less from then on."""
    seen = []
    monkeypatch.setattr(family, "compared", lambda arm, layout, *_: seen.append(arm.ours(layout).after) or 1.0)
    list(ratios("frozen_batch", Effort(1, 1e-6)))
    assert min(seen) > 1e6


def test_costs_are_printed_as_the_table_that_is_read(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setattr(family, "compared", lambda arm, layout, *_: len(arm.name) + len(layout) / 10)
    bench.main(["costs", "--quick"])
    (tmp_path / "costs.csv").write_text(capsys.readouterr().out)
    monkeypatch.setattr(costs, "TABLE", tmp_path / "costs.csv")
    costs.costs.cache_clear()
    try:
        found = {(row.norm, row.layout): row.times_layer_norm for row in costs.costs()}
        assert found["rms", "BC"] == 3.2
        assert {name for name, _ in found} == set(names())
    finally:
        costs.costs.cache_clear()


def test_the_committed_costs_are_of_norms_and_layouts_that_there_are() -> None:
    rows = costs.costs()
    assert len({(row.norm, row.layout) for row in rows}) == len(rows)
    for row in rows:
        assert row.norm in names()
        assert row.layout in signature_of(row.norm).constants.get("layouts", norms.LAYOUTS)
        assert row.times_layer_norm > 0
        assert row.processor and row.torch and date.fromisoformat(row.date)  # noqa: PT018
    own = [row.times_layer_norm for row in rows if row.norm == "layer"]
    assert all(0.8 < ratio < 1.3 for ratio in own), "layer norm beside itself: the machine was too busy"
