"""NormMonitor changes nothing, names planted faults, and never stops a training."""

from __future__ import annotations

import copy
import io
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import normlab
from normlab.config.errors import InputError
from normlab.diagnoses.diagnose import diagnose
from normlab.diagnoses.observed import Look, Observed, Place, Site, SiteLook
from normlab.monitor.callback import NormMonitor
from normlab.monitor.numbers import padded_share
from normlab.monitor.schedule import Schedule
from slowly import some

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "simulate"))
from monitored import FAULTS, HEALTHY, once


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Dropout(0.2),
        nn.Flatten(), nn.Linear(8 * 36, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4),
    )  # fmt: skip


def trained(monitor: NormMonitor | None, steps: int = 10) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    net = small()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    if monitor is not None:
        monitor.watch(net, optimizer)
    for _ in range(steps):
        x, y = torch.randn(16, 3, 8, 8), torch.randint(0, 4, (16,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net, torch.randn(3)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_loop_is_bit_identical_with_and_without_it():
    monitor = NormMonitor(every=1, budget=1.0, say=lambda _: None)  # a look in every step
    watched, drawn = trained(monitor)
    plain, otherwise = trained(None)
    assert len(monitor.report().seen.looks) == 10
    assert same(watched, plain)
    assert torch.equal(drawn, otherwise)
    monitor.close()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in watched.modules())


class Lit(pl.LightningModule):
    def __init__(self, leaks: bool = False) -> None:
        super().__init__()
        self.net, self.leaks = small(), leaks

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, number):
        self.net(batch[0])
        if self.leaks and number > 0:
            self.net[1].train()(torch.ones(4, 8, 2, 2))
            self.net[1].eval()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def fitted(*callbacks: pl.Callback, leaks: bool = False) -> Lit:
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(48, 3, 8, 8), torch.randint(0, 4, (48,)))
    lit = Lit(leaks)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", enable_model_summary=False, callbacks=list(callbacks), **quiet
    )
    trainer.fit(lit, DataLoader(data, 16, shuffle=True), DataLoader(data, 24))
    return lit


def test_lightning_is_bit_identical_with_and_without_it():
    monitor = NormMonitor(every=1, budget=1.0, say=lambda _: None)
    assert same(fitted(monitor), fitted())
    assert len(monitor.report().seen.looks) == 6
    assert monitor.report().seen.evaluations == 3  # with Lightning's sanity check
    assert monitor.report().causes == ()


def test_statistics_that_validation_changes_are_named_at_once_and_at_the_end():
    said: list[str] = []
    monitor = NormMonitor(say=said.append)
    fitted(monitor, leaks=True)
    assert monitor.report().causes[0] == "statistics_from_evaluation"
    assert len(said) == 2
    assert all("statistics_from_evaluation at net.1" in text for text in said)


def test_an_error_inside_it_is_said_once_and_training_continues(monkeypatch: pytest.MonkeyPatch):
    def broken(*_, **__):
        raise RuntimeError("planted")

    monkeypatch.setattr("normlab.monitor.look.before", broken)
    said: list[str] = []
    watched, _ = trained(NormMonitor(say=said.append))
    assert len(said) == 1
    assert "training continues: RuntimeError: planted" in said[0]
    assert same(watched, trained(None)[0])


def test_copies_and_stored_networks_are_not_watched():
    net = small()
    monitor = NormMonitor(say=lambda _: None).watch(net)
    stored = io.BytesIO()
    torch.save(net, stored)
    stored.seek(0)
    for other in (copy.deepcopy(net), torch.load(stored, weights_only=False)):
        with torch.no_grad():
            other(torch.randn(4, 3, 8, 8))
    assert monitor.report().seen.evaluations == 0
    with torch.no_grad():
        net(torch.randn(4, 3, 8, 8))
    assert monitor.report().causes == ("training_mode_at_evaluation",)


def test_a_network_without_norms_is_said_once():
    said: list[str] = []
    net = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 2))
    monitor = NormMonitor(say=said.append).watch(net)
    for _ in range(3):
        net(torch.randn(8, 4)).sum().backward()
    assert "0 norms" in str(monitor.report())
    assert len(said) == 1
    assert "no norms" in said[0]


