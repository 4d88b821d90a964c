"""Blocks of what is timed alternate, and what is made of their times holds against a busy machine. By a false clock."""

import gc

import pytest

from normlab.timing.blocks import WARM_UP, compared, interleaved, ratio, rows


class Machine:
    """A clock that moves only when something is done, and a list of what was."""

    def __init__(self) -> None:
        self.now = 0.0
        self.done: list[tuple[str, int]] = []

    def part(self, name: str, seconds: float):
        def run(i: int) -> None:
            self.now += seconds
            self.done.append((name, i))

        return run

    def clock(self) -> float:
        return self.now


def timed(machine: Machine, seed: int = 0, **options):
    arms = {"": [machine.part("forward", 2.0), machine.part("backward", 3.0)], "_against": [machine.part("whole", 4.0)]}
    return interleaved(arms, **{"steps": 3, "blocks": 5, "clock": machine.clock, "seed": seed, **options})


def test_seconds_a_step_of_each_part():
    assert timed(Machine()) == {"": [[2.0, 3.0]] * 5, "_against": [[4.0]] * 5}


def test_every_round_has_a_block_of_each_in_random_order():
    machine = Machine()
    timed(machine, blocks=30)
    firsts = [name for name, i in machine.done if i == 0 and name != "backward"]
    rounds = [firsts[i : i + 2] for i in range(0, len(firsts), 2)]
    assert len(rounds) == WARM_UP + 30
    assert all(sorted(names) == ["forward", "whole"] for names in rounds)
    assert {names[0] for names in rounds} == {"forward", "whole"}


def test_a_block_is_all_steps_of_one():
    machine = Machine()
    timed(machine)
    own = [("forward", 0), ("backward", 0), ("forward", 1), ("backward", 1), ("forward", 2), ("backward", 2)]
    other = [("whole", 0), ("whole", 1), ("whole", 2)]
    start = own if machine.done[0] == ("forward", 0) else other
    assert machine.done[: len(start)] == start
    assert machine.done[len(start) : 9] == (other if start == own else own)


@pytest.mark.slow
def test_the_order_follows_from_the_seed():
    one, same, other = Machine(), Machine(), Machine()
    for machine, seed in ((one, 0), (same, 0), (other, 1)):
        timed(machine, seed, blocks=30)
    assert one.done == same.done
    assert one.done != other.done


def test_what_a_device_has_yet_to_do_belongs_to_the_block():
    machine = Machine()

    def settle() -> None:
        machine.now += 6.0

    assert timed(machine, settle=settle)["_against"] == [[4.0 + 2.0]] * 5


def test_garbage_is_not_collected_meanwhile():
    seen = []
    interleaved({"": [lambda i: seen.append(gc.isenabled())]}, steps=1, blocks=3, seed=0)
    assert seen == [False] * (WARM_UP + 3)
    assert gc.isenabled()


def test_the_ratio_is_the_median_within_rounds():
    times = {"": [[1.0], [2.0], [30.0], [2.0], [9.0]], "_against": [[2.0], [4.0], [60.0], [40.0], [6.0]]}
    assert ratio(times[""], times["_against"]) == 0.5
    assert compared(times, "step") == {
        "step_ms": 2000.0,
        "step_ms_against": 6000.0,
        "step_ms_min": 1000.0,
        "step_ms_min_against": 2000.0,
        "step_ratio": 0.5,
    }


def test_a_norm_alone_has_no_ratio():
    assert compared({"": [[0.5, 0.25]]}, "site") == {"site_ms": 750.0, "site_ms_min": 750.0}


def test_rows_are_rounds():
    times = {"": [[0.001, 0.002], [0.004, 0.0]], "_against": [[0.005], [0.006]]}
    first, second = rows(times, "step")
    assert first == {"block/step_ms": pytest.approx(3), "block/step_ms_against": pytest.approx(5)}
    assert second == {"block/step_ms": pytest.approx(4), "block/step_ms_against": pytest.approx(6)}