def test_a_loop_that_never_calls_the_network_is_said():
    said: list[str] = []
    monitor = NormMonitor(say=said.append).watch(small())
    assert monitor.report().causes == ()
    assert "no training step" in said[0]


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="at least 1"):
        NormMonitor(every=0)
    with pytest.raises(InputError, match="from 0 to 1"):
        NormMonitor(budget=3)
    with pytest.raises(InputError, match=r"takes a torch\.nn\.Module"):
        NormMonitor().watch(torch.optim.SGD)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="watched nothing"):
        NormMonitor().report()


@pytest.mark.parametrize("name", some(FAULTS, every=7))
def test_a_planted_fault_is_named_first_or_second(name: str):
    cause, kinds, _ = FAULTS[name]
    assert cause in once(True, (name, kinds[-1], 50))[:2]


@pytest.mark.parametrize("name", some(HEALTHY, every=8))
def test_nothing_is_said_of_a_healthy_training(name: str):
    assert once(True, (name, HEALTHY[name][0][0], 50)) == ()


def looks(**values) -> list[Look]:
    numbers = {"path": "n", "training": True, "dtype": "float32", "examples": 32, "values": 32, "variance": 1.0}
    return [Look(step, (SiteLook(**(numbers | values)),)) for step in range(1, 41)]


def test_diagnoses_are_sorted_by_harm():
    seen = Observed({"n": Site("n", "BatchNorm1d", "batch", cancels="l")}, looks(examples=2, absolute=0.0), steps=40)
    assert [one.severity.name for one in diagnose(seen)] == ["SEVERE", "SEVERE", "NOTE"]


@pytest.mark.parametrize(("examples", "causes"), [(2, ["few_examples"]), (4, ["few_examples"]), (5, [])])
def test_few_examples_are_four_or_less(examples: int, causes: list[str]):
    seen = Observed({"n": Site("n", "BatchNorm1d", "batch")}, looks(examples=examples), steps=40)
    assert [one.cause for one in diagnose(seen)] == causes


def test_statistics_are_stale_where_the_shift_is_the_same_in_all_looks():
    for sign, causes in (((1, 1), ["stale_statistics"]), ((1, -1), [])):
        found = [
            Look(look.step, tuple(SiteLook(**(vars(s) | {"shift": (0.8 * sign[look.step % 2],)})) for s in look.sites))
            for look in looks(log_ratio=(0.0,), chance=0.14)
        ]  # fmt: skip
        seen = Observed({"n": Site("n", "BatchNorm1d", "batch", momentum=0.1, tracked=True)}, found, steps=40)
        assert [one.cause for one in diagnose(seen)] == causes


@pytest.mark.parametrize(("first", "late", "severities"), [(10, 1, ["WARNING"]), (10, 10, ["SEVERE"]), (2, 1, [])])
def test_activations_that_grow_at_the_first_step_only_are_named_too(first: int, late: int, severities: list[str]):
    def look(step: int, growth: int) -> Look:
        return Look(step, (), tuple(Place(str(layer), float(growth**layer), 1.0) for layer in range(6)))

    seen = Observed({}, [look(1, first), *(look(step, late) for step in range(20, 40))], steps=40)
    assert [(one.cause, one.severity.name) for one in diagnose(seen)] == [
        ("exploding_activation", severity) for severity in severities
    ]


@pytest.mark.parametrize(
    ("gradient", "varied", "rate", "causes"),
    [
        (1.0, 0.9, 0.1, []),
        (0.03, 0.9, 0.1, []),
        (1.0, 0.02, 0.1, []),  # as in pretrained Transformers, which learn
        (0.03, 0.02, 0.1, ["collapsed_training"]),
        (1e-5, 0.9, 0.1, ["collapsed_training"]),  # not vanishing_gradient: at first it arrived
        (0.03, 0.02, 0.001, ["collapsed_training"]),
    ],
)
def test_a_training_collapses_where_gradients_stop_arriving(
    gradient: float, varied: float, rate: float, causes: list[str]
):
    def look(step: int, gradient: float, varied: float, rate: float) -> Look:
        site = SiteLook("n", True, "float32", 32, 32, 1.0, absolute=1.0, varied=varied)
        return Look(step, (site,), tuple(Place(str(i), 1.0, gradient if i < 2 else 1.0) for i in range(6)), rate=rate)

    found = [look(1, 1.0, 0.9, rate), *(look(step, gradient, varied, 0.1) for step in range(20, 40))]
    diagnoses = diagnose(Observed({"n": Site("n", "LayerNorm", "layer")}, found, steps=40))
    assert [one.cause for one in diagnoses] == causes
    assert all(("no warm-up" in one.says) == (rate == 0.1) for one in diagnoses)
    assert all(("alike" in one.says) == (varied < 0.1) for one in diagnoses)


@pytest.mark.parametrize("steps", [1, 30])
def test_the_learning_rate_is_read_in_each_look(steps: int):
    net = small()
    optimizer = torch.optim.SGD([{"params": net[0].parameters(), "lr": 0.01}, {"params": net[8].parameters()}], lr=0.1)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / steps, total_iters=steps)
    monitor = NormMonitor().watch(net, optimizer)
    for _ in range(8):
        net(torch.randn(16, 3, 8, 8)).sum().backward()
        optimizer.step()
        warm_up.step()
    rates = [look.rate for look in monitor.report().seen.looks]
    assert rates[0] == pytest.approx(0.1 / steps)
    assert rates[-1] > rates[0] if steps > 1 else rates[-1] == pytest.approx(0.1)


class ChannelsFirst(nn.LayerNorm):
    """As in ConvNeXt: it moves the channels to the end by itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


@pytest.mark.parametrize(("norm", "causes"), [(ChannelsFirst(8), []), (nn.LayerNorm(8), ["wrong_axis"])])
def test_a_layer_norm_that_moves_its_axes_itself_is_not_over_the_wrong_ones(norm: nn.Module, causes: list[str]):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), norm, nn.ReLU(), nn.Flatten(), nn.Linear(512, 2))
    monitor = NormMonitor().watch(net)
    for _ in range(4):
        nn.functional.cross_entropy(net(torch.randn(8, 3, 8, 8)), torch.randint(0, 2, (8,))).backward()
        with torch.no_grad():
            for value in net.parameters():
                value -= 0.01 * value.grad
    assert [one.cause for one in monitor.report().diagnoses if one.cause == "wrong_axis"] == causes


def test_padding_is_counted_where_positions_repeat_in_several_examples():
    x = torch.randn(4, 10, 3, generator=torch.Generator().manual_seed(0))
    assert padded_share(x) == 0
    x[:, 6:] = 0.5
    assert padded_share(x) == pytest.approx(3 / 9)
    assert padded_share(torch.ones(4, 10, 3)) == 0


def looked(schedule: Schedule, steps: int) -> tuple[list[int], list[int]]:
    """Steps of looks, and of whole ones."""
    due = [(step, schedule.whole(step)) for step in range(1, steps + 1) if schedule.due(step)]
    return [step for step, _ in due], [step for step, whole in due if whole]


def test_the_schedule_looks_often_at_first_and_then_within_its_budget():
    steps, whole = looked(Schedule(every=1, budget=0.0), 1000)
    assert steps[:5] == list(range(1, 6))
    assert len(steps) < 35
    for end in range(2, 1001):  # wherever a training ends, its second half was seen
        assert sum(end / 2 <= step <= end for step in steps) >= (3 if end > 40 else 2)
        assert sum(end / 2 <= step <= end for step in whole) >= 1
    dear = Schedule(every=1, budget=0.02)
    dear.spent = 1.0  # of a second that has hardly begun
    assert looked(dear, 1000) == (steps, whole)
    assert len(whole) <= 12
    assert sum(dear.due_in_evaluation(number) for number in range(1, 1001)) == 8


def test_the_report_is_a_table_and_a_dictionary():
    monitor = NormMonitor(say=lambda _: None)
    trained(monitor)
    found = monitor.report().to_dict()
    assert found["steps"] == 10
    assert "BatchNorm2d" in str(monitor.report())
    assert normlab.NormMonitor is NormMonitor
